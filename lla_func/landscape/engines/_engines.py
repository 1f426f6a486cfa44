"""Engines: ways to compute the risk at many points of a chart, all with one signature.

An engine is a function ``prepare(objective, chart, *, points_per_pass, samples_per_tile, channels_last,
memory_budget)`` that returns ``(run, plan)``. ``run`` maps coefficients [N, K] of the chart's basis, float64, to the
risk at each of the N points, float64 on the CPU; ``plan`` says how the work is cut. What can be done once for an
evaluation, the engine does in ``prepare``. Options that are None are the engine's to choose; options that do not
concern an engine it ignores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from lla_func.landscape.engines import _compiled as compiled
from lla_func.landscape.engines import _hoisted as hoisted
from lla_func.landscape.engines import _loop as loop
from lla_func.landscape.engines import _vmap as vmapped
from lla_func.landscape.engines._plan import Plan

Run = Callable[[Tensor], Tensor]
Prepare = Callable[..., tuple[Run, Plan]]

ENGINES: Mapping[str, Prepare] = {
    "loop": loop.prepare,
    "vmap": vmapped.prepare,
    "hoisted": hoisted.prepare,
    "compiled": compiled.prepare,
}
