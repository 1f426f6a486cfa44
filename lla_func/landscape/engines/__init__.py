"""Engines: ways to compute the risk at many points of a chart, all with one signature."""

from __future__ import annotations

from lla_func.landscape.engines._compiled import compiler
from lla_func.landscape.engines._cost import candidates
from lla_func.landscape.engines._engines import ENGINES, Run
from lla_func.landscape.engines._plan import Plan, checked, relief
from lla_func.landscape.engines._verify import agreement, tolerance, verify

__all__ = [
    "ENGINES",
    "Plan",
    "Run",
    "agreement",
    "candidates",
    "checked",
    "compiler",
    "relief",
    "tolerance",
    "verify",
]
