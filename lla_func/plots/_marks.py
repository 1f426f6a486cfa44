"""Lines and planes through models: several losses in one picture, errors as bands, models and barriers marked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lla_func.landscape import Landscape
from lla_func.plots._contour import profile
from lla_func.plots._files import new_figure
from lla_func.plots._look import Look
from lla_func.plots._scale import MARK, add_legend, keys

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#31688e", "#d95f02", "#1b9e77", "#7570b3", "#e6ab02", "#66a61e")
HEADROOM = 0.08
LIFT = 0.06
PAPER = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.8, "linewidth": 0}
"""What stands behind a name, so that it can be read on any color."""


def profiles(
    landscapes: Mapping[str, Landscape],
    ax: Axes | None = None,
    *,
    band: str = "standard error over data",
    **options: Any,
) -> Axes:
    """Draws several losses along one line, each with the band of its errors, and the points on it by their names.

    Args:
        landscapes: meshes of the same one coordinate, by the names for the legend. A landscape that has
            ``errors["loss"]`` gets a band so wide on either side.
        ax: by default those of a new figure.
        band: what the bands are, for the legend.
        options: of the picture (:class:`lla_func.plots.Look`).

    Returns:
        The Axes.

    Raises:
        ValueError: there is nothing to draw, or a landscape is not a mesh of one coordinate.

    Example:
        >>> import torch
        >>> t = torch.linspace(0, 1, 5, dtype=torch.float64)
        >>> line = Landscape(t[:, None], t * (1 - t), {"points": {"a": [0.0], "b": [1.0]}}, {})
        >>> [text.get_text() for text in profiles({"train": line, "test": line._replace(losses=2 * t)}).texts]
        ['a', 'b']
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if not landscapes:
        raise ValueError("landscapes is empty; pass at least one")
    every = list(landscapes.values())
    look = Look(**options)
    scale = look.scale(*every)
    if ax is None:
        ax = new_figure(5.6, 3.8).add_subplot()
    options |= {"limits": (scale.low, scale.high), "legend": False}
    entries: list[Any] = []
    banded = False
    for (name, landscape), color in zip(landscapes.items(), _colors(len(every)), strict=True):
        before = len(ax.lines)
        profile(landscape._replace(errors={}), ax, **options)
        curve = next(line for line in ax.lines[before:] if line.get_linewidth() == 1.8)
        curve.set_color(color)
        entries.append(Line2D([], [], color=color, linewidth=1.8, label=name))
        if (error := landscape.errors.get("loss")) is not None:
            _add_band(ax, landscape, error.numpy(), scale.high, color, log=look.log)
            banded = True
    if banded:
        entries.append(Patch(facecolor="0.5", alpha=0.25, label=band))
    mark_points(ax, every[0], heights=True, high=scale.high)
    if look.legend:
        add_legend(ax, entries + keys(scale, every), below=-0.16)
    return ax


def mark_points(
    ax: Any,
    landscape: Landscape,
    *,
    heights: bool = False,
    high: float = math.inf,
    at: float | None = None,
    within: float = 0.0,
) -> None:
    """Marks what lies on a landscape (``chart["points"]``) with its name.

    Args:
        ax: the Axes in which a line or a plane was drawn.
        landscape: it.
        heights: whether it is a line, whose points lie at their losses.
        high: the largest loss that is drawn.
        at: for a plane through a volume, its last coordinate. A model that is off the plane, by ``within`` at most, is
            drawn hollow, with its distance.
        within: see there.
    """
    for name, place in landscape.chart.get("points", {}).items():
        label, style = name, dict(MARK)
        if heights:
            order = landscape.coords[:, 0].argsort()
            xs, ys = landscape.coords[order, 0].numpy(), landscape.losses[order].numpy()
            x, y = place[0], float(np.interp(place[0], xs, ys))
            if not (xs[0] <= x <= xs[-1] and math.isfinite(y)):
                continue
            y = min(y, high)
        else:
            x, y = place[:2]
            if at is not None and (off := place[2] - at):
                if abs(off) > within:
                    continue
                label = f"{name} ({off:+.2g})"
                style |= {"markerfacecolor": "none", "markeredgecolor": MARK["markerfacecolor"]}
        ax.plot([x], [y], zorder=20, clip_on=False, **style)
        ax.annotate(
            label,
            (x, y),
            xytext=(0, 7),
            textcoords="offset points",
            ha="center",
            fontsize="small",
            zorder=21,
            bbox=PAPER,
        )


def mark_barrier(
    ax: Any, at: float, ends: tuple[tuple[float, float], tuple[float, float]], height: float, label: str
) -> None:
    """Draws the chord between two points of a profile and the barrier above it.

    Args:
        ax: the Axes of a profile.
        at: the coordinate of the maximum.
        ends: coordinate and loss of both ends.
        height: the barrier; nothing but the chord is drawn where it is zero or not finite.
        label: what stands beside it.
    """
    (left, first), (right, last) = ends
    if not (math.isfinite(first) and math.isfinite(last)):
        return
    chord = np.linspace(left, right, 200)
    line = first + (chord - left) / (right - left) * (last - first)
    ax.plot(
        chord, line, color="0.45", linewidth=1.0, linestyle="dashed", scaley=False, scalex=False, zorder=3
    )
    if not (math.isfinite(height) and height > 0):
        return
    low = first + (at - left) / (right - left) * (last - first)
    ax.annotate(
        "",
        (at, low + height),
        xytext=(at, low),
        arrowprops={"arrowstyle": "<->", "color": "0.25", "linewidth": 1.0, "shrinkA": 0, "shrinkB": 0},
        zorder=15,
    )
    middle = math.sqrt(low * (low + height)) if ax.get_yscale() == "log" and low > 0 else low + height / 2
    ax.text(at, middle, label, ha="center", va="center", fontsize="small", zorder=16, bbox=PAPER)


def mark_heights(axes3d: Any, landscape: Landscape, losses: Sequence[float], look: Look) -> None:
    """Marks the points on a surface in three dimensions, at their own losses [n]."""
    scale = look.scale(landscape)
    for (name, place), loss in zip(landscape.chart.get("points", {}).items(), losses, strict=True):
        height = float(scale.height(min(loss, scale.high)))
        if math.isfinite(height):
            axes3d.plot([place[0]], [place[1]], [height], zorder=20, **MARK)
            style = {"fontsize": "small", "zorder": 21, "ha": "center", "va": "bottom", "bbox": PAPER}
            axes3d.text(place[0], place[1], height + LIFT * (scale.ends[1] - scale.ends[0]), name, **style)


def _add_band(
    ax: Any, landscape: Landscape, width: np.ndarray, high: float, color: str, *, log: bool
) -> None:
    order = landscape.coords[:, 0].argsort().numpy()
    x, losses = landscape.coords[order, 0].numpy(), landscape.losses[order].numpy()
    width = np.where(np.isfinite(losses) & np.isfinite(width[order]), width[order], np.nan)
    losses = np.where(np.isfinite(losses), losses, np.nan)
    low, top = losses - width, losses + width
    if log:
        low = np.where(low > 0, low, np.nanmin(losses[losses > 0]) / 10 if (losses > 0).any() else np.nan)
    shown = np.isfinite(low) & np.isfinite(top) & (losses <= high)
    bottom, ceiling = ax.get_ylim()
    ax.fill_between(x, low, top, where=shown, color=color, alpha=0.2, linewidth=0, zorder=1)
    if shown.any() and not log:
        room = HEADROOM * (ceiling - bottom)
        bottom, ceiling = min(bottom, low[shown].min() - room), max(ceiling, top[shown].max() + room)
    ax.set_ylim(bottom, ceiling)


def _colors(count: int) -> list[str]:
    return [COLORS[i % len(COLORS)] for i in range(count)]
