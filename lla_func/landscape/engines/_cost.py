"""Which engine pays: the operations of one evaluation counted, and turned into a nominal time.

The count, unlike a clock, is the same in every run, so the same call takes the same engine and gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import flop_registry

from lla_func._torch import DispatchMode
from lla_func.geometry import Chart
from lla_func.graph import RULES
from lla_func.objective import Objective, beginning, loss_at, samples, value

aten = torch.ops.aten

OPERATION_SECONDS = 5e-6
BYTES_PER_SECOND = 1e10
FLOPS_PER_SECOND = 1.5e11
RECORDING_SECONDS = 3e-4
"""Nominal costs: calling an operation, writing its result, computing it, and recording it in a graph."""

REWRITTEN: Mapping[Any, float] = {aten.max_pool2d_with_indices.default: 10.0}
"""How many times as long operations take as writing their result, where a rewrite saves nearly all of that."""

AUTOTUNE_SECONDS = 1.0
"""Evaluations nominally shorter than this are over before autotuning pays; then the same call gives the same bits."""

CALLING_SAVED = 0.5
ELSEWHERE_SAVED = 0.08
"""The parts that are saved of calling operations, and of all that is neither hoisted nor rewritten: about."""

EVALUATIONS = 8
"""What recording, checking and autotuning take, in evaluations of the loss."""

TILE = 8
"""How many samples are enough to count on."""

FEWEST_POINTS = 16
"""With fewer points nothing but the loop is considered."""


class Cost(NamedTuple):
    """What one evaluation of the loss takes.

    Attributes:
        operations: how many are called.
        bytes: written by them.
        flops: floating-point operations.
        largest: bytes of the largest result, for one sample.
        rewritten: bytes written by operations of :data:`REWRITTEN`, each times its factor.
        hoisted: the nominal time of the work before the first operation that is not affine, on one core.
    """

    operations: int
    bytes: int
    flops: int
    largest: int
    rewritten: int
    hoisted: float

    @property
    def seconds(self) -> float:
        """A nominal time on one core."""
        return self.operations * OPERATION_SECONDS + _work(self.bytes + self.rewritten, self.flops)

    @property
    def saved(self) -> float:
        """The part of this time that the hoisted engine saves, about."""
        calling = CALLING_SAVED * self.operations * OPERATION_SECONDS
        known = self.hoisted + _work(self.rewritten, 0)
        rest = self.seconds - self.operations * OPERATION_SECONDS - known
        return (calling + known + ELSEWHERE_SAVED * rest) / self.seconds


def _work(bytes: float, flops: float) -> float:
    return bytes / BYTES_PER_SECOND + flops / FLOPS_PER_SECOND


def cost_of(objective: Objective, theta: Tensor) -> Cost:
    """Counts one evaluation of the loss on the first batch; where it may be cut, a small tile of it stands for it.

    Example:
        >>> from lla_func import from_loss
        >>> objective = from_loss(lambda theta, x: (x @ theta).sum(), torch.ones(4), [torch.ones(8, 4)])
        >>> cost_of(objective, objective.theta)
        Cost(operations=2, bytes=36, flops=0, largest=4, rewritten=0, hoisted=3.6e-09)
    """
    counter = _Counter()
    batch = next(iter(objective.batches))
    tile = beginning(objective, TILE)
    with torch.no_grad(), counter:
        value(loss_at(objective, theta), theta, tile)
    scale = samples(batch) / samples(tile)
    return Cost(
        operations=counter.operations,
        bytes=int(scale * counter.bytes),
        flops=int(scale * counter.flops),
        largest=counter.largest // samples(tile),
        rewritten=int(scale * counter.rewritten),
        hoisted=scale * counter.hoisted,
    )


def candidates(objective: Objective, chart: Chart, count: int) -> tuple[tuple[str, ...], bool]:
    """The engines that may be fastest for ``count`` points, best first, and whether to time them against the loop."""
    if objective.adapt is not None or count < FEWEST_POINTS:
        return ("loop",), False
    if chart.origin.device.type != "cpu":
        return ("vmap", "hoisted"), True
    cost = cost_of(objective, chart.origin)
    total = sum(samples(batch) for batch in objective.batches)
    ratio = total / samples(next(iter(objective.batches)))
    seconds = cost.seconds * ratio
    spent = RECORDING_SECONDS * cost.operations + EVALUATIONS * seconds
    pays = cost.saved * count * seconds > spent
    return ("hoisted" if pays else "loop",), pays and count * seconds > AUTOTUNE_SECONDS


class _Counter(DispatchMode):
    """Counts operations and the bytes of new results."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0
        self.bytes = 0
        self.largest = 0
        self.flops = 0
        self.rewritten = 0.0
        self.hoisted = 0.0
        self._affine = True  # so far, but for products of two values that both vary

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += func is not torch.ops.aten.detach.default  # nothing is computed by it
        sizes = [leaf.nbytes for leaf in pytree.tree_leaves(result) if isinstance(leaf, Tensor)]
        if func.is_view or not sizes:
            return result
        count = flop_registry.get(func.overloadpacket)
        flops = 0 if count is None else count(*args, **(kwargs or {}), out_val=result)
        self.flops += flops
        self.bytes += sum(sizes)
        self.largest = max(self.largest, *sizes)
        self.rewritten += sizes[0] * REWRITTEN.get(func, 0.0)
        product = "*" in RULES.get(func, "")
        self._affine = self._affine and func in RULES and not (product and self.hoisted)
        if self._affine:
            self.hoisted += _work(sum(sizes), flops)
        return result
