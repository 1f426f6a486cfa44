"""Autotuning: contenders timed on the first points of the evaluation; the fastest goes on, and its results count.

The loop comes first: it is the measure of speed, and its losses are what every other contender is checked against. The
hoisted engine follows with the plan that shapes and caches suggest, then, if trying that costs little beside what is
left to do, with images laid out the other way: on one and the same processor ResNet-18 took 29 % longer with channels
innermost in memory, LeNet 18 % less. Last, in evaluations of many minutes, the fastest plan compiled.

Contenders see the same points, a few of them. A few percent of the evaluation go into finding its plan; only what the
fastest contender computed is kept, so that all losses come from one plan.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from torch import Tensor

from lla_func._torch import raise_if_interrupted
from lla_func.geometry import Chart
from lla_func.landscape.engines import ENGINES, Plan, Run, agreement, compiler, relief
from lla_func.objective import Objective

SHARE = 0.03
"""The part of the evaluation that trying another layout may take."""

TIMED = 0.005
"""The part of the evaluation's points that a contender is timed on, if these are not more than :data:`POINTS`."""

MARGIN = 0.95
"""A variant has to need less than this part of the time of the one before it, or noise would decide."""

CLOSE = 1.6
"""Before the loop is taken instead of an engine within this factor, both are timed once more."""

POINTS = 16
"""The most points that a contender is timed on."""

COMPILATION_SECONDS = 60.0
COMPILATION_SAVES = 0.2
"""What compiling costs and what it saves, about: it is tried where the saving is several times the cost."""


class Contender(NamedTuple):
    """A way to evaluate, with what it took.

    Attributes:
        plan: the engine and how it cuts the work.
        run: maps coefficients to losses. None for the loop, which is prepared anew if it wins: that costs nothing, and
            until then its storage of theta would only take memory.
        seconds: per point, of an evaluation of the length asked for.
        losses: at the points that it was timed on.
        check: the agreement with the loop, None for the loop itself.
    """

    plan: Plan
    run: Run | None
    seconds: float
    losses: Tensor
    check: dict[str, float] | None


class Outcome(NamedTuple):
    """The fastest contender, and the rates of all in the order in which they were tried."""

    best: Contender
    rates: list[dict[str, Any]]


def autotune(
    objective: Objective,
    chart: Chart,
    coefficients: Tensor,
    *,
    count: int,
    options: Mapping[str, Any],
    engines: Sequence[str] = ("hoisted",),
) -> Outcome:
    """Tries ways to evaluate and returns the fastest.

    Args:
        objective, chart: what is evaluated, and where.
        coefficients: of its first points, [n, K], at least 2.
        count: how many points there are in all.
        options: of the engines; those that are not None are not varied.
        engines: the contenders beside the loop. One that fails is out, if it is not the only one.

    Raises:
        Exception: what the only engine, or the last of those that all failed, raises if it cannot evaluate or
            disagrees with the loop.
    """
    contest = _Contest(objective, chart, coefficients, count, options)
    found: list[Contender] = []
    for engine in engines:
        try:
            found.append(contest.fastest(engine))
        except Exception as error:
            raise_if_interrupted(error)
            if engine == engines[-1] and not found:
                raise
            contest.failed(engine, error)
    best = min(found, key=_seconds)
    if best.seconds * MARGIN > contest.loop.seconds:  # the loop has to be clearly faster
        best = contest.loop
    if best.plan.engine == "hoisted" and _compiling_pays(best, count):
        try:
            run, plan = ENGINES["compiled"](objective, chart, **(dict(options) | best.plan.options()))
            best = min(best, contest.enter(run, plan), key=_seconds)
        except Exception as error:  # a compiler that fails is no reason to lose the evaluation
            raise_if_interrupted(error)
            contest.failed("compiled", error)
    return Outcome(best, [_rate(contest.loop), *contest.rates])


class _Contest:
    """The contenders so far, each against the loop.

    Attributes:
        loop: what the loop took.
        rates: of all others so far.
        size: on how many points they are timed.
    """

    def __init__(
        self, objective: Objective, chart: Chart, coefficients: Tensor, count: int, options: Mapping[str, Any]
    ) -> None:
        self.objective = objective
        self.chart = chart
        self.coefficients = coefficients
        self.count = count
        self.options = options
        self.rates: list[dict[str, Any]] = []
        self.size = max(2, min(len(coefficients), POINTS, int(TIMED * count)))
        self.loop = self._loop()

    def fastest(self, engine: str) -> Contender:
        """An engine under its own plan, or with images laid out the other way where that is open and costs little."""
        best = self._first(engine)
        vary = getattr(best.run, "vary", None) if self.options.get("channels_last") is None else None
        if vary and 3 * self.size * best.seconds > SHARE * self.count * min(best.seconds, self.loop.seconds):
            vary = None
        if vary or best.seconds * MARGIN > self.loop.seconds:
            best = self._again(best)
        if vary:
            with suppress(MemoryError):
                run, plan = vary(best.plan, channels_last=not best.plan.channels_last)
                if plan != best.plan:
                    variant = self.enter(run, plan)
                    best = variant if variant.seconds <= MARGIN * best.seconds else best
        return best

    def enter(self, run: Run, plan: Plan, *, warm: bool = True) -> Contender:
        """Times a contender and checks it against the loop; its rate is kept."""
        points = math.ceil(self.size / plan.points_per_pass) * plan.points_per_pass
        rows = self.coefficients[: max(2, points)]
        if warm:
            run(rows[:2])  # storage is allocated, kernels are looked up
        seconds, losses = _time(run, rows, count=self.count, chunk=plan.chunk)
        check = agreement(losses[:2], self.loop.losses, self.chart.origin.dtype, self.objective.measures)
        contender = Contender(plan, run, seconds, losses, check)
        self.rates.append(_rate(contender))
        return contender

    def failed(self, engine: str, error: Exception) -> None:
        """Notes that an engine is out."""
        self.rates.append({"engine": engine, "failed": type(error).__name__})

    def _loop(self) -> Contender:
        run, plan = ENGINES["loop"](self.objective, self.chart)
        seconds, losses = _time(run, self.coefficients[:2], count=self.count, chunk=plan.chunk)
        return Contender(plan, None, seconds, losses, None)

    def _first(self, engine: str) -> Contender:
        """An engine under its own plan, or one that fits into memory."""
        options = dict(self.options)
        while True:
            run, plan = ENGINES[engine](self.objective, self.chart, **options)
            try:
                return self.enter(run, plan, warm=False)
            except Exception as error:
                smaller = relief(plan, error)
                if smaller is None:
                    raise
                options |= smaller

    def _again(self, first: Contender) -> Contender:
        """The contender timed once more, and if it is close the loop as well: noise, and what first calls cost."""
        assert first.run is not None
        rows = self.coefficients[: len(first.losses)]
        seconds, _ = _time(first.run, rows, count=self.count, chunk=first.plan.chunk)
        first = first._replace(seconds=min(first.seconds, seconds))
        self.rates[-1] = _rate(first)
        if self.loop.seconds < first.seconds < CLOSE * self.loop.seconds:
            self.loop = min(self.loop, self._loop(), key=_seconds)
        return first


def _seconds(contender: Contender) -> float:
    return contender.seconds


def _time(run: Run, rows: Tensor, *, count: int, chunk: int) -> tuple[float, Tensor]:
    """Seconds a point in an evaluation of ``count`` points, and the losses.

    What a call computes once for all its points is spread over as many points as a call will have.
    """
    start = time.perf_counter()
    losses = run(rows)
    seconds = time.perf_counter() - start
    shared = getattr(run, "seconds_shared", 0.0)
    return (seconds - shared) / len(rows) + shared / min(chunk, count), losses


def _compiling_pays(best: Contender, count: int) -> bool:
    left = count * best.seconds
    return compiler() is not None and COMPILATION_SAVES * left > 2 * COMPILATION_SECONDS


def _rate(contender: Contender) -> dict[str, Any]:
    plan = contender.plan
    return {
        "engine": plan.engine,
        "samples_per_tile": plan.samples_per_tile,
        "points_per_pass": plan.points_per_pass,
        "channels_last": plan.channels_last,
        "seconds_per_point": contender.seconds,
    }
