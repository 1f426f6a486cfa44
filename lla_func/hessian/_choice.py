"""A choice: how the products of an operator are computed, by name, so that another one can do the same to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Choice(NamedTuple):
    """How products are computed; passed as ``choice=`` for the same objective it gives the same bits.

    Attributes:
        kernel: how products are formed, one of :data:`lla_func.hessian.KERNELS`.
        rows: how many vectors of a block go through together; 1 for one after another.
        tile: the most samples in a piece of data; None where batches are not cut.
        seconds: what a product took with each kernel on the samples that it was tried on; empty where the choice was
            made without a clock.
    """

    kernel: str
    rows: int = 1
    tile: int | None = None
    seconds: Mapping[str, float] = {}
