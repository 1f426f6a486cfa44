"""Drawing one landscape: a surface, a contour plot or a profile, and the Hessian's prediction over it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lla_func.landscape import Landscape, surface
from lla_func.landscape import axes as axes_of
from lla_func.plots._files import new_figure
from lla_func.plots._scale import (
    CAPPED,
    CMAP,
    MARK,
    STEPS,
    add_colorbar,
    add_legend,
    center_of,
    hole,
    keys,
    scale_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["axis_labels", "contour", "mesh_axes", "profile", "quadratic_overlay", "surface3d"]


def surface3d(
    landscape: Landscape,
    ax: Axes | None = None,
    *,
    cap: float | None = None,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
    cmap: str = CMAP,
    legend: bool = True,
    colorbar: bool = True,
    view: tuple[float, float] = (34.0, -56.0),
) -> Axes:
    """Draws a plane's losses as a surface over its coordinates.

    Args:
        landscape: a mesh of two coordinates.
        ax: Axes made with ``projection="3d"``; by default those of a new figure.
        cap: losses above it are drawn as a flat grey surface at this height.
        log: whether heights and colours are logarithmic; losses that are not positive are holes then.
        limits: the smallest and largest loss of the colours and the vertical axis, so that pictures can share
            them.
        title: a line above the picture.
        cmap: a matplotlib colour map.
        legend: whether to name the centre, the capped region and the holes under the picture.
        colorbar: whether to draw the colour bar.
        view: elevation and azimuth of the eye in degrees.

    Returns:
        The Axes. On a log scale its vertical axis holds log10 of the loss, labelled with the loss.

    Raises:
        ValueError: the landscape is not a mesh of two coordinates, or ``ax`` is not 3D.
    """
    from matplotlib.backends.backend_agg import RendererAgg

    x, y = mesh_axes(landscape, 2, "surface3d")
    if ax is None:
        ax = new_figure(6.4, 4.8).add_subplot(projection="3d")
    elif ax.name != "3d":
        raise ValueError("ax is not a 3D Axes; make it with projection='3d'")
    axes3d: Any = ax
    scale = scale_of(landscape, cap=cap, log=log, limits=limits, cmap=cmap)
    bottom, top = scale.ends
    axes3d.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), zlim=(bottom, top))
    axes3d.view_init(*view)
    axes3d.set_box_aspect((1.0, 1.0, 0.78), zoom=0.95)
    _name_axes(ax, landscape, title)
    ticks, labels = scale.ticks()
    axes3d.set_zticks(scale.height(ticks), labels)
    axes3d.zaxis.set_rotate_label(False)
    axes3d.set_zlabel(scale.label, rotation=90, labelpad=6)
    # Places the tick labels. matplotlib before 3.11 lays out a figure that was never drawn as if they were at
    # their losses in pixels. Still empty, the Axes draw fast.
    axes3d.draw(RendererAgg(64, 64, ax.figure.dpi))

    faces, shares = _faces(x, y, scale.height(surface(landscape)), bottom, top)
    _add_faces(axes3d, faces, scale.colormap()(shares))
    center, loss = center_of(landscape)
    height = float(scale.height(loss))
    if center is not None and math.isfinite(height):
        # in front of the surface, since the bottom of a bowl would often be behind its rim
        axes3d.plot([center[0]], [center[1]], [min(height, top)], zorder=20, **MARK)
    if colorbar and len(faces):
        add_colorbar(ax.figure, scale, [landscape], ax=ax, shrink=0.62, pad=0.11, aspect=18)
    if legend:
        add_legend(ax, keys(scale, [landscape]), below=0.0)
    return ax


def contour(
    landscape: Landscape,
    ax: Axes | None = None,
    *,
    cap: float | None = None,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
    cmap: str = CMAP,
    legend: bool = True,
    colorbar: bool = True,
) -> Axes:
    """Draws a plane's losses as colours, with contour lines at round values.

    Args:
        landscape: a mesh of two coordinates.
        ax: by default those of a new figure.
        cap: losses above it are a grey region with a border.
        log: whether colours and contour levels are logarithmic; losses that are not positive are holes then.
        limits: the smallest and largest loss of the colours, so that pictures can share them.
        title: a line above the picture.
        cmap: a matplotlib colour map.
        legend: whether to name the centre, the capped region and the (hatched) holes under the picture.
        colorbar: whether to draw the colour bar.

    Returns:
        The Axes.

    Raises:
        ValueError: the landscape is not a mesh of two coordinates.
    """
    x, y = mesh_axes(landscape, 2, "contour")
    if ax is None:
        ax = new_figure(5.2, 4.4).add_subplot()
    scale = scale_of(landscape, cap=cap, log=log, limits=limits, cmap=cmap)
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
    _name_axes(ax, landscape, title)
    if colorbar and field.count():
        add_colorbar(ax.figure, scale, [landscape], cax=ax.inset_axes((1.04, 0.0, 0.05, 1.0)))
    if legend:
        add_legend(ax, keys(scale, [landscape]))
    return ax


def profile(
    landscape: Landscape,
    ax: Axes | None = None,
    *,
    cap: float | None = None,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
    cmap: str = CMAP,
    legend: bool = True,
) -> Axes:
    """Draws the losses along a line.

    Args:
        landscape: a mesh of one coordinate.
        ax: by default those of a new figure.
        cap: losses above it are a flat grey line.
        log: whether the vertical axis is logarithmic; losses that are not positive are gaps then.
        limits: the smallest and largest loss of the vertical axis, so that pictures can share them.
        title: a line above the picture.
        cmap: a matplotlib colour map, for the colour of the line.
        legend: whether to name the centre, the capped region and the gaps under the picture.

    Returns:
        The Axes.

    Raises:
        ValueError: the landscape is not a mesh of one coordinate.
    """
    import matplotlib

    (x,) = mesh_axes(landscape, 1, "profile")
    if ax is None:
        ax = new_figure(5.2, 3.6).add_subplot()
    scale = scale_of(landscape, cap=cap, log=log, limits=limits, cmap=cmap)
    heights = scale.height(landscape.losses)
    # finer than the mesh, so that the line meets the cap where it crosses it
    fine = np.union1d(x, np.linspace(x[0], x[-1], 1000))
    losses = np.interp(fine, x, heights)
    losses = 10.0**losses if log else losses
    if scale.capped:
        above = losses > scale.high
        ax.plot(fine, np.where(above, scale.high, np.nan), color=CAPPED, linewidth=4, solid_capstyle="butt")
        losses = np.where(above, np.nan, losses)
    ax.plot(fine, losses, color=matplotlib.colormaps[cmap](0.3), linewidth=1.8)
    bottom, top = scale.ends
    room, margin = 0.06 * (top - bottom), 0.04 * (x[-1] - x[0])
    if log:
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
    _name_axes(ax, landscape, title)
    ticks, labels = scale.ticks()
    ax.set_yticks(ticks, labels)
    ax.set_ylabel(scale.label)
    ax.minorticks_off()
    ax.grid(color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    if legend:
        add_legend(ax, keys(scale, [landscape]), below=-0.16)
    return ax


def quadratic_overlay(
    ax: Axes,
    landscape: Landscape,
    eigenvalues: Sequence[float],
    *,
    cap: float | None = None,
    log: bool = False,
    limits: tuple[float, float] | None = None,
) -> Axes:
    """Adds what the Hessian predicts to a ``contour`` or ``profile`` along its eigenvectors.

    The prediction is center + 1/2 sum_i l_i (n_i c_i)^2, with coordinates c counted from the centre and n the
    norms of the directions (1 for normalised eigenvectors). In a contour plot it is dashed, at the levels of
    the solid lines of the measured losses: where the loss is quadratic, the two coincide.

    Args:
        ax: the Axes in which the landscape was drawn.
        landscape: one or two coordinates along eigenvectors, with the loss at its centre.
        eigenvalues: one for each coordinate.
        cap: as given to the function that drew the landscape, so that the levels are the same.
        log: likewise.
        limits: likewise.

    Returns:
        The same Axes.

    Raises:
        ValueError: the eigenvalues do not fit the coordinates, or the loss at the centre is unknown.
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
        raise ValueError("the landscape has no finite loss at its centre, from which the prediction starts")
    axes = [np.linspace(axis[0], axis[-1], 201) for axis in mesh_axes(landscape, dim, "quadratic_overlay")]
    norms = landscape.chart.get("norms") or [1.0] * dim
    terms = [
        0.5 * value * (norm * (axis - origin)) ** 2
        for value, norm, axis, origin in zip(values, norms, axes, center, strict=True)
    ]
    colour = MARK["markerfacecolor"]
    if dim == 1:
        ax.plot(axes[0], loss + terms[0], color=colour, linestyle="dashed", linewidth=1.1, scaley=False)
    else:
        scale = scale_of(landscape, cap=cap, log=log, limits=limits)
        predicted = np.ma.masked_invalid(scale.height(loss + np.add.outer(*terms)).T)
        style: dict[str, Any] = {"colors": colour, "linestyles": "dashed", "linewidths": 1.1}
        _add_lines(ax, axes[0], axes[1], predicted, scale.levels(), **style)
    entry = Line2D([], [], color=colour, linestyle="dashed", linewidth=1.1, label="quadratic prediction")
    add_legend(ax, [entry], below=-0.16 if dim == 1 else -0.13)
    return ax


def mesh_axes(landscape: Landscape, dim: int, function: str) -> list[np.ndarray]:
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


def _faces(
    x: np.ndarray, y: np.ndarray, heights: np.ndarray, bottom: float, top: float
) -> tuple[np.ndarray, np.ndarray]:
    """The surface as quadrilaterals [F, 4, 3], capped at ``top``, and their place in the colour map, [F].

    The mesh's cells are cut finer, bilinearly, as they would be drawn anyway: a little for smooth colours,
    and more where the surface meets the cap, so that the edge there does not follow the mesh. Cells with a
    hole at a corner are left out. The place is 0 to 1 between bottom and top, and infinite for capped faces.
    """
    mesh = np.stack([*np.meshgrid(x, y, indexing="ij"), heights], axis=-1)
    cells = _cells(mesh[None])
    cells = cells[np.isfinite(cells[..., 2]).all(axis=1)]
    lowest, highest = cells[..., 2].min(axis=1), cells[..., 2].max(axis=1)
    crossing = (lowest < top) & (highest > top)
    pieces = max(1, math.ceil(72 / max(heights.shape)))
    faces = np.concatenate([_cut(cells[~crossing], pieces), _cut(cells[crossing], 3 * pieces)])
    # a wall that runs into the cap is a wall as long as one corner is below; the slack is for rounding
    slack = 1e-9 * (top - bottom)
    capped = (faces[..., 2].min(axis=1) >= top - slack) & (faces[..., 2].max(axis=1) > top + slack)
    faces[..., 2] = np.minimum(faces[..., 2], top)
    shares = (faces[..., 2].mean(axis=1) - bottom) / (top - bottom)
    return faces, np.where(capped, np.inf, shares.clip(0.0, 1 - 1e-9))


def _cells(mesh: np.ndarray) -> np.ndarray:
    """The corners, in order around it, of each cell of meshes [F, A, B, 3], as [F * (A - 1) * (B - 1), 4, 3]."""
    around = [mesh[:, :-1, :-1], mesh[:, 1:, :-1], mesh[:, 1:, 1:], mesh[:, :-1, 1:]]
    return np.stack(around, axis=3).reshape(-1, 4, 3)


def _cut(cells: np.ndarray, pieces: int) -> np.ndarray:
    """Cuts each of the quadrilaterals [F, 4, 3] into ``pieces`` squared ones of the same bilinear surface."""
    steps = np.linspace(0.0, 1.0, pieces + 1)
    u, v = np.meshgrid(steps, steps, indexing="ij")
    shares = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v])
    return _cells(np.einsum("fcd,cuv->fuvd", cells, shares))


def _add_faces(axes3d: Any, faces: np.ndarray, colours: np.ndarray) -> None:
    """Adds coloured quadrilaterals to 3D Axes."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

    # edges of the faces' own colour close the hairlines that antialiasing leaves between neighbours
    axes3d.add_collection3d(
        Poly3DCollection(faces, facecolors=colours, edgecolors=colours, linewidths=0.4, antialiased=False)
    )


def _add_lines(
    ax: Any, x: np.ndarray, y: np.ndarray, field: np.ndarray, levels: np.ndarray, **style: Any
) -> None:
    """Adds contour lines at those levels that the field reaches; matplotlib warns about the others."""
    levels = levels[(levels > field.min()) & (levels < field.max())]
    if levels.size:
        ax.contour(x, y, field, levels, **style)


def _name_axes(ax: Any, landscape: Landscape, title: str | None) -> None:
    """Labels the coordinates' axes, with few round ticks on each."""
    from matplotlib.ticker import MaxNLocator

    for name, label in zip("xy", axis_labels(landscape), strict=False):
        getattr(ax, f"set_{name}label")(label)
        getattr(ax, f"{name}axis").set_major_locator(MaxNLocator(5, steps=STEPS))
    if title is not None:
        ax.set_title(title, pad=-2.0 if ax.name == "3d" else None)
