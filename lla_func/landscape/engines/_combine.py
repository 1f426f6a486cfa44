"""Affine values at points: f_0 + sum_k c_k f_k, formed in storage allocated once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Combination:
    """One affine value, at one point after another.

    Partial sums are kept for the coefficients that have not changed since the last point: along a row of a grid, where
    only the last one moves, a point costs one pass over memory. The sum is always formed in the same order, so the
    points that came before make no difference to the result.

    Args:
        values: f_0, f_1, ... f_K, of one shape and memory layout.
        keep: whether to keep partial sums, K tensors instead of one.

    Example:
        >>> value = Combination([torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])])
        >>> value.at((2.0, 3.0))
        tensor([2., 3.])
    """

    def __init__(self, values: Sequence[Tensor], *, keep: bool = True) -> None:
        self.values = values
        self.keep = keep
        self.last: Sequence[float] | None = None
        self.storage = [torch.empty_like(values[0]) for _ in (values[1:] if keep else values[1:2])]

    def at(self, coefficients: Sequence[float]) -> Tensor:
        """The value at one point, valid until the next call; the same storage each time."""
        count = len(self.values) - 1
        total = self.values[0]
        changed = self.last is None or not self.keep
        for k in range(count):
            out = self.storage[k if self.keep else 0]
            changed = changed or coefficients[k] != self.last[k]  # type: ignore[index]
            if changed:
                torch.add(total, self.values[k + 1], alpha=coefficients[k], out=out)
            total = out
        self.last = coefficients
        return total


def stacked(values: Sequence[Tensor]) -> Tensor:
    """f_0, f_1, ... f_K as the rows of a matrix, [K + 1, elements], for :func:`combine_block`."""
    return torch.stack([value.reshape(-1) for value in values])


def combine_block(rows: Tensor, coefficients: Tensor, shape: Sequence[int]) -> Tensor:
    """The value at a block of points by one matrix product.

    Args:
        rows: of :func:`stacked`, [K + 1, elements].
        coefficients: [n, K].
        shape: of the value at one point.

    Returns:
        [n, *shape], in memory of its own.

    Example:
        >>> rows = stacked([torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])])
        >>> combine_block(rows, torch.tensor([[2.0, 3.0]]), (2,))
        tensor([[2., 3.]])
    """
    ones = coefficients.new_ones(len(coefficients), 1)
    return torch.mm(torch.cat([ones, coefficients], 1).to(rows), rows).view(len(coefficients), *shape)
