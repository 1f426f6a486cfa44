"""Where to look: directions and charts in weight space, and the panels made of them."""

from __future__ import annotations

from lla_func.geometry import _charts as chart
from lla_func.geometry import _directions as directions
from lla_func.geometry._chart import Chart, line, mesh_axes, point, summary
from lla_func.geometry._curves import CURVES, CurvePlane, bezier, chain, plane_of
from lla_func.geometry._directions import Moments
from lla_func.geometry._panels import check_panels, free_parameters, panels
from lla_func.geometry._permutations import Matching, match, permuted, random_permutations
from lla_func.geometry._recording import Recording, temporary
from lla_func.geometry._sketch import Projection, sketch
from lla_func.geometry._trajectory import Kept, Trajectory, same_layout
from lla_func.geometry._trajectory_plane import TrajectoryPlane, plane_coords, trajectory_plane

__all__ = [
    "CURVES",
    "Chart",
    "CurvePlane",
    "Kept",
    "Matching",
    "Moments",
    "Projection",
    "Recording",
    "Trajectory",
    "TrajectoryPlane",
    "bezier",
    "chain",
    "chart",
    "check_panels",
    "directions",
    "free_parameters",
    "line",
    "match",
    "mesh_axes",
    "panels",
    "permuted",
    "plane_coords",
    "plane_of",
    "point",
    "random_permutations",
    "same_layout",
    "sketch",
    "summary",
    "temporary",
    "trajectory_plane",
]
