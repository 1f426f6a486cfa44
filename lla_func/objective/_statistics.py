"""Weighted means over samples and their standard errors, from parts of the data that are merged.

Of each part six numbers are kept: how many samples count, the sums of the weights w and of their squares, the mean of
the values x weighted by w and that weighted by w^2, and the sum of w^2 (x - the latter)^2. Deviations are taken from a
mean of the same part and means are combined as means, never as differences of sums of squares, so that losses of 1e8
with a spread of 1e-3 keep it (Chan, Golub and LeVeque 1983).

The error of a weighted mean m = sum w x / sum w, which is a ratio, is that of its linearization,
sqrt(sum w^2 (x - m)^2) / sum w, times sqrt(n / (n - 1)): the standard deviation over samples divided by sqrt(n) where
all weights are equal (Cochran 1977, Sampling Techniques, section 6.4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

COUNT, WEIGHT, SQUARES, MEAN, INNER, SPREAD = range(6)
"""What the six numbers are."""

NUMBERS = 6


def moments(values: Tensor, weights: Tensor | None = None) -> Tensor:
    """The six numbers of a part of the data.

    Args:
        values: x, [B] or [B, K]; what has weight zero may be anything.
        weights: w, not negative, [B] or [B, K]; None where all are one.

    Returns:
        [6, K] float64.

    Example:
        >>> mean_and_error(moments(torch.tensor([1.0, 2.0, 3.0, 4.0])))[0]
        tensor([2.5000], dtype=torch.float64)
    """
    x = values.double().reshape(len(values), -1)
    w = torch.ones_like(x) if weights is None else weights.double().reshape(len(weights), -1).expand_as(x)
    x = torch.where(w != 0, x, 0.0)
    v = w * w
    weight, squares = w.sum(0), v.sum(0)
    mean = (w * x).sum(0) / weight
    inner = mean + (v * (x - mean)).sum(0) / squares
    spread = (v * (x - inner).square()).sum(0)
    return torch.stack([(w != 0).double().sum(0), weight, squares, mean, inner, spread])


def number(value: Tensor, weight: float) -> Tensor:
    """The same for values that are known only as a whole, [K]: a mean without an error, [6, K] float64."""
    mean = value.double().reshape(-1)
    nothing = torch.zeros_like(mean)
    return torch.stack([nothing, torch.full_like(mean, weight), nothing, mean, nothing, nothing])


def merged(parts: Sequence[Tensor]) -> Tensor:
    """The six numbers of all parts together: each [..., 6, K], and so is the result.

    Example:
        >>> x = 1e8 + 1e-3 * torch.tensor([1.0, -1.0, 2.0, 0.0, 3.0], dtype=torch.float64)
        >>> whole, halves = moments(x), merged([moments(x[:2]), moments(x[2:])])
        >>> torch.allclose(whole[SPREAD], halves[SPREAD], rtol=1e-4)
        True
    """
    count, weight, squares, mean, inner, spread = torch.stack(list(parts)).unbind(-2)

    def averaged(values: Tensor, by: Tensor) -> Tensor:
        return torch.where(by > 0, by * values, 0.0).sum(0) / by.sum(0)

    center = averaged(inner, squares)
    between = torch.where(squares > 0, squares * (inner - center).square(), 0.0)
    within = torch.where(squares > 0, spread, 0.0)
    return torch.stack(
        [
            *(count.sum(0), weight.sum(0), squares.sum(0)),
            *(averaged(mean, weight), center, (within + between).sum(0)),
        ],
        dim=-2,
    )


def mean_and_error(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The weighted mean and its standard error, each [..., K]; NaN where there are too few samples for one.

    Args:
        numbers: [..., 6, K].
    """
    count, weight, squares, mean, inner, spread = numbers.unbind(-2)
    square = (spread + squares * (inner - mean).square()) * count / (count - 1)
    return mean, torch.where(count > 1, square.sqrt() / weight, torch.nan)
