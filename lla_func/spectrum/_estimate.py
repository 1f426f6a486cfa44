"""A number with its errors: those of the algorithm, and those over data."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Estimate(NamedTuple):
    """An estimate of a number.

    Attributes:
        value: the estimate.
        error: that of the algorithm, as a standard deviation: the truth for these data is within twice of it in about
            95 % of the cases. Zero where the value is exact.
        data_error: the standard deviation over data, of which other samples give other values; None where it is not
            known.
        products: matrix-vector products spent here; reused ones count where they were spent.
        converged: whether the error met ``tol``.
        note: what else to know of the value; None for nothing.
        samples: what was averaged, [n] float64; reused ones first. Empty where the value is exact.
        method: how it was found, where there are several ways.
    """

    value: float
    error: float = 0.0
    data_error: float | None = None
    products: int = 0
    converged: bool = True
    note: str | None = None
    samples: Tensor = torch.zeros(0, dtype=torch.float64)
    method: str | None = None

    @property
    def standard_error(self) -> float:
        """Another name of ``error``."""
        return self.error


def standard_error(samples: Tensor) -> float:
    """The standard error of the mean of independent samples [n], widened for small n.

    The estimated deviation of few samples is itself uncertain. The factor ((n - 1) / (n - 3))^(1/2), the
    standard deviation of Student's t, makes twice this error cover about 95 % for any n. Infinite below four
    samples.

    Example:
        >>> round(standard_error(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)), 4)
        1.0
    """
    count = len(samples)
    return float(samples.std()) / math.sqrt(count) * student_widening(count) if count > 3 else math.inf


def student_widening(count: int) -> float:
    """The standard deviation of Student's t with ``count`` - 1 degrees of freedom; infinite where it has none."""
    return math.sqrt((count - 1) / (count - 3)) if count > 3 else math.inf
