"""Operator: a symmetric linear map on R^P, all that linear algebra needs to know of a Hessian."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lla_func.errors import finite_tensor
from lla_func.spectrum._estimate import Estimate

Dot = Callable[[Tensor, Tensor], Tensor]
"""Inner products over the last axis of two tensors of one shape, in float64."""


class Operator(NamedTuple):
    """A symmetric linear map that is known only by its products with vectors.

    Attributes:
        matvec: maps [P] to [P] and a block [B, P] to [B, P], row by row.
        dim: P.
        dtype: the dtype of the vectors that ``matvec`` takes and returns.
        device: their device.
        name: what the map is, for messages and results ("hessian", "ggn", ...).
        inner: inner products, where vectors are shared out among processes, so that ``dim`` is the length of the
            piece that this one holds; by default :func:`lla_func.spectrum.inner`.
        draw: ``draw(seed, kind=...)`` is a random vector [P] (:func:`lla_func.spectrum.probes`), of which the generator
            ``seed`` says the bits; by default all of it is drawn here.
        per_sample: maps a vector v [P] to what each sample contributes to v.Av, [n] float64, whose sum is v.Av and
            whose spread is that over data (:func:`lla_func.spectrum.over_data`). Functions of an operator leave it as
            it is; a map made of another, as by ``deflate``, has none.
        exact_trace: the trace, where a formula gives it without products; None where it turns out that none does.
        nearby: another operator that is close to it, with its trace, so that only the difference has to be sampled.
        choice: how products are computed, where there is a choice (:class:`lla_func.hessian.Choice`).
    """

    matvec: Callable[[Tensor], Tensor]
    dim: int
    dtype: torch.dtype
    device: torch.device
    name: str = "operator"
    inner: Dot | None = None
    draw: Callable[..., Tensor] | None = None
    per_sample: Callable[[Tensor], Tensor] | None = None
    exact_trace: Callable[[], Estimate | None] | None = None
    nearby: Callable[[], tuple[Operator, Estimate] | None] | None = None
    choice: Any = None


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
