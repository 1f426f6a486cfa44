"""From an operator to numbers: eigenpairs, density, trace, diagonal and criteria, each with its error and cost."""

from __future__ import annotations

from lla_func.spectrum import _criteria as criteria
from lla_func.spectrum import _krylov as krylov
from lla_func.spectrum._analysis import Analysis, Criteria, analyse, room_for
from lla_func.spectrum._density import Curve, Density, LogDensity, density, log_density, smooth
from lla_func.spectrum._diagonal import Diagonal, diagonal, frobenius
from lla_func.spectrum._eigenpairs import Eigenpairs, deflate, eigenpairs
from lla_func.spectrum._estimate import Estimate, standard_error
from lla_func.spectrum._krylov import inner
from lla_func.spectrum._operator import Operator, from_matrix
from lla_func.spectrum._over_data import OverData, over_data
from lla_func.spectrum._probes import probes
from lla_func.spectrum._quadrature import Quadrature, quadrature
from lla_func.spectrum._trace import trace

__all__ = [
    "Analysis",
    "Criteria",
    "Curve",
    "Density",
    "Diagonal",
    "Eigenpairs",
    "Estimate",
    "LogDensity",
    "Operator",
    "OverData",
    "Quadrature",
    "analyse",
    "criteria",
    "deflate",
    "density",
    "diagonal",
    "eigenpairs",
    "frobenius",
    "from_matrix",
    "inner",
    "krylov",
    "log_density",
    "over_data",
    "probes",
    "quadrature",
    "room_for",
    "smooth",
    "standard_error",
    "trace",
]
