"""The surface over a plane of coordinates, in three dimensions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from einops import rearrange

from lla_func.landscape import Landscape, surface
from lla_func.plots._files import new_figure
from lla_func.plots._look import Look, drawn_axes, name_axes
from lla_func.plots._scale import MARK, add_colorbar, add_legend, center_of, keys

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def surface3d(
    landscape: Landscape,
    ax: Axes | None = None,
    *,
    view: tuple[float, float] = (34.0, -56.0),
    **options: Any,
) -> Axes:
    """Draws a plane's losses as a surface over its coordinates.

    Args:
        landscape: a mesh of two coordinates.
        ax: Axes made with ``projection="3d"``; by default those of a new figure.
        options: of the picture (:class:`lla_func.plots.Look`).
        view: elevation and azimuth of the eye in degrees.

    Returns:
        The Axes. On a log scale its vertical axis holds log10 of the loss, labeled with the loss.

    Raises:
        ValueError: the landscape is not a mesh of two coordinates, or ``ax`` is not 3D.
    """
    from matplotlib.backends.backend_agg import RendererAgg

    x, y = drawn_axes(landscape, 2, "surface3d")
    if ax is None:
        ax = new_figure(6.4, 4.8).add_subplot(projection="3d")
    elif ax.name != "3d":
        raise ValueError("ax is not a 3D Axes; make it with projection='3d'")
    axes3d: Any = ax
    landscape, scale = (look := Look(**options)).shown(landscape)
    bottom, top = scale.ends
    axes3d.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), zlim=(bottom, top))
    axes3d.view_init(*view)
    axes3d.set_box_aspect((1.0, 1.0, 0.78), zoom=0.95)
    name_axes(ax, landscape, look.title)
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
    if look.colorbar and len(faces):
        add_colorbar(ax.figure, scale, [landscape], ax=ax, shrink=0.62, pad=0.11, aspect=18)
    if look.legend:
        add_legend(ax, keys(scale, [landscape]), below=0.0)
    return ax


def _faces(
    x: np.ndarray, y: np.ndarray, heights: np.ndarray, bottom: float, top: float
) -> tuple[np.ndarray, np.ndarray]:
    """The surface as quadrilaterals [F, 4, 3], capped at ``top``, and their place in the color map, [F].

    The mesh's cells are cut finer, bilinearly, as they would be drawn anyway: a little for smooth colors,
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
    return rearrange(around, "corner f a b xyz -> (f a b) corner xyz")


def _cut(cells: np.ndarray, pieces: int) -> np.ndarray:
    """Cuts each of the quadrilaterals [F, 4, 3] into ``pieces`` squared ones of the same bilinear surface."""
    steps = np.linspace(0.0, 1.0, pieces + 1)
    u, v = np.meshgrid(steps, steps, indexing="ij")
    shares = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v])
    return _cells(np.einsum("fcd,cuv->fuvd", cells, shares))


def _add_faces(axes3d: Any, faces: np.ndarray, colors: np.ndarray) -> None:
    """Adds colored quadrilaterals to 3D Axes."""
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection  # type: ignore[import-untyped]

    # edges of the faces' own color close the hairlines that antialiasing leaves between neighbors
    axes3d.add_collection3d(
        Poly3DCollection(faces, facecolors=colors, edgecolors=colors, linewidths=0.4, antialiased=False)
    )
