"""A loss as a program: recorded, partitioned into what is affine in theta and what is not, rewritten, and generated."""

from __future__ import annotations

from lla_func.graph._affine import RULES, VIEWS
from lla_func.graph._codegen import generate
from lla_func.graph._inplace import make_inplace
from lla_func.graph._linearize import DenseZeros, linearize
from lla_func.graph._loss import record_named, signature
from lla_func.graph._partition import Partition, Sizes, footprint, hoist, partition
from lla_func.graph._piecewise import Cut, cut, cut_at_output
from lla_func.graph._record import Recording, RecordingError, belongs_to, record
from lla_func.graph._symmetry import Factor, Symmetry, UnknownOperationError, symmetry

__all__ = [
    "RULES",
    "VIEWS",
    "Cut",
    "DenseZeros",
    "Factor",
    "Partition",
    "Recording",
    "RecordingError",
    "Sizes",
    "Symmetry",
    "UnknownOperationError",
    "belongs_to",
    "cut",
    "cut_at_output",
    "footprint",
    "generate",
    "hoist",
    "linearize",
    "make_inplace",
    "partition",
    "record",
    "record_named",
    "signature",
    "symmetry",
]
