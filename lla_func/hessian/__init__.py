"""From an objective to an operator: products with the Hessian, the Gauss-Newton and the Fisher matrix."""

from __future__ import annotations

from lla_func.hessian._choice import Choice
from lla_func.hessian._kernels import KERNELS
from lla_func.hessian._layerwise import layerwise, table
from lla_func.hessian._products import finite_difference, fisher, ggn, hessian
from lla_func.hessian._request import check as check_differentiable
from lla_func.hessian._sharding import is_first, shared

__all__ = [
    "KERNELS",
    "Choice",
    "check_differentiable",
    "finite_difference",
    "fisher",
    "ggn",
    "hessian",
    "is_first",
    "layerwise",
    "shared",
    "table",
]
