"""Flat pictures of a landscape: contours of a plane, the profile of a line, and the Hessian's prediction over them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lla_func.landscape import Landscape, surface
from lla_func.plots._files import new_figure
from lla_func.plots._look import Look, drawn_axes, name_axes
from lla_func.plots._scale import CAPPED, MARK, Scale, add_colorbar, add_legend, center_of, hole, keys

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def contour(landscape: Landscape, ax: Axes | None = None, **options: Any) -> Axes:
    """Draws a plane's losses as colors, with contour lines at round values.

    Args:
        landscape: a mesh of two coordinates.
        ax: by default those of a new figure.
        options: of the picture (:class:`lla_func.plots.Look`).

    Returns:
        The Axes.

    Raises:
        ValueError: the landscape is not a mesh of two coordinates.
    """
    x, y = drawn_axes(landscape, 2, "contour")
    if ax is None:
        ax = new_figure(5.2, 4.4).add_subplot()
    landscape, scale = (look := Look(**options)).shown(landscape)
    bottom, top = scale.ends
    field = np.ma.masked_invalid(scale.height(surface(landscape)).T)
    ax.set_box_aspect(1)
    if field.mask.any():
        ax.add_patch(hole(transform=ax.transAxes, zorder=0))
    if field.count():
        slack = 1e-9 * (top - bottom)  # so that rounding puts no extreme point beyond the scale
        bands = np.linspace(bottom - slack, top + slack, 65)
        ax.contourf(x, y, field, bands, cmap=scale.colormap(), vmin=bottom, vmax=top, extend="both")
        lines: dict[str, Any] = {"colors": "white", "linewidths": 0.6, "linestyles": "solid", "alpha": 0.7}
        _add_lines(ax, x, y, field, scale.levels(), **lines)
        if scale.capped:
            _add_lines(ax, x, y, field, np.array([top]), colors="0.35", linewidths=1.0)
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    center, _ = center_of(landscape)
    if center is not None:
        ax.plot([center[0]], [center[1]], zorder=20, clip_on=False, **MARK)
    name_axes(ax, landscape, look.title)
    if look.colorbar and field.count():
        add_colorbar(ax.figure, scale, [landscape], cax=ax.inset_axes((1.04, 0.0, 0.05, 1.0)))
    if look.legend:
        add_legend(ax, keys(scale, [landscape]))
    return ax


def profile(landscape: Landscape, ax: Axes | None = None, **options: Any) -> Axes:
    """Draws the losses along a line, with a band of their standard errors over data where these are known.

    Args:
        landscape: a mesh of one coordinate.
        ax: by default those of a new figure.
        options: of the picture (:class:`lla_func.plots.Look`).

    Returns:
        The Axes.

    Raises:
        ValueError: the landscape is not a mesh of one coordinate.
    """
    import matplotlib

    (x,) = drawn_axes(landscape, 1, "profile")
    if ax is None:
        ax = new_figure(5.2, 3.6).add_subplot()
    landscape, scale = (look := Look(**options)).shown(landscape)
    heights = scale.height(landscape.losses)
    # finer than the mesh, so that the line meets the cap where it crosses it
    fine = np.union1d(x, np.linspace(x[0], x[-1], 1000))
    losses = np.interp(fine, x, heights)
    losses = 10.0**losses if look.log else losses
    if scale.capped:
        above = losses > scale.high
        ax.plot(fine, np.where(above, scale.high, np.nan), color=CAPPED, linewidth=4, solid_capstyle="butt")
        losses = np.where(above, np.nan, losses)
    color = matplotlib.colormaps[look.cmap](0.3)
    ax.plot(fine, losses, color=color, linewidth=1.8)
    band = _add_band(ax, landscape, x, scale, color)
    bottom, top = scale.ends
    room, margin = 0.06 * (top - bottom), 0.04 * (x[-1] - x[0])
    if look.log:
        ax.set_yscale("log")
        ax.set_ylim(10.0 ** (bottom - room), 10.0 ** (top + room))
    else:
        ax.set_ylim(bottom - room, top + room)
    ax.set_xlim(x[0] - margin, x[-1] + margin)
    center, loss = center_of(landscape)
    if center is not None:
        ax.axvline(center[0], color=MARK["markerfacecolor"], linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6)
        if math.isfinite(float(scale.height(loss))):
            ax.plot(center, [min(loss, scale.high)], zorder=20, **MARK)
    name_axes(ax, landscape, look.title)
    ticks, labels = scale.ticks()
    ax.set_yticks(ticks, labels)
    ax.set_ylabel(scale.label)
    ax.minorticks_off()
    ax.grid(color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if look.legend:
        add_legend(ax, [*keys(scale, [landscape]), *band], below=-0.16)
    return ax


def _add_band(ax: Any, landscape: Landscape, x: np.ndarray, scale: Scale, color: Any) -> list[Any]:
    """Draws the standard errors over data around a profile, where they are known; the legend entry for them."""
    if "loss" not in landscape.errors:
        return []
    losses, errors = landscape.losses.numpy(), landscape.errors["loss"].numpy()
    below = np.maximum(losses - errors, scale.low) if scale.log else losses - errors
    label = "standard error over data"
    return [ax.fill_between(x, below, losses + errors, color=color, alpha=0.25, linewidth=0, label=label)]


def quadratic_overlay(ax: Axes, landscape: Landscape, eigenvalues: Sequence[float], **options: Any) -> Axes:
    """Adds what the Hessian predicts to a ``contour`` or ``profile`` along its eigenvectors.

    The prediction is center + 1/2 sum_i l_i (n_i c_i)^2, with coordinates c counted from the center and n the
    norms of the directions (1 for normalized eigenvectors). In a contour plot it is dashed, at the levels of
    the solid lines of the measured losses: where the loss is quadratic, the two coincide.

    Args:
        ax: the Axes in which the landscape was drawn.
        landscape: one or two coordinates along eigenvectors, with the loss at its center.
        eigenvalues: one for each coordinate.
        options: of the picture (:class:`lla_func.plots.Look`).

    Returns:
        The same Axes.

    Raises:
        ValueError: the eigenvalues do not fit the coordinates, or the loss at the center is unknown.
    """
    from matplotlib.lines import Line2D

    dim, values = landscape.coords.shape[1], np.asarray(eigenvalues, dtype=np.float64)
    if dim not in (1, 2) or values.shape != (dim,):
        raise ValueError(
            f"eigenvalues has shape {list(values.shape)}; pass one for each of the landscape's {dim} coordinates "
            "(one or two can be drawn)"
        )
    center, loss = center_of(landscape)
    if center is None or not math.isfinite(loss):
        raise ValueError("the landscape has no finite loss at its center, from which the prediction starts")
    axes = [np.linspace(axis[0], axis[-1], 201) for axis in drawn_axes(landscape, dim, "quadratic_overlay")]
    norms = landscape.chart.get("norms") or [1.0] * dim
    terms = [
        0.5 * value * (norm * (axis - origin)) ** 2
        for value, norm, axis, origin in zip(values, norms, axes, center, strict=True)
    ]
    dashed: dict[str, Any] = {"color": MARK["markerfacecolor"], "linestyle": "dashed", "linewidth": 1.1}
    if dim == 1:
        ax.plot(axes[0], loss + terms[0], scaley=False, **dashed)
    else:
        scale = Look(**options).scale(landscape)
        predicted = np.ma.masked_invalid(scale.height(loss + np.add.outer(*terms)).T)
        style: dict[str, Any] = {"colors": dashed["color"], "linestyles": "dashed", "linewidths": 1.1}
        _add_lines(ax, axes[0], axes[1], predicted, scale.levels(), **style)
    entry = Line2D([], [], label="quadratic prediction", **dashed)
    add_legend(ax, [entry], below=-0.16 if dim == 1 else -0.13)
    return ax


def _add_lines(
    ax: Any, x: np.ndarray, y: np.ndarray, field: np.ndarray, levels: np.ndarray, **style: Any
) -> None:
    """Adds contour lines at those levels that the field reaches; matplotlib warns about the others."""
    levels = levels[(levels > field.min()) & (levels < field.max())]
    if levels.size:
        ax.contour(x, y, field, levels, **style)
