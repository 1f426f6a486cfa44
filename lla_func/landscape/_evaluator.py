"""An evaluator: one engine kept ready, checked before it is trusted, replaced when it cannot do the work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lla_func._torch import raise_if_interrupted
from lla_func.geometry import Chart
from lla_func.graph import RecordingError
from lla_func.landscape import _autotune
from lla_func.landscape.engines import ENGINES, Plan, Run, candidates, relief, verify
from lla_func.objective import Objective, row_shape


class EngineFallbackWarning(RuntimeWarning):
    """An engine could not evaluate the objective and another one took over; the losses are right all the same."""


class Evaluator:
    """The risk at any coordinates of a chart.

    Args:
        objective, chart: what is evaluated, and where.
        engine: the name of an engine, or ``"auto"``.
        count: about how many points there will be, for ``"auto"``.
        options: the engine's ``points_per_pass``, ``samples_per_tile``, ``channels_last`` and ``memory_budget``.
        plan: a plan to follow exactly; then engine and options do not count, but for the budget.
        advance: called with the number of points done.

    Attributes:
        engine: the name of the engine in use.
        plan: how it cuts the work.
        rates: what the contenders of autotuning took, in seconds a point; empty if there was none.
        check: its agreement with the loop, or None if there was nothing to check.
        fallback: why another engine than the one asked for is in use, or None.
        evaluations: how many points were computed.
    """

    def __init__(
        self,
        objective: Objective,
        chart: Chart,
        *,
        engine: str,
        count: int,
        options: Mapping[str, Any],
        plan: Plan | None = None,
        advance: Callable[[int], Any] | None = None,
    ) -> None:
        self.objective = objective
        self.chart = chart
        self.count = count
        self.options = dict(options)
        self.advance = advance or (lambda points: None)
        self.rates: list[dict[str, Any]] = []
        self.follow(plan or Plan(engine))
        if plan is None:  # what the options leave open is the engine's to choose
            self.options = dict(options)

    def follow(self, plan: Plan) -> None:
        """Follows a plan exactly from here on; nothing of what was done before counts."""
        self.asked = self.engine = plan.engine
        self.plan = plan
        self.options |= plan.options()
        self.check: dict[str, float] | None = None
        self.fallback: str | None = None
        self.evaluations = 0
        self._run: Run | None = None
        self._known: tuple[Tensor, Tensor] | None = None  # what autotuning computed: coefficients and losses

    def proven(self, coords: Tensor) -> tuple[Plan, list[dict[str, Any]]]:
        """The plan that serves these points, tried on two of them, and the rates of autotuning."""
        self.decide(coords)
        self(coords[:2])
        return self.plan, self.rates

    def decide(self, coords: Tensor) -> None:
        """Decides on engine and plan, by autotuning on the first of these points where that is worth it."""
        if self.engine != "auto":
            return
        contenders, tuning_pays = candidates(self.objective, self.chart, self.count)
        self.engine = contenders[0]
        rows = self._coefficients(coords[: 4 * _autotune.POINTS])
        if not tuning_pays or len(rows) < 2:
            return
        try:
            best, self.rates = _autotune.autotune(
                self.objective, self.chart, rows, count=self.count, options=self.options, engines=contenders
            )
        except Exception as error:
            self._recover(error)
            return
        self.engine, self._run, self.plan, self.check = best.plan.engine, best.run, best.plan, best.check
        self.options |= best.plan.options()
        self._known = rows[: len(best.losses)], best.losses

    def __call__(self, coords: Tensor) -> Tensor:
        """The losses [N] at coordinates [N, C], float64 on the CPU; rows [N, width] of an objective that measures."""
        self.decide(coords)
        coefficients = self._coefficients(coords)
        measures = self.objective.measures
        losses = torch.empty(len(coefficients), *row_shape(measures), dtype=torch.float64)
        done = self._first(coefficients, losses)
        while done < len(coefficients):
            try:
                if self._run is None:
                    self._run, self.plan = ENGINES[self.engine](self.objective, self.chart, **self.options)
                rows = coefficients[done : done + self.plan.chunk]
                values = self._run(rows)
                if self.engine != "loop" and self.check is None:
                    self.check = verify(self.objective, self.chart, rows, values)
            except Exception as error:
                self._recover(error)
                continue
            losses[done : done + len(rows)] = values
            done += len(rows)
            self.evaluations += len(rows)
            self.advance(len(rows))
            raise_if_interrupted()
        return losses

    def _coefficients(self, coords: Tensor) -> Tensor:
        """In float64 whatever the dtype of theta, whose steps may be coarser than those of the grid."""
        return self.chart.coefficients(coords).to(self.chart.basis.device, torch.float64)

    def _first(self, coefficients: Tensor, losses: Tensor) -> int:
        """Fills in what the fastest contender computed, if these points begin with it; returns how many they are."""
        if self._known is None:
            return 0
        rows, values = self._known
        self._known = None
        size = len(rows) // self.plan.points_per_pass * self.plan.points_per_pass
        if size == 0 or not torch.equal(coefficients[:size], rows[:size]):
            return 0
        losses[:size] = values[:size]
        self.evaluations += size
        self.advance(size)
        return size

    def _recover(self, error: Exception) -> None:
        """Makes the next attempt smaller if memory ran out, or leaves it to the loop; raises the loop's own errors."""
        raise_if_interrupted(error)
        smaller = relief(self.plan, error)
        if smaller is not None:
            self.options |= smaller
        elif self.engine != "loop":
            reason = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
            self.fallback = f"engine {self.engine!r} cannot evaluate this objective ({reason})"
            if self.asked != "auto" or not isinstance(error, RecordingError):
                warnings.warn(f"{self.fallback}; the loop takes over", EngineFallbackWarning, stacklevel=4)
            self.engine = "loop"
        else:
            raise error
        self._run = None
