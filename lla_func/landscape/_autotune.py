"""Autotuning: contenders timed on the first points of the evaluation; the fastest goes on, and its results count.

Which way to cut the work is fastest depends on the machine as much as on the evaluation: on one and the same processor
ResNet-18 took 29 % longer with channels innermost in memory, LeNet 18 % less. So nothing is assumed. The loop comes
first: it is the measure of speed, and its losses are what every other contender is checked against. The hoisted engine
follows with the plan that shapes and caches suggest, then variants of that plan, one change at a time, as long as
trying them costs little beside what is left to do. Last, in evaluations of many minutes, the fastest plan compiled.

Contenders see the same points, a few of them. A few percent of the evaluation go into finding its plan; only what the
fastest contender computed is kept, so that all losses come from one plan.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from lla_func._torch import raise_if_interrupted
from lla_func.geometry import Chart
from lla_func.landscape.engines import ENGINES, Plan, Run, agreement, compiler, relief
from lla_func.objective import Objective

Change = Mapping[str, Any]
"""An option of the engine and its new value."""

SHARE = 0.03
"""The part of the evaluation that trying variants may take."""

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
        spent: seconds that went into variants.
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
        self.spent = 0.0
        self.loop = self._loop()

    def fastest(self, engine: str) -> Contender:
        """The best plan of an engine, as far as trying costs little."""
        start = time.perf_counter()
        best = self._first(engine)
        recording = time.perf_counter() - start

        def affordable(change: Change, now: Contender) -> bool:
            needed = 3 * self.size * now.seconds + (0.0 if "channels_last" in change else recording)
            return self.spent + needed <= SHARE * self.count * min(now.seconds, self.loop.seconds)

        vary = getattr(best.run, "vary", None)
        varied = vary and any(affordable(change, best) for change in _changes(best.plan, self.options))
        if varied or best.seconds * MARGIN > self.loop.seconds:
            best = self._again(best)
        return self._varied(best, vary, affordable) if vary and varied else best

    def enter(self, run: Run, plan: Plan, *, warm: bool = True) -> Contender:
        """Times a contender and checks it against the loop; its rate is kept."""
        points = math.ceil(self.size / plan.points_per_pass) * plan.points_per_pass
        rows = self.coefficients[: max(2, points)]
        if warm:
            run(rows[:2])  # storage is allocated, kernels are looked up
        seconds, losses = _time(run, rows, count=self.count, chunk=plan.chunk)
        check = agreement(losses[:2], self.loop.losses, self.chart.origin.dtype)
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

    def _varied(
        self,
        best: Contender,
        vary: Callable[..., tuple[Run, Plan]],
        affordable: Callable[[Change, Contender], bool],
    ) -> Contender:
        """The fastest plan that is reached by single changes, each followed as far as it helps."""
        for first in _changes(best.plan, self.options):
            change: Change | None = first
            while change is not None and affordable(change, best):
                start = time.perf_counter()
                try:
                    run, plan = vary(best.plan, **change)
                except MemoryError:
                    break
                if plan == best.plan:
                    break
                variant = self.enter(run, plan)
                self.spent += time.perf_counter() - start
                if variant.seconds > MARGIN * best.seconds:
                    break
                best, change = variant, _further(variant.plan, change)
        return best


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


def _changes(plan: Plan, options: Mapping[str, Any]) -> Iterator[Change]:
    """First steps away from a plan, in what the caller left open."""
    if options.get("channels_last") is None:
        yield {"channels_last": not plan.channels_last}
    if options.get("samples_per_tile") is None and plan.samples_per_tile is not None:
        yield {"samples_per_tile": 2 * plan.samples_per_tile}
        yield {"samples_per_tile": max(1, plan.samples_per_tile // 2)}
    if options.get("points_per_pass") is None and plan.points_per_pass > 1:
        yield {"points_per_pass": 2 * plan.points_per_pass}
        yield {"points_per_pass": plan.points_per_pass // 2}


def _further(plan: Plan, change: Change) -> Change | None:
    """One more step in the same direction, if there is one."""
    ((name, value),) = change.items()
    if name == "channels_last":
        return None
    now = getattr(plan, name)
    return {name: value * 2 if value >= now else value // 2} if value > 1 else None


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
