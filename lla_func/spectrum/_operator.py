"""Operator: a symmetric linear map on R^P, all that linear algebra needs to know of a Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lla_func.errors import finite_tensor

__all__ = ["Operator", "from_matrix"]


class Operator(NamedTuple):
    """A symmetric linear map that is known only by its products with vectors.

    Attributes:
        matvec: maps [P] to [P] and a block [B, P] to [B, P], row by row.
        dim: P.
        dtype: the dtype of the vectors that ``matvec`` takes and returns.
        device: their device.
        name: what the map is, for messages and results ("hessian", "ggn", ...).
    """

    matvec: Callable[[Tensor], Tensor]
    dim: int
    dtype: torch.dtype
    device: torch.device
    name: str = "operator"


def from_matrix(matrix: Tensor, *, name: str = "matrix") -> Operator:
    """The operator of a dense symmetric matrix [P, P].

    Example:
        >>> operator = from_matrix(torch.diag(torch.tensor([1.0, 2.0, 3.0])))
        >>> operator.matvec(torch.ones(3))
        tensor([1., 2., 3.])
    """
    finite_tensor("matrix", matrix)
    if matrix.numel() == 0 or matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"matrix has shape {list(matrix.shape)}; a square matrix [P, P] is needed")
    if not torch.allclose(matrix, matrix.mT, rtol=1e-4, atol=1e-6 * float(matrix.abs().max())):
        raise ValueError("matrix is not symmetric; pass (matrix + matrix.T) / 2 if that is what you mean")
    return Operator(lambda v: v @ matrix, matrix.shape[0], matrix.dtype, matrix.device, name)
