"""How far a whole surface may be off at once: the simultaneous bound that its features are compared with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any, NamedTuple

import torch
from torch import Tensor

CHUNK = 2**24
"""Numbers that a part of the bootstrap holds at once."""


class Bound(NamedTuple):
    """A bound of the largest error over a surface, but for a shift that all its points share.

    Attributes:
        sampling: of the interpolation between the points that were evaluated; 0 where all were.
        data: over data, at the confidence asked for; 0 where nothing is known of it.
        source: in words, where they come from.
    """

    sampling: float
    data: float
    source: str

    @property
    def value(self) -> float:
        """Both together."""
        return self.sampling + self.data


def bound_of(
    values: Tensor,
    errors: Tensor | None,
    per_sample: Tensor | None,
    sampling: Mapping[str, Any] | None,
    *,
    confidence: float,
    draws: int,
    seed: int,
) -> Bound:
    """The bound from whatever is known of the errors.

    Args:
        values: at the points, [N] float64; those that are not finite do not count.
        errors: the standard error of each, [N], or None.
        per_sample: what each sample adds, [N, n], whose mean over n the values are, or None.
        sampling: what ``Landscape.diagnostics["sampling"]`` says.
        confidence: of the part over data.
        draws: of the bootstrap.
        seed: of the bootstrap.
    """
    finite = values.isfinite()
    seen = values[finite]
    interpolated = 0.0
    if sampling is not None and len(seen):
        interpolated = float(sampling.get("error") or 0.0) * float(seen.max() - seen.min())
    parts = [f"interpolation {interpolated:.3g}"] if interpolated else []
    data = 0.0
    if per_sample is not None:
        data = bootstrapped(per_sample[finite], confidence=confidence, draws=draws, seed=seed)
        parts.append(f"{draws} paired resamplings of {per_sample.shape[1]} samples {data:.3g}")
    elif errors is not None:
        data = pointwise(errors[finite], confidence=confidence)
        parts.append(f"standard errors of {len(seen)} points, each for itself {data:.3g}")
    return Bound(interpolated, data, ", ".join(parts) or "no error of the surface is known")


def bootstrapped(per_sample: Tensor, *, confidence: float, draws: int, seed: int) -> float:
    """The simultaneous bound of a mean surface's error, by drawing samples again, the same ones at every point.

    Of each drawn surface's deviation the shift is taken out that makes its largest magnitude smallest, half of the
    range being left: depths do not see a shift that all points share.

    Args:
        per_sample: [N, n].
        confidence: how often the error is within the bound.
        draws: how many surfaces are drawn.
        seed: of the draws.

    Source: the bootstrap of a supremum follows Chazal, Fasy, Lecci, Rinaldo and Wasserman 2014, Stochastic
    convergence of persistence landscapes and silhouettes, section 3; that persistence changes by no more than twice
    the largest error is the stability theorem (Cohen-Steiner, Edelsbrunner and Harer 2007).

    Example:
        >>> alike = torch.randn(1, 50, generator=torch.Generator().manual_seed(0)).expand(9, 50)
        >>> round(bootstrapped(alike, confidence=0.95, draws=100, seed=0), 12)  # all points share every error
        0.0
    """
    points, count = per_sample.shape
    centered = per_sample.double() - per_sample.double().mean(1, keepdim=True)
    generator = torch.Generator().manual_seed(seed)
    rows = max(1, CHUNK // max(points, count))
    found = []
    for start in range(0, draws, rows):
        size = min(rows, draws - start)
        chosen = torch.randint(count, (size, count), generator=generator)
        times = torch.zeros(size, count, dtype=torch.float64)
        times.scatter_add_(1, chosen, torch.ones_like(chosen, dtype=torch.float64))
        deviation = times @ centered.T / count
        found.append((deviation.amax(1) - deviation.amin(1)) / 2)
    widened = math.sqrt(
        count / (count - 1)
    )  # the deviation of n samples from their own mean is too small by this
    half = torch.cat(found)
    return widened * float(torch.quantile(half, confidence, interpolation="higher"))


def pointwise(errors: Tensor, *, confidence: float) -> float:
    """The simultaneous bound from standard errors [N] of single points, by Bonferroni's inequality.

    Which errors points share is not known, so the bound is wide.

    Example:
        >>> round(pointwise(torch.ones(1), confidence=0.95), 2), round(pointwise(torch.ones(1600), confidence=0.95), 2)
        (1.96, 4.16)
    """
    if not len(errors):
        return 0.0
    tail = (1 - confidence) / (2 * len(errors))
    return -NormalDist().inv_cdf(tail) * float(errors.max())
