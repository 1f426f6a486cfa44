"""Pictures of landscapes and spectra, alone and side by side.

Every function that draws takes the Axes to draw in, or makes a figure of its own, and returns the Axes
(``panel`` the figure). None touches pyplot's global state: its current figure, its backend, rcParams.
matplotlib is imported only when something is drawn.

All pictures of landscapes show in one way what is special: the centre is a marked point, losses that are not
finite are holes, and losses above ``cap`` are flat and grey. None of these is silent: a legend names them.

Example:
    >>> import torch
    >>> from lla_func import chart
    >>> axis = torch.linspace(-1, 1, 5)
    >>> coords = chart.mesh(axis, axis)
    >>> bowl = Landscape(coords, coords.square().sum(dim=1), {"center": [0.0, 0.0]}, {}, center=0.0)
    >>> contour(bowl, title="a bowl").get_title()
    'a bowl'
    >>> figure = panel([bowl, bowl], ["from above", "twice"], style="contour")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lla_func.errors import one_of, positive_int
from lla_func.landscape import Landscape
from lla_func.plots._files import new_figure, save, show
from lla_func.plots._scale import CMAP, add_colorbar, keys, scale_of
from lla_func.plots._spectrum import density
from lla_func.plots._surface import axis_labels, contour, mesh_axes, profile, quadratic_overlay, surface3d

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "contour",
    "density",
    "panel",
    "profile",
    "quadratic_overlay",
    "save",
    "show",
    "slices",
    "surface3d",
]

# what draws one picture, and its width and height in inches
STYLES: dict[str, tuple[Callable[..., Any], float, float]] = {
    "surface3d": (surface3d, 4.0, 3.5),
    "contour": (contour, 3.6, 3.3),
    "profile": (profile, 3.8, 2.7),
}


def panel(
    landscapes: Sequence[Landscape],
    titles: Sequence[str],
    *,
    columns: int = 2,
    style: str = "surface3d",
    shared: bool = True,
    title: str | None = None,
    cap: float | None = None,
    log: bool = False,
    cmap: str = CMAP,
    **options: Any,
) -> Figure:
    """Draws several landscapes side by side.

    Args:
        landscapes: what to draw.
        titles: one above each picture.
        columns: pictures in a row.
        style: ``"surface3d"``, ``"contour"`` or ``"profile"``.
        shared: whether all have one scale of heights and colours, with one colour bar; otherwise each its
            own.
        title: a line above all.
        cap: losses above it are drawn as capped.
        log: whether heights and colours are logarithmic.
        cmap: a matplotlib colour map.
        options: whatever else the style's function takes, such as ``view``.

    Returns:
        A new figure.

    Raises:
        ValueError: there is nothing to draw, a title is missing, or the style does not suit a landscape.
    """
    one_of("style", style, STYLES)
    if not landscapes or len(landscapes) != len(titles):
        raise ValueError(
            f"there are {len(titles)} titles for {len(landscapes)} landscapes; pass one for each"
        )
    columns = min(positive_int("columns", columns), len(landscapes))
    rows = math.ceil(len(landscapes) / columns)
    draw, width, height = STYLES[style]
    bars = style != "profile"
    scale = scale_of(*landscapes, cap=cap, log=log, cmap=cmap)
    options = {**options, "cap": cap, "log": log, "cmap": cmap, "legend": False}
    if shared:
        options["limits"] = (scale.low, scale.high)
    if bars:
        options["colorbar"] = not shared
    figure = new_figure(columns * (width + 0.7 * (bars and not shared)) + 0.9 * shared, rows * height + 0.4)
    projection = "3d" if style == "surface3d" else None
    every = [
        figure.add_subplot(rows, columns, index + 1, projection=projection)
        for index in range(len(landscapes))
    ]
    for ax, landscape, name in zip(every, landscapes, titles, strict=True):
        draw(landscape, ax, title=name, **options)
    if shared and bars:
        shrink = 0.62 if rows == 1 and style == "surface3d" else 0.8
        add_colorbar(figure, scale, landscapes, ax=every, shrink=shrink, aspect=18 * rows, pad=0.05)
    if entries := keys(scale, landscapes):
        figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), frameon=False)
    if title is not None:
        figure.suptitle(title)
    return figure


def slices(volume: Landscape, *, count: int = 4) -> tuple[list[Landscape], list[str]]:
    """Planes through a volume at values of its last coordinate, and titles that say where: for :func:`panel`.

    Args:
        volume: a mesh of three coordinates.
        count: how many planes, evenly spread over the last axis with both its ends.

    Returns:
        The planes' landscapes, in which the centre is known only where the plane goes through it, and the
        titles.

    Raises:
        ValueError: the landscape is not a mesh of three coordinates.

    Example:
        >>> import torch
        >>> from lla_func import chart
        >>> coords = chart.mesh(torch.arange(2), torch.arange(2), torch.arange(5))
        >>> slices(Landscape(coords, coords.sum(dim=1), {}, {}), count=3)[1]
        ['coordinate 3 = 0', 'coordinate 3 = 2', 'coordinate 3 = 4']
    """
    last = mesh_axes(volume, 3, "slices")[2]
    labels, center = axis_labels(volume), volume.chart.get("center")
    count = min(positive_int("count", count), len(last))
    planes, titles = [], []
    for index in np.linspace(0, len(last) - 1, count).round().astype(int):
        inside = volume.coords[:, 2] == last[index]
        middle = list(center[:2]) if center is not None and center[2] == last[index] else None
        planes.append(
            Landscape(
                volume.coords[inside, :2],
                volume.losses[inside],
                {**volume.chart, "labels": labels[:2], "center": middle},
                volume.diagnostics,
                math.nan if middle is None else volume.center,
            )
        )
        titles.append(f"{labels[2]} = {last[index]:.3g}")
    return planes, titles
