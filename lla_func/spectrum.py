"""The spectrum of an operator: eigenpairs, trace, density and their relatives, each with its error and its cost."""

from __future__ import annotations

from lla_func.density import Curve, Density, LogDensity, density, log_density, smooth
from lla_func.eigen import Eigenpairs, deflate, eigenpairs
from lla_func.entries import Diagonal, diagonal, frobenius
from lla_func.estimate import Estimate
from lla_func.quadrature import Quadrature, quadrature
from lla_func.trace import trace

__all__ = [
    "Curve",
    "Density",
    "Diagonal",
    "Eigenpairs",
    "Estimate",
    "LogDensity",
    "Quadrature",
    "deflate",
    "density",
    "diagonal",
    "eigenpairs",
    "frobenius",
    "log_density",
    "quadrature",
    "smooth",
    "trace",
]
