"""The picture of a spectrum: its density on a log scale, with the Ritz values that it was made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lla_func.plots._files import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE, NEGATIVE = "#31688e", "#d7263d"


def density(
    grid: Any,
    density: Any,
    nodes: Any,
    weights: Any,
    criteria: Mapping[str, Any] | None = None,
    ax: Axes | None = None,
    *,
    title: str | None = None,
    legend: bool = True,
) -> Axes:
    """Draws a spectral density over the eigenvalues, on a log scale.

    The Ritz values (quadrature nodes) of all probes are ticks at the foot of the picture, longer for a larger
    weight on a log scale, in one color for negative ones and another for the rest. The vertical axis reaches
    down to the density at the least of the visible outliers, so that a single eigenvalue among millions is
    still seen.

    Args:
        grid: eigenvalues, [G], in ascending order.
        density: the density there, [G].
        nodes: Ritz values of each probe, [probes, M] (or [M]); NaN where a probe has fewer.
        weights: their weights, of the same shape.
        criteria: what to write into the corner, by name; None and NaN are written as "undefined".
        ax: by default those of a new figure.
        title: a line above the picture.
        legend: whether to name the ticks under the picture.

    Returns:
        The Axes.

    Raises:
        ValueError: the arrays do not fit together, or the density is nowhere positive.

    Example:
        >>> density([0.0, 1.0, 2.0], [0.1, 1.0, 0.1], [[1.0]], [[1.0]], {"r_e": None}).get_yscale()
        'log'
    """
    from matplotlib.offsetbox import AnchoredText
    from matplotlib.ticker import MaxNLocator

    given = (grid, density, nodes, weights)
    grid, values, nodes, weights = (np.asarray(each, dtype=np.float64) for each in given)
    if grid.ndim != 1 or grid.shape != values.shape or grid.size < 2:
        raise ValueError(f"grid {list(grid.shape)} and density {list(values.shape)} are not two vectors [G]")
    if nodes.shape != weights.shape:
        raise ValueError(f"nodes {list(nodes.shape)} and weights {list(weights.shape)} differ in shape")
    if not (values > 0).any():
        raise ValueError("density is nowhere positive; there is nothing to draw on a log scale")
    known = np.isfinite(nodes) & (weights > 0)
    nodes, weights = nodes[known], weights[known]

    if ax is None:
        ax = new_figure(6.4, 3.8).add_subplot()
    peak, floor = float(values.max()), _floor(grid, values, nodes, weights)
    ax.set_yscale("log")
    ax.fill_between(grid, np.maximum(values, floor), floor, color=CURVE, alpha=0.18, linewidth=0)
    ax.plot(grid, np.where(values > floor, values, np.nan), color=CURVE, linewidth=1.4)
    if grid[0] < 0 < grid[-1]:
        ax.axvline(0.0, color="0.6", linewidth=0.7, zorder=0)

    # the foot below the floor belongs to the ticks, the head to the criteria
    decades = math.log10(peak / floor)
    ax.set_ylim(floor / 10 ** (0.14 * decades), peak * 10 ** (0.08 * decades))
    foot = 0.14 / 1.22
    tips = 0.9 * foot * (0.25 + 0.75 * np.clip(1 + np.log10(np.maximum(weights, 1e-300)) / 10, 0, 1))
    style: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "linewidth": 0.8}
    for color, chosen, sign in ((NEGATIVE, nodes < 0, "negative"), (CURVE, nodes >= 0, "positive")):
        if chosen.any():
            ax.vlines(nodes[chosen], 0.0, tips[chosen], colors=color, label=f"{sign} Ritz values", **style)
    ax.axhline(floor, color="0.85", linewidth=0.7, zorder=0)
    first, last = round(math.log10(floor)), math.floor(math.log10(peak))
    ax.set_yticks(10.0 ** np.arange(first, last + 1, max(1, math.ceil((last - first) / 8))))
    ax.minorticks_off()
    margin = 0.02 * (grid[-1] - grid[0])
    ax.set_xlim(grid[0] - margin, grid[-1] + margin)
    ax.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
    ax.ticklabel_format(axis="x", style="sci", scilimits=(-3, 4), useMathText=True)
    ax.set(xlabel="eigenvalue", ylabel="density (log scale)")
    ax.spines[["top", "right"]].set_visible(False)
    if title is not None:
        ax.set_title(title)
    if criteria:
        half = len(grid) // 2
        corner = "upper right" if values[half:].sum() <= values[:half].sum() else "upper left"
        text = "\n".join(f"{name} = {_value(value)}" for name, value in criteria.items())
        box = AnchoredText(text, loc=corner, prop={"size": "small"}, borderpad=0.4)
        box.patch.set(edgecolor="0.8", facecolor="white", alpha=0.9, boxstyle="round,pad=0.2")
        ax.add_artist(box)
    if legend and nodes.size:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, frameon=False, fontsize="small")
    return ax


def _floor(grid: np.ndarray, values: np.ndarray, nodes: np.ndarray, weights: np.ndarray) -> float:
    """Where the density's axis begins: below the lowest bump that a Ritz value of some weight makes."""
    peak = float(values.max())
    bumps = np.interp(nodes[weights > 1e-10], grid, values)
    bumps = bumps[bumps > 0]
    lowest = 0.2 * float(bumps.min()) if bumps.size else 0.0
    floor = min(max(lowest, 1e-12 * peak), 1e-3 * peak)
    return 10.0 ** math.floor(math.log10(floor))


def _value(value: Any) -> str:
    """A criterion as text."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "undefined"
    return value if isinstance(value, str) else f"{float(value):.4g}"
