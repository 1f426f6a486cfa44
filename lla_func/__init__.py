"""Loss landscapes and Hessian spectra of neural networks, as pure functions of a flat parameter vector.

Two questions about a trained network, asked of the same point in weight space: :func:`viz_lla` shows what the loss
looks like around it, :func:`viz_esd` what its Hessian looks like there. Underneath lie an :class:`Objective` (a loss as
a function of theta [P]), a :class:`Layout` (how parameters lie in theta), :mod:`directions`, a :mod:`chart` through
weight space and :func:`evaluate`; and :mod:`products` of an :class:`Operator` with vectors, :mod:`krylov`,
:mod:`spectrum` and :mod:`criteria`. Models, optimisers and data loaders enter through the package ``bridges``.
"""

from lla_func import chart, criteria, directions, krylov, plots, products, spectrum, store
from lla_func.analysis import Analysis, analyse
from lla_func.facades import Curvature, LandscapeResult, SpectrumResult, viz_esd, viz_lla
from lla_func.grid import EngineFallbackWarning, Landscape, evaluate
from lla_func.layerwise import layerwise
from lla_func.layout import Layout
from lla_func.objective import Objective, from_loss, risk
from lla_func.operators import Operator

__all__ = [
    "Analysis",
    "Curvature",
    "EngineFallbackWarning",
    "Landscape",
    "LandscapeResult",
    "Layout",
    "Objective",
    "Operator",
    "SpectrumResult",
    "analyse",
    "chart",
    "criteria",
    "directions",
    "evaluate",
    "from_loss",
    "krylov",
    "layerwise",
    "plots",
    "products",
    "risk",
    "spectrum",
    "store",
    "viz_esd",
    "viz_lla",
]
