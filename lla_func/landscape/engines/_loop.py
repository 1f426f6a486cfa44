"""The loop engine: one point after another, for any objective."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lla_func._torch import free_memory
from lla_func.geometry import Chart
from lla_func.landscape.engines._combine import Combination
from lla_func.landscape.engines._plan import Plan
from lla_func.objective import Objective, risk, tiles


def prepare(
    objective: Objective,
    chart: Chart,
    *,
    points_per_pass: int | None = None,
    samples_per_tile: int | None = None,
    channels_last: bool | None = None,
    memory_budget: int | None = None,
) -> tuple[Callable[[Tensor], Tensor], Plan]:
    """Evaluates points one by one; batches are cut only if ``samples_per_tile`` is given."""
    cut = objective
    if samples_per_tile is not None and objective.separable and objective.adapt is None:
        cut = objective._replace(
            batches=[tile for batch in objective.batches for tile in tiles(batch, samples_per_tile)]
        )
    spare = memory_budget if memory_budget is not None else free_memory(chart.origin.device) // 4
    theta = Combination([chart.origin, *chart.basis], keep=chart.basis.nbytes <= spare)

    # The storage of theta is the same at all points, so where a loss takes named tensors they are cut once.
    named = (
        objective.layout.unravel(theta.storage[-1]) if objective.named and objective.adapt is None else None
    )

    def loss(coefficients: list[float]) -> Tensor:
        point = theta.at(coefficients)
        return risk(cut, point if named is None else named)

    def run(coefficients: Tensor) -> Tensor:
        return torch.stack([loss(row) for row in coefficients.tolist()])

    tile = samples_per_tile if objective.separable else None
    return run, Plan("loop", samples_per_tile=tile, points_per_pass=1, keep=theta.keep, chunk=1)
