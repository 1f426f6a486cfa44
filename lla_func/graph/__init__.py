"""A loss as a program: recorded, split into what is affine in theta and what is not, rewritten, and generated."""

from __future__ import annotations

from lla_func.graph._affine import RULES
from lla_func.graph._codegen import program
from lla_func.graph._inplace import reuse
from lla_func.graph._linearize import DenseZeros, linearize
from lla_func.graph._loss import signature
from lla_func.graph._partition import Sizes, Split, footprint, hoist, split
from lla_func.graph._record import TraceError, record

__all__ = [
    "RULES",
    "DenseZeros",
    "Sizes",
    "Split",
    "TraceError",
    "footprint",
    "hoist",
    "linearize",
    "program",
    "record",
    "reuse",
    "signature",
    "split",
]
