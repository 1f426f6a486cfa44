"""A loss as a program: recorded, partitioned into what is affine in theta and what is not, rewritten, and generated."""

from __future__ import annotations

from lla_func.graph._affine import RULES
from lla_func.graph._codegen import generate
from lla_func.graph._linearize import DenseZeros, linearize
from lla_func.graph._loss import signature
from lla_func.graph._partition import Partition, Sizes, footprint, hoist, partition
from lla_func.graph._record import Recording, RecordingError, belongs_to, record
from lla_func.graph._symmetry import Factor, Symmetry, UnknownOperationError, symmetry

__all__ = [
    "RULES",
    "DenseZeros",
    "Factor",
    "Partition",
    "Recording",
    "RecordingError",
    "Sizes",
    "Symmetry",
    "UnknownOperationError",
    "belongs_to",
    "footprint",
    "generate",
    "hoist",
    "linearize",
    "partition",
    "record",
    "signature",
    "symmetry",
]
