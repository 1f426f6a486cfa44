"""The plan: how the points and samples of an evaluation are cut into pieces, from the sizes of what is computed.

:func:`make_plan` needs no clock: its plan follows from shapes, the processor's caches and the number of threads. What
it cannot know, autotuning on its own points finds out (:mod:`lla_func.landscape._autotune`). Rounding depends on how
work is cut, so a plan can be kept and followed again, which gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch

from lla_func._torch import cache_size, free_memory, out_of_memory
from lla_func.errors import one_of, positive_int
from lla_func.graph import Sizes

WEIGHT_SHARE = 16
"""Values computed from a tile should be this many times larger than the parameters read for it."""

IN_CACHE = 2
"""The largest value of a tile may be this many times a core's own cache; smaller operations are mostly overhead."""

KEEP_BYTES = 2**25
"""Up to this size of theta its partial sums are kept, and every worker has a theta of its own.

A larger one is streamed from memory by each operation that reads it. One worker with all threads is then as fast as
several, and takes less memory.
"""

LOCKED_BYTES = 2**17
"""Where an operation moves fewer bytes than this, a second worker would mostly wait for Python's global lock."""

FEWEST_IN_PASS = 8
"""Fewer points in a pass save less than recording them together takes."""

CHUNK = 256
"""Points in one call of an engine that prepares each tile of data: enough that the preparation does not count."""

LARGEST = 2**31
"""No evaluation has more samples or points than this; what asks for more is damaged."""

BUDGET_SHARE = 0.25
"""The part of the free memory that is taken if no budget is given."""


class Limits(NamedTuple):
    """What counts as small on a device, in bytes.

    Attributes:
        cache: of a core, or of the whole device.
        calling: where an operation moves less, calling it takes longer than what it does, even a convolution.
        shared: points with values smaller than this share a pass, so that computing takes long beside calling.
        free: memory that may be used.
    """

    cache: int
    calling: int
    shared: int
    free: int


class Plan(NamedTuple):
    """How an evaluation is cut.

    Attributes:
        engine: the engine's name.
        workers: how many independent threads work on it.
        samples_per_tile: the most samples computed together; None for whole batches.
        points_per_pass: how many points share each operation.
        keep: whether partial sums of affine values are kept (faster along a row of a grid, takes memory).
        chunk: how many points one call of the engine should get.
        bytes: the estimated peak memory beyond the data and the chart; 0 if unknown.
        channels_last: whether images have their channels innermost in memory.
    """

    engine: str
    workers: int = 1
    samples_per_tile: int | None = None
    points_per_pass: int = 1
    keep: bool = True
    chunk: int = 1
    bytes: int = 0
    channels_last: bool = False

    def options(self) -> dict[str, Any]:
        """What an engine is told so that it cuts the work in this way."""
        return {
            "samples_per_tile": self.samples_per_tile,
            "points_per_pass": self.points_per_pass,
            "channels_last": self.channels_last,
        }


def checked(plan: Plan | Mapping[str, Any], engines: Iterable[str]) -> Plan:
    """The plan that a plan or a mapping of its entries describes, if it can be followed.

    Args:
        plan: from anywhere: an earlier landscape, a file, written by hand.
        engines: the names of those that there are.

    Raises:
        ValueError, TypeError: it is no plan; the entry that is wrong is named.

    Example:
        >>> checked({"engine": "vmap", "points_per_pass": 16}, ["loop", "vmap"]).points_per_pass
        16
        >>> checked({"engine": "rm"}, ["loop", "vmap"])
        Traceback (most recent call last):
        ...
        ValueError: plan['engine']='rm' is not one of 'loop', 'vmap'
    """
    if isinstance(plan, Mapping):
        if unknown := sorted(map(str, set(plan) - set(Plan._fields))):
            raise ValueError(f"plan has unknown entries {unknown}; a plan has {', '.join(Plan._fields)}")
        if "engine" not in plan:
            raise ValueError(f"plan has no engine; a plan has {', '.join(Plan._fields)}")
        plan = Plan(**plan)
    if not isinstance(plan, Plan):
        raise TypeError(f"plan={plan!r} is not a plan; pass the diagnostics['plan'] of a landscape")
    one_of("plan['engine']", plan.engine, engines)
    for name in ("workers", "samples_per_tile", "points_per_pass", "chunk"):
        value = getattr(plan, name)
        if name == "samples_per_tile" and value is None:
            continue
        if positive_int(f"plan['{name}']", value) > LARGEST:
            raise ValueError(f"plan['{name}']={value!r} is too large; {LARGEST} is the most")
    positive_int("plan['bytes']", plan.bytes, least=0)
    for name in ("keep", "channels_last"):
        if not isinstance(getattr(plan, name), bool):
            raise TypeError(f"plan['{name}']={getattr(plan, name)!r} is not True or False")
    return plan


def make_plan(
    sizes: Sizes,
    *,
    batch: int,
    directions: int,
    separable: bool,
    workers: int,
    engine: str = "hoisted",
    samples_per_tile: int | None = None,
    points_per_pass: int | None = None,
    channels_last: bool = False,
    memory_budget: int | None = None,
    limits: Limits,
) -> Plan:
    """The plan for an evaluation, without autotuning.

    Args:
        sizes: what a sample and a point need.
        batch: samples in a batch.
        directions: K, the number of basis vectors.
        separable: whether batches may be cut.
        workers: the most workers to use.
        engine: the name of the engine.
        samples_per_tile, points_per_pass: taken as given if not None.
        channels_last: how images lie in memory; part of the plan.
        memory_budget: bytes; by default a share of what is free.
        limits: of the device (:func:`limits_of`).

    Raises:
        MemoryError: one worker on the smallest possible tile needs more than the budget.

    Example:
        >>> sizes = Sizes(largest=4096, live=16384, total=32768, affine=0, theta=10000, operations=9, blocks=False)
        >>> limits = Limits(cache=2**19, calling=2**12, shared=2**22, free=2**34)
        >>> make_plan(sizes, batch=2048, directions=2, separable=True, workers=2, limits=limits).samples_per_tile
        256
    """
    budget = memory_budget if memory_budget is not None else int(BUDGET_SHARE * limits.free)
    keep = sizes.theta <= KEEP_BYTES
    tile = batch
    if separable:
        if samples_per_tile is not None:
            tile = math.ceil(batch / math.ceil(batch / min(samples_per_tile, batch)))
        else:
            worth_reading = WEIGHT_SHARE * sizes.theta / max(sizes.total, 1)
            tile = even_tile(batch, sizes.largest, limits.cache, least=worth_reading)
    calls = max(sizes.operations, 1)
    points = points_per_pass or 1
    if points_per_pass is None and (sizes.blocks or sizes.total * tile < limits.calling * calls):
        fitting = limits.shared / max(sizes.largest * tile + sizes.theta, 1)
        points = 2 ** round(math.log2(min(64.0, max(1.0, fitting))))  # a divisor of CHUNK
        points = points if points >= FEWEST_IN_PASS else 1
    if sizes.theta > KEEP_BYTES or (sizes.total * tile + sizes.theta) * points < LOCKED_BYTES * calls:
        workers = 1

    def needed(tile: int, points: int, workers: int) -> int:
        tilewise = workers if batch >= 2 * workers * tile else 1
        per_sample = (directions + 1) * sizes.affine * tilewise
        sums = directions if keep else 1
        per_sample += workers * (sizes.live + (sums if points == 1 else 0) * sizes.affine) * points
        per_point = workers * sizes.theta * max(points, sums)
        return int(tile * per_sample + per_point)

    while needed(tile, points, workers) > budget:
        if points > 1 and points_per_pass is None:
            points //= 2
        elif separable and tile > 1 and samples_per_tile is None:
            tile = math.ceil(tile / 2)
        elif keep:
            keep = False
        elif workers > 1:
            workers -= 1
        else:
            raise MemoryError(
                f"memory_budget={budget} bytes is too small: the smallest pass takes about "
                f"{needed(tile, points, workers)} bytes"
            )
    size = tile if separable else None
    return Plan(engine, workers, size, points, keep, CHUNK, needed(tile, points, workers), channels_last)


def limits_of(device: torch.device) -> Limits:
    """The limits of a device.

    Those of accelerators are estimates, not measured: in the 5 microseconds that it takes to start a kernel, memory of
    2 TB/s moves 10 MB.
    """
    if device.type == "cpu":
        return Limits(cache=cache_size(), calling=2**12, shared=2**22, free=free_memory(device))
    return Limits(cache=2**25, calling=2**23, shared=2**28, free=free_memory(device))


def even_tile(batch: int, largest: float, cache: int, *, least: float = 0.0) -> int:
    """The samples in a tile, if tiles share a batch evenly and their largest value about fits the cache.

    Args:
        batch: samples in a batch.
        largest: bytes of the largest value, for one sample.
        cache: bytes of a core's own cache.
        least: samples that a tile should have in any case.

    Example:
        >>> even_tile(2048, 4096, 2**19)
        256
    """
    wanted = max(8, IN_CACHE * cache / max(largest, 1), least)
    return math.ceil(batch / max(1, round(batch / wanted)))


def halved(plan: Plan) -> dict[str, int] | None:
    """The options for a plan that takes about half the memory, or None if there is nothing left to halve."""
    if plan.points_per_pass > 1:
        return {"points_per_pass": plan.points_per_pass // 2}
    if plan.samples_per_tile is not None and plan.samples_per_tile > 1:
        return {"samples_per_tile": plan.samples_per_tile // 2}
    return None


def relief(plan: Plan, error: Exception) -> dict[str, int] | None:
    """The options to try again with if an error says that memory ran out, None if that would not help."""
    return halved(plan) if out_of_memory(error) else None
