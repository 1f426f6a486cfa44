"""The vmap engine: blocks of points share each forward pass. Meant for accelerators, where it is not measured yet."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from lla_func._torch import tensors
from lla_func.geometry import Chart
from lla_func.landscape.engines._plan import Plan
from lla_func.objective import Objective, combined, samples, value, weighed

BLOCK_BYTES = 2**28


def prepare(
    objective: Objective,
    chart: Chart,
    *,
    points_per_pass: int | None = None,
    samples_per_tile: int | None = None,
    channels_last: bool | None = None,
    memory_budget: int | None = None,
) -> tuple[Callable[[Tensor], Tensor], Plan]:
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
    size = points_per_pass or _block(objective, memory_budget or BLOCK_BYTES)

    def run(coefficients: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*batching rule.*")
            return torch.cat([block(rows) for rows in coefficients.split(size)])

    def block(coefficients: Tensor) -> Tensor:
        thetas = torch.addmm(chart.origin, coefficients.to(chart.basis), chart.basis)
        losses, weights = [], []
        for weight, batch in weighed(objective, objective.batches):
            losses.append(value(losses_of, thetas, batch))
            weights.append(weight)
        return combined(objective, losses, weights)

    return run, Plan("vmap", points_per_pass=size, chunk=size)


def _block(objective: Objective, budget: int) -> int:
    """A number of points whose parameters and activations (some 16 numbers an input element) fit the budget."""
    first = next(iter(objective.batches))
    leaves = [*tensors(first)]
    elements = len(objective.theta) + 16 * sum(leaf.numel() for leaf in leaves) + samples(first)
    return max(1, min(64, budget // (objective.theta.element_size() * elements)))
