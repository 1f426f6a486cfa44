"""A number found by sampling, with its standard error."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

__all__ = ["Estimate", "standard_error", "student_widening"]


class Estimate(NamedTuple):
    """A stochastic estimate of a number.

    Attributes:
        value: the estimate.
        standard_error: its own standard deviation, estimated: the truth is within twice of it in about 95 %
            of the cases. Zero where the value is exact.
        samples: what was averaged, [n] float64; reused ones first. Empty where the value is exact.
        products: matrix-vector products spent here; reused ones count where they were spent.
        converged: whether the standard error met ``tol``.
    """

    value: float
    standard_error: float
    samples: Tensor
    products: int
    converged: bool


def standard_error(samples: Tensor) -> float:
    """The standard error of the mean of independent samples [n], widened for small n.

    The estimated deviation of few samples is itself uncertain. The factor ((n - 1) / (n - 3))^(1/2), the
    standard deviation of Student's t, makes twice this error cover about 95 % for any n. Infinite below four
    samples.

    Example:
        >>> import torch
        >>> round(standard_error(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)), 4)
        1.0
    """
    count = len(samples)
    return float(samples.std()) / math.sqrt(count) * student_widening(count) if count > 3 else math.inf


def student_widening(count: int) -> float:
    """The standard deviation of Student's t with ``count`` - 1 degrees of freedom; infinite where it has none."""
    return math.sqrt((count - 1) / (count - 3)) if count > 3 else math.inf
