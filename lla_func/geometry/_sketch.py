"""Random projections of vectors too long to keep: K numbers in place of P, that keep lengths and angles on average."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 2**18
"""Elements that are drawn at once."""


class Projection(NamedTuple):
    """A linear map from R^P to R^K, drawn from a seed and never held.

    Attributes:
        dim: K.
        seed: decides the map; two runs are comparable if they share it.
    """

    dim: int
    seed: int


def sketch(parts: Iterable[Tensor], projection: Projection) -> Tensor:
    """A vector's random projection: each element goes, with a random sign, into one of K sums.

    Inner products of projections are those of the vectors on average, with a standard deviation of at most
    sqrt(2 / K) times the product of their lengths: as for Gaussian projections, at the price of reading the vector once
    and of one random number per element (Charikar, Chen and Farach-Colton 2002, section 3; Weinberger et al. 2009,
    lemma 2).

    Args:
        parts: the vector, or its parts one after another; how it is cut makes no difference.
        projection: K and the seed.

    Returns:
        the projection, [K] float64 on the CPU.

    Example:
        >>> x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
        >>> y = sketch([x], Projection(1000, seed=1))
        >>> bool(abs(y.norm() / x.norm() - 1) < 0.1), torch.equal(y, sketch(x.split(7), Projection(1000, seed=1)))
        (True, True)
    """
    generator = torch.Generator().manual_seed(projection.seed)
    sums = torch.zeros(projection.dim, dtype=torch.float64)
    places = torch.empty(0, dtype=torch.int64)
    for part in parts:
        for piece in part.detach().reshape(-1).split(BLOCK):
            numbers = piece.to("cpu", torch.float64)
            while len(numbers):
                if not len(places):  # always as many, so that how the vector is cut makes no difference
                    places = torch.randint(2 * projection.dim, (BLOCK,), generator=generator)
                count = min(len(numbers), len(places))
                here, places = places[:count], places[count:]
                signed = numbers[:count] * (1 - 2 * (here & 1))
                sums.index_add_(0, here >> 1, signed)
                numbers = numbers[count:]
    return sums
