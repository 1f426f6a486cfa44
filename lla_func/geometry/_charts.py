"""All charts under one name: ``from lla_func import chart``."""

from __future__ import annotations

from lla_func.geometry._chart import (
    Chart,
    adameq,
    line,
    mesh,
    mesh_axes,
    plane,
    point,
    span,
    summary,
    volume,
)
from lla_func.geometry._curves import bezier, chain
from lla_func.geometry._interpolation import (
    linear_interpolation,
    planar_interpolation,
    polygonal_chain,
    spatial_interpolation,
)

__all__ = [
    "Chart",
    "adameq",
    "bezier",
    "chain",
    "line",
    "linear_interpolation",
    "mesh",
    "mesh_axes",
    "planar_interpolation",
    "plane",
    "point",
    "polygonal_chain",
    "span",
    "spatial_interpolation",
    "summary",
    "volume",
]
