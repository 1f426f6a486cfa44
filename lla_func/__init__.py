"""Loss landscapes and Hessian spectra of neural networks, as pure functions of a flat parameter vector.

Two questions about a trained network, asked of the same point in weight space: :func:`viz_lla` shows what the loss
looks like around it, :func:`viz_esd` what its Hessian looks like there. Underneath lie an :class:`Objective` (a loss as
a function of theta [P]), a :class:`Layout` (how parameters lie in theta), :mod:`directions`, a :mod:`chart` through
weight space and :func:`evaluate`; and :mod:`products` of an :class:`Operator` with vectors, :mod:`krylov`,
:mod:`spectrum` and :mod:`criteria`. Models, optimizers and data loaders enter through the package ``bridges``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lla_func import hessian as products
    from lla_func import plots as plots
    from lla_func import spectrum as spectrum
    from lla_func.assessment import Topology, topology
    from lla_func.connectivity import Curve
    from lla_func.facades import (
        LandscapeResult,
        PathResult,
        SpectrumResult,
        TrajectoryResult,
        connect,
        load,
        sharpness,
        viz_esd,
        viz_lla,
        viz_path,
    )
    from lla_func.geometry import Trajectory, chart, directions
    from lla_func.hessian import layerwise
    from lla_func.landscape import (
        Curvature,
        EngineFallbackWarning,
        Landscape,
        barrier,
        evaluate,
        store,
        variation,
    )
    from lla_func.objective import Layout, Objective, from_loss, risk
    from lla_func.spectrum import Analysis, Operator, analyse, criteria, krylov

    __version__: str

__all__ = [
    "Analysis",
    "Curvature",
    "Curve",
    "EngineFallbackWarning",
    "Landscape",
    "LandscapeResult",
    "Layout",
    "Objective",
    "Operator",
    "PathResult",
    "SpectrumResult",
    "Topology",
    "Trajectory",
    "TrajectoryResult",
    "analyse",
    "barrier",
    "chart",
    "connect",
    "criteria",
    "directions",
    "evaluate",
    "from_loss",
    "krylov",
    "layerwise",
    "load",
    "plots",
    "products",
    "risk",
    "sharpness",
    "spectrum",
    "store",
    "topology",
    "variation",
    "viz_esd",
    "viz_lla",
    "viz_path",
]

_ROOMS = {
    "assessment": ("Topology", "topology"),
    "connectivity": ("Curve",),
    "facades": (
        "LandscapeResult",
        "PathResult",
        "SpectrumResult",
        "TrajectoryResult",
        "connect",
        "load",
        "sharpness",
        "viz_esd",
        "viz_lla",
        "viz_path",
    ),
    "geometry": ("Trajectory", "chart", "directions"),
    "hessian": ("layerwise",),
    "landscape": (
        "Curvature",
        "EngineFallbackWarning",
        "Landscape",
        "barrier",
        "evaluate",
        "store",
        "variation",
    ),
    "objective": ("Layout", "Objective", "from_loss", "risk"),
    "spectrum": ("Analysis", "Operator", "analyse", "criteria", "krylov"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}


def __getattr__(name: str) -> Any:
    """Imports what is asked for on first use (PEP 562), so that the command's help needs no torch."""
    if name in _HOME:
        return getattr(import_module(f"lla_func.{_HOME[name]}"), name)
    if name in ("plots", "spectrum"):
        return import_module(f"lla_func.{name}")
    if name == "products":
        return import_module("lla_func.hessian")
    if name == "__version__":
        from importlib.metadata import version

        return version("lla-func")
    raise AttributeError(f"module 'lla_func' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
