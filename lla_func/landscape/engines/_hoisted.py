"""The hoisted engine: what all points share is computed once, and only the rest at each point.

The loss is recorded once, its operations are exchanged for cheaper equal ones, and the graph is partitioned at the
first values that are not affine in the coefficients (:mod:`lla_func.graph`). Then, for tiles of data small enough for
the cache, constant values are computed once and affine ones once for each basis vector; at a point they are combined,
which replaces the first convolution or linear map by a weighted sum (:mod:`._combine`). Tiles, or points if there are
few tiles, go to workers of one thread each (:mod:`._workers`).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lla_func.geometry import Chart
from lla_func.graph import (
    Partition,
    RecordingError,
    footprint,
    generate,
    hoist,
    make_inplace,
    partition,
    record,
    signature,
)
from lla_func.landscape.engines import _workers as workers
from lla_func.landscape.engines._combine import Combination, combine_block, stacked
from lla_func.landscape.engines._cost import cost_of
from lla_func.landscape.engines._plan import Plan, even_tile, limits_of, make_plan
from lla_func.objective import Batch, Objective, beginning, combined, samples, tiles, weighed

MOST_SIGNATURES = 8
"""A graph is recorded for each shape of tile; data with more shapes than this is left to the loop."""

Compile = Callable[[Callable[..., Tensor]], Callable[..., Tensor]]


def prepare(
    objective: Objective,
    chart: Chart,
    *,
    points_per_pass: int | None = None,
    samples_per_tile: int | None = None,
    channels_last: bool | None = None,
    memory_budget: int | None = None,
    compile: Compile | None = None,
) -> tuple[Callable[[Tensor], Tensor], Plan]:
    """Records the loss and plans the evaluation; see :mod:`lla_func.landscape.engines._engines` for the signature.

    Args:
        compile: applied to the function that is called at each point (or block of points).

    Raises:
        RecordingError: the loss adapts to each point, draws random numbers or branches on values.
        MemoryError: the budget is too small for the smallest pass.
    """
    if objective.adapt is not None:
        raise RecordingError("the loss adapts to each point (recalibrated BatchNorm)")
    first = next(iter(objective.batches))
    cost = cost_of(
        objective, chart.origin
    )  # a first pass, too, before what it leaves behind could be recorded
    limits = limits_of(chart.origin.device)
    likely = samples_per_tile or even_tile(samples(first), cost.largest, limits.cache)
    probe = beginning(objective, likely)
    parts = partition(objective.loss, chart.origin, probe)
    if channels_last is None:
        channels_last = channels_last_is_faster(chart.origin.device)
    cut = partial(
        make_plan,
        footprint(parts, samples(probe)),
        batch=samples(first),
        directions=len(chart.basis),
        separable=objective.separable,
        workers=workers.count(chart.origin.device),
        memory_budget=memory_budget,
        limits=limits,
    )
    plan = cut(
        samples_per_tile=samples_per_tile,
        points_per_pass=points_per_pass,
        channels_last=channels_last and parts.images,
    )
    return Hoisted(objective, chart, plan, {signature(probe): parts}, cut, compile), plan


def channels_last_is_faster(device: torch.device) -> bool:
    """A guess at how convolutions like their images in float32, for where autotuning does not find out.

    On accelerators the layout is not measured yet.
    """
    return device.type == "cpu" and "AVX512" not in torch.backends.cpu.get_cpu_capability()


class Hoisted:
    """Maps coefficients [N, K] to losses [N]: a :data:`lla_func.landscape.engines.Run`.

    Attributes:
        seconds_shared: what the last call spent on things that points share, by the clock.
    """

    def __init__(
        self,
        objective: Objective,
        chart: Chart,
        plan: Plan,
        parts: dict[Hashable, Partition],
        cut: Callable[..., Plan],
        compile: Compile | None,
    ) -> None:
        self.objective = objective
        self.chart = chart
        self.plan = plan
        self.parts = parts
        self.cut = cut
        self.compile = compile
        self.bound: dict[Hashable, _Bound] = {}
        self.seconds_shared = 0.0

    def __call__(self, coefficients: Tensor) -> Tensor:
        objective, plan = self.objective, self.plan
        losses: list[Tensor] = []
        weights: list[float] = []
        self.seconds_shared = 0.0
        for batch in objective.batches:
            cut = tiles(batch, plan.samples_per_tile) if plan.samples_per_tile else (batch,)
            counting = list(weighed(objective, cut))
            pieces = [piece for _, piece in counting]
            bindings = [self._bind(piece) for piece in pieces]
            row = () if objective.measures is None else (objective.measures.raw,)
            results = [coefficients.new_empty(len(coefficients), *row, dtype=torch.float64) for _ in pieces]
            tasks = list(zip(bindings, pieces, results, strict=True))
            before = sum(one.seconds_shared for one in self.bound.values())
            for bound, data, _ in {id(task[0]): task for task in tasks}.values():
                bound.record(coefficients, data)
            if len(pieces) >= 2 * plan.workers:
                workers.run([partial(p.tile, coefficients, d, out) for p, d, out in tasks], plan.workers)
                share = 1 / plan.workers
            else:
                for p, data, out in tasks:
                    count = max(1, min(4, len(coefficients) // (8 * plan.workers))) * plan.workers
                    workers.run(list(p.stretches(coefficients, data, out, count)), plan.workers)
                share = 1.0
            after = sum(one.seconds_shared for one in self.bound.values())
            self.seconds_shared += share * (after - before)
            losses += results
            weights += [weight for weight, _ in counting]
        return combined(objective, losses, weights)

    def _bind(self, tile: Batch) -> _Bound:
        key = signature(tile)
        if key not in self.bound:
            if len(self.bound) == MOST_SIGNATURES:
                raise RecordingError(f"its batches come in more than {MOST_SIGNATURES} shapes")
            if key not in self.parts:
                self.parts[key] = partition(self.objective.loss, self.chart.origin, tile)
            self.bound[key] = _Bound(self.parts[key], self.chart, self.plan, self.compile)
        return self.bound[key]

    def vary(self, plan: Plan, **changes: Any) -> tuple[Hoisted, Plan]:
        """The same evaluation under another plan; what was recorded is used again.

        Raises:
            MemoryError: the budget is too small for it.
        """
        options = plan.options() | changes
        if not any(parts.images for parts in self.parts.values()):
            options["channels_last"] = False
        varied = self.cut(**options)
        return Hoisted(self.objective, self.chart, varied, self.parts, self.cut, self.compile), varied


class _Bound:
    """A split loss bound to a chart, with each worker's storage for theta."""

    def __init__(self, parts: Partition, chart: Chart, plan: Plan, compile: Compile | None) -> None:
        self.parts = parts
        self.chart = chart
        self.plan = plan
        self.theta = [chart.origin[parts.span], *chart.basis[:, parts.span]]
        self.point = parts.point_in_place if compile is None else compile(parts.point)
        self.compile = compile
        self.block: Callable[..., Tensor] | None = None
        self.storage: dict[int, tuple[Combination, Sequence[Tensor]]] = {}
        self.seconds_shared = 0.0

    def hoist(self, batch: Batch) -> tuple[list[list[Tensor]], list[Tensor]]:
        """What all points share on one tile."""
        start = time.perf_counter()
        chart, plan = self.chart, self.plan
        shared = hoist(self.parts, chart.origin, chart.basis, batch, channels_last=plan.channels_last)
        self.seconds_shared += time.perf_counter() - start
        return shared

    def tile(self, coefficients: Tensor, batch: Batch, out: Tensor, worker: int) -> None:
        """Fills out [N] with the losses of one tile at all points; out [N, raw] where they are measured."""
        self.stretch(coefficients, self.hoist(batch), out, worker)

    def stretches(
        self, coefficients: Tensor, batch: Batch, out: Tensor, count: int
    ) -> Iterator[workers.Task]:
        """The same as ``count`` tasks, each for a stretch of the points."""
        shared = self.hoist(batch)
        size = -(-len(coefficients) // count)
        size = -(-size // self.plan.points_per_pass) * self.plan.points_per_pass
        for rows, losses in zip(coefficients.split(size), out.split(size), strict=True):
            yield partial(self.stretch, rows, shared, losses)

    def stretch(
        self, coefficients: Tensor, shared: tuple[list[list[Tensor]], list[Tensor]], out: Tensor, worker: int
    ) -> None:
        """Fills out with the losses at some points, one by one or in blocks."""
        affine, constant = shared
        if self.plan.points_per_pass > 1:
            self.blocks(coefficients, affine, constant, out)
            return
        if worker not in self.storage:
            theta = Combination(self.theta, keep=self.plan.keep)
            self.storage[worker] = theta, self.parts.views(theta.storage[-1])
        theta, views = self.storage[worker]
        combinations = [Combination(values, keep=self.plan.keep) for values in affine]
        for i, row in enumerate(coefficients.tolist()):
            theta.at(row)
            out[i] = self.point(*views, *(c.at(row) for c in combinations), *constant)

    def blocks(
        self, coefficients: Tensor, affine: list[list[Tensor]], constant: list[Tensor], out: Tensor
    ) -> None:
        """Blocks all have one size: the last one repeats its last point."""
        assert self.block is not None
        size = self.plan.points_per_pass
        rows = [stacked(values) for values in affine]
        for points, losses in zip(coefficients.split(size), out.split(size), strict=True):
            theta, combined = self._block_values(points, rows)
            losses.copy_(self.block(theta, *combined, *constant)[: len(points)])

    def record(self, coefficients: Tensor, batch: Batch) -> None:
        """Makes the loss at a block of points a graph of its own, so that vmap's dispatch is paid once."""
        if self.plan.points_per_pass == 1 or self.block is not None:
            return

        def at_point(theta: Tensor, *values: Tensor) -> Tensor:
            return self.parts.point(*self.parts.views(theta), *values)

        affine, constant = self.hoist(batch)
        self.shapes = [values[0].shape for values in affine]
        self.theta_rows = stacked(self.theta)
        theta, combined = self._block_values(coefficients[:1], [stacked(values) for values in affine])
        axes = (0, *(0 for _ in combined), *(None for _ in constant))
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*batching rule.*")
            block = record(torch.func.vmap(at_point, in_dims=axes), theta, *combined, *constant)
        make_inplace(block.graph, fresh=1 + len(combined))
        run = generate(block.graph, block.constants)
        self.block = run if self.compile is None else self.compile(run)

    def _block_values(self, points: Tensor, rows: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Theta and the affine values at a full block that begins with these points."""
        missing = self.plan.points_per_pass - len(points)
        full = torch.cat([points, points[-1:].expand(missing, -1)]) if missing else points
        theta = combine_block(self.theta_rows, full, self.theta[0].shape)
        return theta, [combine_block(r, full, shape) for r, shape in zip(rows, self.shapes, strict=True)]
