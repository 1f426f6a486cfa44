"""The loop engine: one point after another, for any objective."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lla_func.chart import Chart
from lla_func.objective import Objective, risk

__all__ = ["prepare"]


def prepare(objective: Objective, chart: Chart, *, points_per_pass: int) -> Callable[[Tensor], Tensor]:
    """Evaluates points one by one, whatever ``points_per_pass`` is."""
    theta = torch.empty_like(chart.origin)

    def run(coefficients: Tensor) -> Tensor:
        losses = []
        for row in coefficients:
            torch.addmv(chart.origin, chart.basis.mT, row, out=theta)
            losses.append(risk(objective, theta))
        return torch.stack(losses)

    return run
