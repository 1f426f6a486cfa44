"""The compiled engine: what the hoisted engine does at each point, fused by ``torch.compile``.

Compilation takes tens of seconds on a CPU, so it pays in evaluations of many minutes; only there autotuning takes it
up. It needs a C++ compiler; without one the hoisted engine runs the same graph as it is. On accelerators, which it is
meant for, nothing has been measured yet.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lla_func.geometry import Chart
from lla_func.landscape.engines import _hoisted as hoisted
from lla_func.landscape.engines._plan import Plan
from lla_func.objective import Objective


def prepare(objective: Objective, chart: Chart, **options: Any) -> tuple[Callable[[Tensor], Tensor], Plan]:
    """The hoisted engine with its graphs compiled: blocks of points are batched first, then compiled."""
    if compiler() is None:
        return hoisted.prepare(objective, chart, **options)
    fused = partial(torch.compile, dynamic=False)
    run, plan = hoisted.prepare(objective, chart, **options, compile=fused)
    return run, plan._replace(engine="compiled")


def compiler() -> str | None:
    """The C++ compiler that torch would use, or None."""
    return next(
        (
            path
            for name in (os.environ.get("CXX"), "c++", "g++", "clang++")
            if name and (path := shutil.which(name))
        ),
        None,
    )
