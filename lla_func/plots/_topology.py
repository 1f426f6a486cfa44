"""Pictures of a topology: the persistence of basins and loops as bars and as a diagram, with the bound as a band."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from lla_func.assessment import Loop, Pair, Topology
from lla_func.errors import instance
from lla_func.plots._files import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BASIN, LOOP, BAND = "#31688e", "#d7263d", "0.85"
MOST = 40
"""Bars that a barcode draws, the most persistent ones."""


def barcode(
    topology: Topology, ax: Axes | None = None, *, title: str | None = None, legend: bool = True
) -> Axes:
    """Draws basins, and loops if there are any, as bars from birth to death, the most persistent ones below.

    The band at the beginning of each bar is twice the bound of the surface's error: a feature is believed if its bar
    reaches beyond. Bars of those that are not are pale. A basin without end has an arrow.

    Args:
        topology: what to draw.
        ax: by default those of a new figure.
        title: a line above the picture.
        legend: whether to name what is drawn.

    Returns:
        The Axes.

    Raises:
        TypeError: it is no Topology.

    Example:
        >>> import torch
        >>> from lla_func import Landscape, topology
        >>> coords = torch.arange(3.0, dtype=torch.float64)[:, None]
        >>> barcode(topology(Landscape(coords, torch.tensor([0.0, 2.0, 1.0]).double(), {}, {}))).get_xlabel()
        'loss'
    """
    features = _features(topology)
    if ax is None:
        ax = new_figure(5.2, 1.4 + 0.16 * min(len(features), MOST)).add_subplot()
    top = _top(features)
    for row, feature in enumerate(features[:MOST]):
        end = min(feature.death, top)
        alpha = 1.0 if feature.persistence > topology.threshold else 0.35
        ax.plot([feature.birth, end], [row, row], color=_color(feature), linewidth=3, alpha=alpha)
        if math.isinf(feature.death):
            ax.plot([end], [row], marker=">", color=_color(feature), clip_on=False)
        if topology.threshold:
            ax.barh(row, topology.threshold, left=feature.birth, height=0.9, color=BAND, zorder=0)
    if len(features) > MOST:
        ax.text(1.0, 1.0, f"{len(features) - MOST} more", transform=ax.transAxes, ha="right", va="bottom")
    ax.set(xlabel=topology.name, yticks=[])
    ax.spines[["top", "right", "left"]].set_visible(False)
    return _finished(ax, topology, title, legend)


def diagram(
    topology: Topology, ax: Axes | None = None, *, title: str | None = None, legend: bool = True
) -> Axes:
    """Draws basins, and loops if there are any, as points: birth across, death upwards.

    The band above the diagonal is twice the bound of the surface's error: a feature is believed if it lies beyond. A
    basin without end is a triangle at the top.

    Args:
        topology: what to draw.
        ax: by default those of a new figure.
        title: a line above the picture.
        legend: whether to name what is drawn.

    Returns:
        The Axes.

    Raises:
        TypeError: it is no Topology.

    Example:
        >>> import torch
        >>> from lla_func import Landscape, topology
        >>> coords = torch.arange(3.0, dtype=torch.float64)[:, None]
        >>> diagram(topology(Landscape(coords, torch.tensor([0.0, 2.0, 1.0]).double(), {}, {}))).get_ylabel()
        'death'
    """
    features = _features(topology)
    if ax is None:
        ax = new_figure(4.2, 4.2).add_subplot()
    top = _top(features)
    low = min((feature.birth for feature in features), default=0.0)
    ends = [low - 0.05 * (top - low), top]
    ax.plot(ends, ends, color="0.6", linewidth=0.8)
    if topology.threshold:
        ax.fill_between(ends, ends, [end + topology.threshold for end in ends], color=BAND, zorder=0)
    for feature in features:
        believed = feature.persistence > topology.threshold
        look: dict[str, Any] = {"marker": "^" if math.isinf(feature.death) else "o", "clip_on": False}
        face = _color(feature) if believed else "none"
        ax.plot([feature.birth], [min(feature.death, top)], color=_color(feature), mfc=face, **look)
    ax.set(xlabel="birth", ylabel="death", xlim=ends, ylim=ends)
    ax.set_box_aspect(1)
    ax.spines[["top", "right"]].set_visible(False)
    return _finished(ax, topology, title, legend)


class Shown(NamedTuple):
    """A feature as it is drawn."""

    birth: float
    death: float
    loop: bool

    @property
    def persistence(self) -> float:
        return self.death - self.birth


def _features(topology: Topology) -> list[Shown]:
    """Basins and loops, the most persistent first."""
    instance("topology", topology, Topology, "what topology(landscape) returns")
    every: list[Pair | Loop] = [*topology.pairs, *(topology.loops or ())]
    found = [Shown(each.birth, each.death, isinstance(each, Loop)) for each in every]
    return sorted(found, key=lambda shown: (-shown.persistence, shown.birth))


def _top(features: list[Shown]) -> float:
    """Where the picture ends: above everything that does."""
    heights = [x for shown in features for x in (shown.birth, shown.death) if math.isfinite(x)] or [0.0]
    return max(heights) + 0.08 * ((max(heights) - min(heights)) or 1.0)


def _color(shown: Shown) -> str:
    return LOOP if shown.loop else BASIN


def _finished(ax: Axes, topology: Topology, title: str | None, legend: bool) -> Axes:
    """Title and legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Any] = [Line2D([], [], color=BASIN, linewidth=3, label="basins")]
    if topology.loops:
        entries.append(Line2D([], [], color=LOOP, linewidth=3, label="loops"))
    if topology.threshold:
        entries.append(Patch(color=BAND, label="within twice the error bound"))
    if legend:
        ax.legend(
            handles=entries,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
            ncols=3,
            frameon=False,
            fontsize="small",
        )
    if title is not None:
        ax.set_title(title)
    return ax
