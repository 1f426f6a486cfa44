"""Where to look: directions and charts in weight space, and the panels made of them."""

from __future__ import annotations

from lla_func.geometry import _chart as chart
from lla_func.geometry import _directions as directions
from lla_func.geometry._chart import Chart, line, mesh_axes, summary
from lla_func.geometry._panels import Moments, panels
from lla_func.geometry._panels import check as check_panels
from lla_func.geometry._panels import free as free_parameters

__all__ = [
    "Chart",
    "Moments",
    "chart",
    "check_panels",
    "directions",
    "free_parameters",
    "line",
    "mesh_axes",
    "panels",
    "summary",
]
