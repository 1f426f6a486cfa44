"""The error over data of a barrier: the losses at its top and at both ends are of the same samples."""

from __future__ import annotations

import math

import torch

from lla_func.assessment._contrast import contrast
from lla_func.geometry import Chart, point
from lla_func.landscape import Barrier
from lla_func.objective import Objective
from lla_func.spectrum import Estimate


def with_data_error(
    found: Barrier, objective: Objective, chart: Chart, *, between: tuple[float, float] = (0.0, 1.0)
) -> Estimate:
    """A barrier's estimate with its standard error over paired samples, the place of the top held fixed.

    Args:
        found: the barrier.
        objective, chart, between: those of the call of :func:`lla_func.barrier` that found it.

    Returns:
        the estimate, with ``data_error`` where losses of single samples are known and the barrier is a finite rise.

    Source: :func:`contrast` of three points, with weights 1, -(1 - t) and -t.

    Example:
        >>> from lla_func import barrier, from_loss
        >>> from lla_func.geometry import chart
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> well = from_loss(lambda a, x: (x * (a**2 - 1) ** 2).mean(), torch.ones(1).double(), [x],
        ...     outputs=lambda a, x: x * (a**2 - 1) ** 2, criterion=lambda out, x: out.mean(),
        ...     per_sample=lambda out, x: out)
        >>> line = chart.linear_interpolation(-well.theta, well.theta)
        >>> found = with_data_error(barrier(well, line, steps=9), well, line)
        >>> round(found.value, 6), round(found.data_error, 6) == round(float(x.std() / 3**0.5), 6)
        (3.0, True)
    """
    height = found.estimate
    known = objective.per_sample is not None and objective.outputs is not None
    if not known or not 0 < height.value < math.inf:
        return height
    start, end = between
    share = (found.at - start) / (end - start)
    places = torch.tensor([[found.at], [start], [end]], dtype=torch.float64, device=chart.basis.device)
    paired = contrast(objective, point(chart, places), (1.0, share - 1.0, -share))
    return height._replace(data_error=paired.data_error)
