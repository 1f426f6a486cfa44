"""The grid: losses at any number of points of a chart."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Landscape", "axes", "surface"]


class Landscape(NamedTuple):
    """The losses at points of a chart.

    Attributes:
        coords: coordinates, [N, C] float64 on the CPU.
        losses: the risk at each point, [N] float64 on the CPU; NaN or infinite where the model gives that.
        chart: the chart's summary (:func:`lla_func.chart.summary`).
        diagnostics: how the numbers came about: ``engine``, ``points_per_pass``, ``seconds``, ``nonfinite`` (the count
            of such losses), ``fallback`` (why another engine than the one asked for was taken, or None), and the
            objective's notes such as ``batchnorm``.
        center: the loss at the chart's center, NaN if it was not evaluated.
    """

    coords: Tensor
    losses: Tensor
    chart: dict[str, Any]
    diagnostics: dict[str, Any]
    center: float = float("nan")


def axes(landscape: Landscape) -> tuple[Tensor, ...]:
    """The C axes of a landscape that was evaluated on a mesh, each sorted and float64.

    Raises:
        ValueError: the coordinates are not a full mesh.
    """
    columns = tuple(torch.unique(column) for column in landscape.coords.T)
    sizes = [len(column) for column in columns]
    if torch.Size(sizes).numel() == len(landscape.coords):
        grids = torch.meshgrid(*columns, indexing="ij")
        if torch.equal(torch.stack([grid.reshape(-1) for grid in grids], dim=1), landscape.coords):
            return columns
    raise ValueError(
        f"coords [{len(landscape.coords)}, {len(columns)}] is not a mesh of {sizes} values; use chart.mesh"
    )


def surface(landscape: Landscape) -> Tensor:
    """The losses of a mesh as an array with one axis for each coordinate: [steps, steps] for a plane."""
    return landscape.losses.reshape([len(axis) for axis in axes(landscape)])
