"""Several landscapes side by side, and planes through a volume."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lla_func.errors import one_of, positive_int
from lla_func.landscape import Landscape, chosen
from lla_func.plots._contour import contour, profile
from lla_func.plots._files import new_figure
from lla_func.plots._look import axis_labels, drawn_axes
from lla_func.plots._scale import add_colorbar, keys, scale_of
from lla_func.plots._surface import surface3d

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
    **options: Any,
) -> Figure:
    """Draws several landscapes side by side.

    Args:
        landscapes: what to draw.
        titles: one above each picture.
        columns: pictures in a row.
        style: ``"surface3d"``, ``"contour"`` or ``"profile"``.
        shared: whether all have one scale of heights and colors, with one color bar; otherwise each its own.
        title: a line above all.
        options: of each picture (:class:`lla_func.plots.Look`), and what else the style takes, such as ``view``.

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
    landscapes = [chosen(landscape, options.get("metric")) for landscape in landscapes]
    options.pop("metric", None)
    rows = math.ceil(len(landscapes) / columns)
    draw, width, height = STYLES[style]
    bars = style != "profile"
    scale = scale_of(
        *landscapes, **{name: options[name] for name in ("cap", "log", "cmap") if name in options}
    )
    options |= {"legend": False, "colorbar": not shared}
    if shared:
        options["limits"] = (scale.low, scale.high)
    figure = new_figure(columns * (width + 0.7 * (bars and not shared)) + 0.9 * shared, rows * height + 0.4)
    projection = "3d" if style == "surface3d" else None
    every = []
    for number, (landscape, name) in enumerate(zip(landscapes, titles, strict=True), start=1):
        every.append(figure.add_subplot(rows, columns, number, projection=projection))
        draw(landscape, every[-1], title=name, **options)
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
        The planes' landscapes, in which the center is known only where the plane goes through it, and the titles.

    Raises:
        ValueError: the landscape is not a mesh of three coordinates.

    Example:
        >>> import torch
        >>> from lla_func import chart
        >>> coords = chart.mesh(torch.arange(2), torch.arange(2), torch.arange(5))
        >>> slices(Landscape(coords, coords.sum(dim=1), {}, {}), count=3)[1]
        ['coordinate 3 = 0', 'coordinate 3 = 2', 'coordinate 3 = 4']
    """
    last = drawn_axes(volume, 3, "slices")[2]
    labels, center = axis_labels(volume), volume.chart.get("center")
    count = min(positive_int("count", count), len(last))
    planes, titles = [], []
    for index in np.linspace(0, len(last) - 1, count).round().astype(int):
        inside = volume.coords[:, 2] == last[index]
        middle = list(center[:2]) if center is not None and center[2] == last[index] else None
        coords, losses = volume.coords[inside, :2], volume.losses[inside]
        chart = {**volume.chart, "labels": labels[:2], "center": middle}
        known = math.nan if middle is None else volume.center
        planes.append(Landscape(coords, losses, chart, volume.diagnostics, known))
        titles.append(f"{labels[2]} = {last[index]:.3g}")
    return planes, titles
