"""The compiled engine: what the hoisted engine does at each point, fused by ``torch.compile``.

Compilation takes tens of seconds on a CPU, so it pays in evaluations of many minutes; only there autotuning takes it
up. It needs a C++ compiler; without one the hoisted engine runs the same graph as it is.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from lla_func.geometry import Chart
from lla_func.landscape.engines import _hoisted as hoisted
from lla_func.landscape.engines._plan import Plan
from lla_func.objective import Objective


def prepare(
    objective: Objective,
    chart: Chart,
    *,
    points_per_pass: int | None = None,
    samples_per_tile: int | None = None,
    channels_last: bool | None = None,
    memory_budget: int | None = None,
) -> tuple[Callable[[Tensor], Tensor], Plan]:
    """The hoisted engine with its graphs compiled: blocks of points are batched first, then compiled."""
    possible = compiler() is not None and hasattr(torch, "compile")
    run, plan = hoisted.prepare(
        objective,
        chart,
        points_per_pass=points_per_pass,
        samples_per_tile=samples_per_tile,
        channels_last=channels_last,
        memory_budget=memory_budget,
        compile=partial(torch.compile, dynamic=False) if possible else None,
    )
    return run, plan._replace(engine="compiled" if possible else "hoisted")


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
