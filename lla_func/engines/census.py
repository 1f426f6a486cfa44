"""Which engine pays: the operations of one evaluation counted, and turned into a nominal time.

The count, unlike a clock, is the same in every run, so the same call takes the same engine and gives the same bits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import flop_registry

from lla_func.chart import Chart
from lla_func.dispatch import DispatchMode
from lla_func.objective import Objective, loss_at, samples, tiles

__all__ = ["Census", "choose", "take"]

OPERATION_SECONDS = 2.5e-5
BYTES_PER_SECOND = 4e9
FLOPS_PER_SECOND = 5e10
RECORDING_SECONDS = 1e-3
"""Nominal costs: calling an operation, writing its result, computing it, and recording it in a graph."""

TRIAL_SECONDS = 1.0
"""Jobs nominally shorter than this are done before a trial would pay; without one the same call gives the same bits."""

SAVING = 0.4
"""The part of an evaluation that hoisting saves, about."""

TILE = 64
"""How many samples are enough to count on."""

FEWEST_POINTS = 16
"""With fewer points nothing but the loop is considered."""


class Census(NamedTuple):
    """What one evaluation of the loss takes.

    Attributes:
        operations: how many are called.
        bytes: written by them.
        flops: floating-point operations.
        largest: bytes of the largest result, for one sample.
    """

    operations: int
    bytes: int
    flops: int
    largest: int

    @property
    def seconds(self) -> float:
        """A nominal time on one core."""
        work = self.bytes / BYTES_PER_SECOND + self.flops / FLOPS_PER_SECOND
        return self.operations * OPERATION_SECONDS + work


def take(objective: Objective, theta: Tensor) -> Census:
    """Counts one evaluation of the loss on the first batch; where it may be cut, a small tile of it stands for it.

    Example:
        >>> from lla_func.objective import from_loss
        >>> objective = from_loss(lambda theta, x: (x @ theta).sum(), torch.ones(4), [torch.ones(8, 4)])
        >>> take(objective, objective.theta)
        Census(operations=2, bytes=36, flops=0, largest=4)
    """
    counter = _Counter()
    batch = next(iter(objective.batches))
    tile = next(tiles(batch, TILE)) if objective.separable else batch
    with torch.no_grad(), counter:
        loss_at(objective, theta)(theta, tile)
    scale = samples(batch) / samples(tile)
    return Census(
        operations=counter.operations,
        bytes=int(scale * counter.bytes),
        flops=int(scale * counter.flops),
        largest=counter.largest // samples(tile),
    )


def choose(objective: Objective, chart: Chart, count: int) -> tuple[str, bool]:
    """The engine that should be fastest for ``count`` points, and whether a trial against the loop is worth it."""
    if objective.adapt is not None or count < FEWEST_POINTS:
        return "loop", False
    if chart.origin.device.type != "cpu":
        return "vmap", True
    census = take(objective, chart.origin)
    total = sum(samples(batch) for batch in objective.batches)
    ratio = total / samples(next(iter(objective.batches)))
    left = count * census.seconds * ratio
    pays = SAVING * left > RECORDING_SECONDS * census.operations
    return ("hoisted" if pays else "loop"), pays and left > TRIAL_SECONDS


class _Counter(DispatchMode):
    """Counts operations and the bytes of new results."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.bytes = 0
        self.largest = 0
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        if (count := flop_registry.get(func.overloadpacket)) is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        if not func.is_view:
            sizes = [leaf.nbytes for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
            self.bytes += sum(sizes)
            self.largest = max(self.largest, *sizes, 0)
        return result
