"""The vmap engine: blocks of points share each forward pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from lla_func.chart import Chart
from lla_func.objective import Objective, weigh

__all__ = ["prepare"]


def prepare(objective: Objective, chart: Chart, *, points_per_pass: int) -> Callable[[Tensor], Tensor]:
    """Evaluates ``points_per_pass`` points at a time by ``torch.func.vmap`` over theta.

    An operation without a batching rule is an error here: torch would run it point by point, slower than the loop.

    Raises:
        ValueError: the objective adapts its loss to each point (recalibrated BatchNorm).
    """
    if objective.adapt is not None:
        raise ValueError(
            "the loss adapts to each point (recalibrated BatchNorm), which blocks of points cannot share"
        )
    losses_of = torch.func.vmap(objective.loss, in_dims=(0, None), randomness="same")

    def run(coefficients: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*batching rule.*")
            return torch.cat([block(rows) for rows in coefficients.split(points_per_pass)])

    def block(coefficients: Tensor) -> Tensor:
        thetas = torch.addmm(chart.origin, coefficients, chart.basis)
        losses, weights = [], []
        for batch in objective.batches:
            losses.append(losses_of(thetas, batch))
            weights.append(weigh(objective, batch))
        total = torch.tensor(weights, dtype=torch.float64) @ torch.stack(losses).to("cpu", torch.float64)
        return total / sum(weights) if objective.reduction == "mean" else total

    return run
