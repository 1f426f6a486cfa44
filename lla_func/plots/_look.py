"""What pictures of landscapes have in common: their options, the axes of the mesh and the names on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lla_func.landscape import Landscape, chosen
from lla_func.landscape import axes as axes_of
from lla_func.plots._scale import CMAP, STEPS, Scale, scale_of


@dataclass(frozen=True)
class Look:
    """The options of every picture of a landscape.

    Attributes:
        cap: losses above it are drawn as capped, flat and gray. None draws all.
        log: whether heights and colors are logarithmic; losses that are not positive are holes then.
        limits: the smallest and largest loss of the heights and colors, so that pictures can share them.
        title: a line above the picture.
        cmap: a matplotlib color map.
        legend: whether to name the center, the capped region and the holes under the picture.
        colorbar: whether to draw the color bar of a surface or a contour plot.
        metric: the value that is drawn instead of the loss (:func:`lla_func.landscape.chosen`).
    """

    cap: float | None = None
    log: bool = False
    limits: tuple[float, float] | None = None
    title: str | None = None
    cmap: str = CMAP
    legend: bool = True
    colorbar: bool = True
    metric: str | tuple[str, int] | None = None

    def shown(self, landscape: Landscape) -> tuple[Landscape, Scale]:
        """The landscape of the value that is drawn, and its scale."""
        drawn = chosen(landscape, self.metric)
        return drawn, self.scale(drawn)

    def scale(self, *landscapes: Landscape) -> Scale:
        """The scale on which landscapes are drawn."""
        return scale_of(*landscapes, cap=self.cap, log=self.log, limits=self.limits, cmap=self.cmap)


def drawn_axes(landscape: Landscape, dim: int, function: str) -> list[np.ndarray]:
    """The axes of a mesh with ``dim`` coordinates; other landscapes are refused in the name of ``function``."""
    count = landscape.coords.shape[1]
    if count != dim:
        other = {1: "use profile", 2: "use surface3d or contour", 3: "use slices and panel"}
        raise ValueError(
            f"{function} needs a landscape with {dim} coordinate{'s' * (dim > 1)}, this one has {count}; "
            f"{other.get(count, 'nothing here draws it')}"
        )
    axes = [axis.numpy() for axis in axes_of(landscape)]
    sizes = [len(axis) for axis in axes]
    if min(sizes) < 2:
        raise ValueError(f"{function} needs two values or more along each axis, there are {sizes}")
    return axes


def axis_labels(landscape: Landscape) -> list[str]:
    """A name for each coordinate."""
    names = landscape.chart.get("labels") or []
    return list(names) or [f"coordinate {i + 1}" for i in range(landscape.coords.shape[1])]


def name_axes(ax: Any, landscape: Landscape, title: str | None) -> None:
    """Labels the coordinates' axes, with few round ticks on each."""
    from matplotlib.ticker import MaxNLocator

    for name, label in zip("xy", axis_labels(landscape), strict=False):
        getattr(ax, f"set_{name}label")(label)
        getattr(ax, f"{name}axis").set_major_locator(MaxNLocator(5, steps=STEPS))
    if title is not None:
        ax.set_title(title, pad=-2.0 if ax.name == "3d" else None)
