"""What each sample adds to a surface: the losses of single samples at every point, for resampling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lla_func._torch import full_precision, noticed, without_autocast
from lla_func.assessment._contrast import check_per_sample, sample_losses
from lla_func.errors import finite_tensor, instance
from lla_func.geometry import Chart
from lla_func.geometry import chart as charts
from lla_func.objective import Objective


def sample_surfaces(objective: Objective, chart: Chart, coords: Any) -> Tensor:
    """The losses of single samples at points of a chart, scaled so that their mean is the loss.

    They are what :func:`lla_func.topology` takes as ``per_sample``. Where samples have weights (of classes, or zero
    for ignored targets), a sample's loss counts by its share. One forward pass a point, and 8 N n bytes.

    Args:
        objective: with losses of single samples (``per_sample``, which ``bridges.metrics.Loss`` sets).
        chart: of the landscape.
        coords: its points, [N, C].

    Returns:
        [N, n] float64 on the CPU, without the samples that count nothing.

    Raises:
        TypeError, ValueError: the objective has no losses of single samples, or coordinates do not fit the chart.

    Example:
        >>> from lla_func import from_loss
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> shift = from_loss(lambda a, x: (x + a).mean(), torch.zeros(1).double(), [x], outputs=lambda a, x: x + a,
        ...     criterion=lambda out, x: out.mean(), per_sample=lambda out, x: out)
        >>> line = charts.line(shift.theta, torch.ones(1, dtype=torch.float64))
        >>> sample_surfaces(shift, line, torch.tensor([[0.0], [1.0]], dtype=torch.float64))
        tensor([[1., 2., 6.],
                [2., 3., 7.]], dtype=torch.float64)
    """
    check_per_sample(objective)
    instance("chart", chart, Chart, "a Chart, such as chart.plane(theta, first, second)")
    points = finite_tensor("coords", torch.as_tensor(coords, dtype=torch.float64), ("N", chart.dim))
    if not len(points):
        raise ValueError("coords is empty; at least one point is needed")
    rows = []
    with noticed(), torch.no_grad(), full_precision(), without_autocast():
        for place in points:
            theta = charts.point(chart, place[None])[0].to(objective.theta)
            parts = list(sample_losses(objective, theta))
            losses = torch.cat([losses for losses, _ in parts])
            weights = torch.cat([torch.ones_like(x) if w is None else w.double() for x, w in parts])
            counting = weights > 0
            scale = int(counting.sum()) / (weights.sum() if objective.reduction == "mean" else 1.0)
            rows.append(losses[counting] * (weights[counting] * scale))
    return torch.stack(rows)
