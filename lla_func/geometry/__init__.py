"""Where to look: directions and charts in weight space, and the panels made of them."""

from __future__ import annotations

from lla_func.geometry import _charts as chart
from lla_func.geometry import _directions as directions
from lla_func.geometry._chart import Chart, line, mesh_axes, point, summary
from lla_func.geometry._directions import Moments
from lla_func.geometry._panels import check_panels, free_parameters, panels

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
    "point",
    "summary",
]
