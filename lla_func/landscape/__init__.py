"""Values on a chart: evaluated by the fastest engine, sampled, and kept on disk."""

from __future__ import annotations

from lla_func.landscape import _store as store
from lla_func.landscape._barrier import Barrier, barrier
from lla_func.landscape._chebyshev import interpolate, nodes
from lla_func.landscape._curvature import Curvature, measured_curvature
from lla_func.landscape._directions import directions_of
from lla_func.landscape._evaluate import evaluate, planned
from lla_func.landscape._evaluator import EngineFallbackWarning
from lla_func.landscape._job import directory, load_landscape
from lla_func.landscape._landscape import Landscape, axes, chosen, describe, surface
from lla_func.landscape._manifest import MANIFEST
from lla_func.landscape._manifest import read as read_manifest
from lla_func.landscape._variation import variation

__all__ = [
    "MANIFEST",
    "Barrier",
    "Curvature",
    "EngineFallbackWarning",
    "Landscape",
    "axes",
    "barrier",
    "chosen",
    "describe",
    "directions_of",
    "directory",
    "evaluate",
    "interpolate",
    "load_landscape",
    "measured_curvature",
    "nodes",
    "planned",
    "read_manifest",
    "store",
    "surface",
    "variation",
]
