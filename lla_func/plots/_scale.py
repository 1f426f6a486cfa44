"""The scale of a picture: how losses become heights, colors, ticks and legend entries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from lla_func.errors import finite_number
from lla_func.landscape import Landscape

CMAP = "viridis"  # perceptually uniform, and readable in gray and to the color-blind
CAPPED = "0.78"  # gray, which no loss on the scale has
MARK: dict[str, Any] = {
    "marker": "o",
    "markersize": 6.5,
    "markerfacecolor": "#d7263d",
    "markeredgecolor": "white",
    "markeredgewidth": 1.0,
    "linestyle": "none",
}
STEPS = [1, 2, 2.5, 5, 10]  # what round numbers are multiples of


class Scale(NamedTuple):
    """What several pictures share where they are to be compared.

    Attributes:
        low: the smallest loss of the scale.
        high: the largest: the cap, where a loss exceeds the cap that was asked for.
        log: whether heights and colors are logarithmic.
        capped: whether there are losses above ``high``, which are drawn flat and gray.
        cmap: the name of a matplotlib color map.
        name: of the value.
    """

    low: float
    high: float
    log: bool
    capped: bool
    cmap: str
    name: str = "loss"

    def height(self, losses: Any) -> np.ndarray:
        """Losses as heights (log10 on a log scale), NaN where they cannot be drawn."""
        losses = np.asarray(losses, dtype=np.float64)
        drawable = np.isfinite(losses) & ((losses > 0) if self.log else True)
        losses = np.where(drawable, losses, np.nan)
        return np.log10(losses) if self.log else losses

    @property
    def ends(self) -> tuple[float, float]:
        """The heights of ``low`` and ``high``."""
        bottom, top = self.height([self.low, self.high])
        return float(bottom), float(top)

    def colormap(self) -> Any:
        """The matplotlib color map, gray above the scale."""
        import matplotlib

        return matplotlib.colormaps[self.cmap].with_extremes(over=CAPPED)

    def levels(self) -> np.ndarray:
        """Heights for contour lines: round steps inside the scale."""
        from matplotlib.ticker import MaxNLocator

        bottom, top = self.ends
        levels = np.asarray(MaxNLocator(14, steps=STEPS).tick_values(bottom, top))
        return levels[(levels > bottom) & (levels < top)]

    def ticks(self) -> tuple[np.ndarray, list[str]]:
        """A handful of round losses on the scale, and their labels."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        decades = math.log10(self.high / self.low) if self.log else 0.0
        if decades > 2:
            stride = math.ceil(decades / 6)
            first = stride * math.ceil(math.log10(self.low) / stride - 1e-9)
            ticks = 10.0 ** np.arange(first, math.log10(self.high) + 1e-9, stride)
        elif decades > 0.7:
            ticks = np.asarray(LogLocator(subs=(1.0, 2.0, 5.0)).tick_values(self.low, self.high))
        else:
            ticks = np.asarray(MaxNLocator(6, steps=STEPS).tick_values(self.low, self.high))
        slack = 1e-9 * (self.high - self.low)
        ticks = ticks[(ticks >= self.low - slack) & (ticks <= self.high + slack)]
        if self.log:
            return ticks, [_number(tick, powers=decades > 4) for tick in ticks]
        shown = ticks / 10.0**self.exponent
        decimals = next((d for d in range(6) if np.allclose(shown, shown.round(d), rtol=1e-9, atol=0.0)), 6)
        return ticks, [f"{tick:.{decimals}f}" for tick in shown]

    @property
    def exponent(self) -> int:
        """The power of ten that linear tick labels leave to the axis label: 0 for losses of everyday size."""
        exponent = math.floor(math.log10(max(abs(self.low), abs(self.high))))
        return 0 if self.log or -4 < exponent < 5 else exponent

    @property
    def label(self) -> str:
        """The label of an axis of losses."""
        return rf"{self.name} ($\times10^{{{self.exponent}}}$)" if self.exponent else self.name


def scale_of(
    *landscapes: Landscape,
    cap: float | None = None,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    cmap: str = CMAP,
) -> Scale:
    """The scale on which all the given landscapes, with the losses at their centers, can be drawn.

    Args:
        landscapes: what the scale must cover.
        cap, log, limits, cmap: as in :class:`lla_func.plots.Look`; losses above the limits are drawn as capped too.

    Example:
        >>> import torch
        >>> coords = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
        >>> line = Landscape(coords, torch.tensor([9.0, 1.0, 4.0], dtype=torch.float64), {}, {})
        >>> scale_of(line, cap=5)[:4]
        (1.0, 5.0, False, True)
    """
    floor = 0.0 if log else -math.inf
    losses = np.concatenate([[*landscape.losses.tolist(), landscape.center] for landscape in landscapes])
    losses = losses[np.isfinite(losses) & (losses > floor)]
    highest = math.inf if cap is None else finite_number("cap", cap, above=floor)
    if limits is not None:
        low, high = (finite_number("limits", limit, above=floor) for limit in limits)
        if low >= high:
            raise ValueError(f"limits={limits!r} are not in order; pass (smallest, largest)")
        high = min(high, highest)
    elif not losses.size:
        low, high = 1.0, 1.0
    else:
        low, high = min(float(losses.min()), highest), min(float(losses.max()), highest)
    capped = bool((losses > high).any())
    if high - low <= 1e-12 * max(abs(low), abs(high)):  # constant up to rounding, which is no relief to draw
        room = 0.05 * (abs(low) or 1.0)
        low, high = low - room, high if capped else high + room
    name = next((landscape.chart.get("value", "loss") for landscape in landscapes), "loss")
    return Scale(low, high, log, capped, cmap, name)


def center_of(landscape: Landscape) -> tuple[list[float] | None, float]:
    """The center's coordinates, None if it has none, and the loss there, NaN where it was not evaluated."""
    center = landscape.chart.get("center")
    if center is None:
        return None, math.nan
    if math.isnan(landscape.center):
        here = (landscape.coords == landscape.coords.new_tensor(center)).all(dim=1)
        return list(center), float(landscape.losses[here][0]) if here.any() else math.nan
    return list(center), landscape.center


def add_colorbar(figure: Any, scale: Scale, landscapes: Sequence[Landscape], **place: Any) -> None:
    """Draws the color bar of some landscapes where ``Figure.colorbar`` is told; above the scale it has a gray tip."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm, Normalize

    norm = LogNorm(scale.low, scale.high) if scale.log else Normalize(scale.low, scale.high)
    heights = np.concatenate([scale.height(landscape.losses) for landscape in landscapes])
    below = bool((heights < scale.ends[0]).any())
    extend = ("both" if below else "max") if scale.capped else ("min" if below else "neither")
    bar = figure.colorbar(ScalarMappable(norm, scale.colormap()), extend=extend, **place)
    ticks, labels = scale.ticks()
    bar.ax.minorticks_off()
    bar.set_ticks(ticks, labels=labels)
    bar.set_label(f"{scale.name} (log scale)" if scale.log else scale.label)
    bar.outline.set_linewidth(0.6)


def hole(**options: Any) -> Any:
    """The hatched patch that stands for losses that are not finite."""
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 1, 1, facecolor="white", edgecolor="0.75", hatch="xxxx", linewidth=0, **options)


def keys(scale: Scale, landscapes: Sequence[Landscape]) -> list[Any]:
    """Legend entries for whatever is special in these pictures: center, capped losses, holes."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[Any] = []
    centers = [loss for center, loss in map(center_of, landscapes) if center is not None]
    if centers:
        known = {loss for loss in centers if not math.isnan(loss)}
        value = f", {scale.name} {known.pop():.4g}" if len(known) == 1 else ""
        entries.append(Line2D([], [], label=f"center{value}", **MARK))
    if scale.capped:
        entries.append(Patch(facecolor=CAPPED, label=f"capped: {scale.name} above {scale.high:.4g}"))
    count = sum(int(np.isnan(scale.height(landscape.losses)).sum()) for landscape in landscapes)
    if count:
        why = "not finite or not positive" if scale.log else "not finite"
        entries.append(hole(label=f"{why}: {count} point{'s' * (count > 1)}"))
    return entries


def add_legend(ax: Any, entries: Sequence[Any], *, below: float = -0.13) -> None:
    """Adds entries to the legend under a picture."""
    handles, labels = [*entries], [entry.get_label() for entry in entries]
    if old := ax.get_legend():
        handles = [*old.legend_handles, *handles]
        labels = [*(text.get_text() for text in old.get_texts()), *labels]
    if handles:
        place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, below), "ncols": len(handles)}
        ax.legend(handles, labels, **place, frameon=False, fontsize="small", handletextpad=0.5)


def _number(value: float, *, powers: bool) -> str:
    """A positive loss as a tick label: plain where it is short and not all are ``powers`` of ten."""
    exponent = math.floor(math.log10(value) + 1e-9)
    if -4 < exponent < 5 and not powers:
        return f"{value:.4g}"
    mantissa = f"{value / 10.0**exponent:.4g}"
    return f"$10^{{{exponent}}}$" if mantissa == "1" else rf"${mantissa}\times10^{{{exponent}}}$"
