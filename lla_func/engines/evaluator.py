"""An evaluator: one engine kept ready for a job, checked before it is trusted, replaced when it can't do it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lla_func.chart import Chart
from lla_func.engines import ENGINES, Run
from lla_func.engines.census import choose
from lla_func.engines.check import compare
from lla_func.engines.trace import TraceError
from lla_func.objective import Objective
from lla_func.plan import Plan, halved

__all__ = ["EngineFallbackWarning", "Evaluator"]


class EngineFallbackWarning(RuntimeWarning):
    """An engine could not evaluate the objective and another one took over; the losses are right all the same."""


class Evaluator:
    """The risk at any coordinates of a chart.

    Args:
        objective, chart: the job.
        engine: the name of an engine, or ``"auto"``.
        count: about how many points there will be, for ``"auto"``.
        options: the engine's ``points_per_pass``, ``samples_per_tile`` and ``memory_budget``.
        advance: called with the number of points done.

    Attributes:
        engine: the name of the engine in use.
        plan: how it cuts the work.
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
        options: Mapping[str, int | None],
        advance: Callable[[int], Any] = lambda points: None,
    ) -> None:
        self.objective = objective
        self.chart = chart
        self.asked = engine
        self.options = dict(options)
        self.advance = advance
        self.engine = engine if engine != "auto" else choose(objective, chart, count)
        self.plan = Plan(self.engine)
        self.check: dict[str, float] | None = None
        self.fallback: str | None = None
        self.evaluations = 0
        self._run: Run | None = None

    def __call__(self, coords: Tensor) -> Tensor:
        """The losses [N] at coordinates [N, C], float64 on the CPU."""
        coefficients = self.chart.coefficients(coords).to(self.chart.basis)
        losses: list[Tensor] = []
        done = 0
        while done < len(coefficients):
            try:
                if self._run is None:
                    self._run, self.plan = ENGINES[self.engine](self.objective, self.chart, **self.options)
                rows = coefficients[done : done + self.plan.chunk]
                values = self._run(rows)
                if self.engine != "loop" and self.check is None:
                    self.check = compare(self.objective, self.chart, rows, values)
            except Exception as error:
                self._recover(error)
                continue
            losses.append(values)
            done += len(rows)
            self.evaluations += len(rows)
            self.advance(len(rows))
        return torch.cat(losses)

    def _recover(self, error: Exception) -> None:
        """Makes the next attempt smaller if memory ran out, or leaves it to the loop; raises the loop's own errors."""
        smaller = halved(self.plan) if _out_of_memory(error) else None
        if smaller is not None:
            self.options |= smaller
        elif self.engine != "loop":
            self.fallback = f"engine {self.engine!r} cannot evaluate this objective ({_first_line(error)})"
            if self.asked != "auto" or not isinstance(error, TraceError):
                warnings.warn(f"{self.fallback}; the loop takes over", EngineFallbackWarning, stacklevel=4)
            self.engine = "loop"
        else:
            raise error
        self._run = None


def _out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, on an accelerator or on the CPU."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
