"""Engines: ways to compute the risk at many points of a chart, all with one signature.

An engine is a function ``prepare(objective, chart, *, points_per_pass) -> run`` whose result maps coefficients [N, K]
of the chart's basis to the risk at each of the N points, float64 on the CPU. What can be done once for a job, the
engine does in ``prepare``. ``points_per_pass`` bounds how many points it works on together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from lla_func.chart import Chart
from lla_func.engines import loop, vmapped
from lla_func.objective import Objective

__all__ = ["ENGINES", "Engine"]

Run = Callable[[Tensor], Tensor]


class Engine(Protocol):
    """The signature that all engines share."""

    def __call__(self, objective: Objective, chart: Chart, *, points_per_pass: int) -> Run: ...


ENGINES: Mapping[str, Engine] = {"loop": loop.prepare, "vmap": vmapped.prepare}
