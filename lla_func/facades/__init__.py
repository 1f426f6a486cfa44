"""The front doors: viz_lla (around a point), viz_path (between points), connect (curves), viz_esd (Hessian)."""

from __future__ import annotations

from lla_func.facades._connect import connect
from lla_func.facades._landscape import check_request, viz_lla
from lla_func.facades._path import check_path, viz_path
from lla_func.facades._path_result import PairBarrier, PathResult, load
from lla_func.facades._result import LandscapeResult, SpectrumResult
from lla_func.facades._sharpness import sharpness
from lla_func.facades._spectrum import viz_esd
from lla_func.facades._trajectory_result import TrajectoryResult

__all__ = [
    "LandscapeResult",
    "PairBarrier",
    "PathResult",
    "SpectrumResult",
    "TrajectoryResult",
    "check_path",
    "check_request",
    "connect",
    "load",
    "sharpness",
    "viz_esd",
    "viz_lla",
    "viz_path",
]
