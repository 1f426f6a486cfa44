"""What the numbers say: how sharp a minimum is, and what of a surface is more than its errors."""

from __future__ import annotations

from lla_func.assessment._average import average
from lla_func.assessment._barrier_error import with_data_error
from lla_func.assessment._contrast import contrast, difference
from lla_func.assessment._curvature_map import curvature_map
from lla_func.assessment._distances import basin, critical_lr, pac_bayes
from lla_func.assessment._kinds import SHARPNESS, check_options, options_of
from lla_func.assessment._loops import Loop
from lla_func.assessment._merge_tree import MergeTree, Pair, merge_tree, smad
from lla_func.assessment._sample_surfaces import sample_surfaces
from lla_func.assessment._surface_error import Bound
from lla_func.assessment._topology import Topology, topology
from lla_func.assessment._topology_file import load_topology, save_topology
from lla_func.assessment._worst_case import asam, asam_max, sam, sam_max

__all__ = [
    "SHARPNESS",
    "Bound",
    "Loop",
    "MergeTree",
    "Pair",
    "Topology",
    "asam",
    "asam_max",
    "average",
    "basin",
    "check_options",
    "contrast",
    "critical_lr",
    "curvature_map",
    "difference",
    "load_topology",
    "merge_tree",
    "options_of",
    "pac_bayes",
    "sam",
    "sam_max",
    "sample_surfaces",
    "save_topology",
    "smad",
    "topology",
    "with_data_error",
]
