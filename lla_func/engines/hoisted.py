"""The hoisted engine: what all points share is computed once, and only the rest at each point.

The loss is recorded once (:mod:`.trace`), its operations are exchanged for cheaper equal ones (:mod:`.rewrite`), and
the graph is split at the first values that aren't affine in the coefficients (:mod:`.rules`, :mod:`.split`). Then, for
tiles of data small enough for the cache, constant values are computed once and affine ones once for each basis vector;
at a point they are combined, which replaces the first convolution or linear map by a weighted sum (:mod:`.combine`).
Tiles, or points if there are few tiles, go to workers of one thread each (:mod:`.workers`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from lla_func.chart import Chart
from lla_func.engines import workers
from lla_func.engines.combine import Combination, combine_block
from lla_func.engines.split import Split, footprint, hoist, split
from lla_func.engines.trace import TraceError, signature
from lla_func.objective import Batch, Objective, samples, tiles, weigh
from lla_func.plan import Plan, choose

__all__ = ["prepare"]

MOST_SIGNATURES = 8
"""A graph is recorded for each shape of tile; data with more shapes than this is left to the loop."""

Compile = Callable[[Callable[..., Tensor]], Callable[..., Tensor]]


def prepare(
    objective: Objective,
    chart: Chart,
    *,
    points_per_pass: int | None = None,
    samples_per_tile: int | None = None,
    memory_budget: int | None = None,
    compile: Compile | None = None,
) -> tuple[Callable[[Tensor], Tensor], Plan]:
    """Traces the loss and plans the job; see :mod:`lla_func.engines` for the signature.

    Args:
        compile: applied to the function that is called at each point (or block of points).

    Raises:
        TraceError: the loss adapts to each point, draws random numbers or branches on values.
        MemoryError: the budget is too small for the smallest pass.
    """
    if objective.adapt is not None:
        raise TraceError("the loss adapts to each point (recalibrated BatchNorm)")
    first = next(iter(objective.batches))
    probe = next(tiles(first, samples_per_tile or 64)) if objective.separable else first
    parts = split(objective.loss, chart.origin, probe)
    plan = choose(
        footprint(parts, samples(probe)),
        batch=samples(first),
        directions=len(chart.basis),
        separable=objective.separable,
        workers=workers.count(chart.origin.device),
        samples_per_tile=samples_per_tile,
        points_per_pass=points_per_pass,
        memory_budget=memory_budget,
    )
    known: dict[Hashable, _Program] = {}

    def program(tile: Batch) -> _Program:
        key = signature(tile)
        if key not in known:
            if len(known) == MOST_SIGNATURES:
                raise TraceError(f"its batches come in more than {MOST_SIGNATURES} shapes")
            fresh = parts if key == signature(probe) else split(objective.loss, chart.origin, tile)
            known[key] = _Program(fresh, chart, plan, compile)
        return known[key]

    def run(coefficients: Tensor) -> Tensor:
        losses: list[Tensor] = []
        weights: list[int] = []
        for batch in objective.batches:
            pieces = list(tiles(batch, plan.samples_per_tile)) if plan.samples_per_tile else [batch]
            programs = [program(piece) for piece in pieces]
            results = [coefficients.new_empty(len(coefficients)) for _ in pieces]
            jobs = list(zip(programs, pieces, results, strict=True))
            if len(pieces) >= 2 * plan.workers:
                workers.run([partial(p.tile, coefficients, d, out) for p, d, out in jobs], plan.workers)
            else:
                for p, data, out in jobs:
                    workers.run(list(p.stretches(coefficients, data, out, 4 * plan.workers)), plan.workers)
            losses += results
            weights += [weigh(objective, piece) for piece in pieces]
        total = torch.tensor(weights, dtype=torch.float64) @ torch.stack(losses).to("cpu", torch.float64)
        return total / sum(weights) if objective.reduction == "mean" else total

    return run, plan


class _Program:
    """A split loss bound to a chart, with each worker's storage for theta."""

    def __init__(self, parts: Split, chart: Chart, plan: Plan, compile: Compile | None) -> None:
        self.parts = parts
        self.chart = chart
        self.plan = plan
        self.theta = [chart.origin[parts.span], *chart.basis[:, parts.span]]
        self.point = parts.point if compile is None else compile(parts.point)
        self.compile = compile
        self.block: Callable[..., Tensor] | None = None
        self.storage: dict[int, tuple[Combination, Sequence[Tensor]]] = {}

    def tile(self, coefficients: Tensor, batch: Batch, out: Tensor, worker: int) -> None:
        """Fills out [N] with the losses of one tile at all points."""
        self.stretch(coefficients, hoist(self.parts, self.chart.origin, self.chart.basis, batch), out, worker)

    def stretches(
        self, coefficients: Tensor, batch: Batch, out: Tensor, count: int
    ) -> Iterator[workers.Task]:
        """The same as ``count`` tasks, each for a stretch of the points."""
        shared = hoist(self.parts, self.chart.origin, self.chart.basis, batch)
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
        combinations = [Combination(values) for values in affine]
        for i, row in enumerate(coefficients.tolist()):
            theta.at(row)
            out[i] = self.point(*views, *(c.at(row) for c in combinations), *constant)

    def blocks(
        self, coefficients: Tensor, affine: list[list[Tensor]], constant: list[Tensor], out: Tensor
    ) -> None:
        """Blocks all have one size: the last one repeats its last point."""
        size = self.plan.points_per_pass
        for rows, losses in zip(coefficients.split(size), out.split(size), strict=True):
            full = torch.cat([rows, rows[-1:].expand(size - len(rows), -1)]) if len(rows) < size else rows
            theta = combine_block(self.theta, full)
            combined = [combine_block(values, full) for values in affine]
            if self.block is None:
                self.block = self._record_block(theta, combined, constant)
            losses.copy_(self.block(theta, *combined, *constant)[: len(rows)])

    def _record_block(
        self, theta: Tensor, combined: list[Tensor], constant: list[Tensor]
    ) -> Callable[..., Tensor]:
        """The loss at a block of points as a graph of its own, so that vmap's dispatch is paid once."""

        def at_point(theta: Tensor, *values: Tensor) -> Tensor:
            return self.parts.point(*self.parts.views(theta), *values)

        axes = (0, *(0 for _ in combined), *(None for _ in constant))
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*batching rule.*")
            block = make_fx(torch.func.vmap(at_point, in_dims=axes))(theta, *combined, *constant)
        return block if self.compile is None else self.compile(block)
