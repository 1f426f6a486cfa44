"""Pictures of landscapes: surfaces, contours and profiles with the centre, the holes and the cap in view.

Every function draws into a given matplotlib Axes, or into one of a figure of its own, and returns the Axes. Nothing
here touches pyplot's global state (its current figure, backend and rcParams), except :func:`show` where a window can
not be had otherwise. matplotlib is imported only when something is drawn.

All pictures tell the same way what is special: the loss at the centre is a marked point, losses that are not finite
are holes, and losses above ``cap`` are flat and grey. None of these is silent: a legend names them.
"""

from __future__ import annotations

import io
import math
import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lla_func import grid, store
from lla_func.errors import finite_number, one_of, positive_int
from lla_func.grid import Landscape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["contour", "panel", "profile", "quadratic_overlay", "save", "show", "slices", "surface3d"]

CMAP = "viridis"  # perceptually uniform, and readable in grey and to the colour-blind
CAPPED, CENTER, HOLE = "0.78", "#d7263d", "white"


class Scale(NamedTuple):
    """How losses become colours and heights, so that several pictures can share it."""

    low: float
    high: float
    log: bool
    cap: float | None  # None also where no loss exceeds the cap that was asked for
    cmap: str

    def height(self, losses: Any) -> np.ndarray:
        """Losses on the scale's own axis (log10 on a log scale), NaN where they can not be drawn."""
        losses = np.asarray(losses, dtype=np.float64)
        drawable = np.isfinite(losses) & ((losses > 0) if self.log else True)
        losses = np.where(drawable, losses, np.nan)
        return np.log10(losses) if self.log else losses

    def norm(self) -> Any:
        """The matplotlib norm from losses to colours."""
        from matplotlib.colors import LogNorm, Normalize

        return (LogNorm if self.log else Normalize)(self.low, self.high)

    def colormap(self) -> Any:
        """The matplotlib colour map, flat and grey above the scale."""
        import matplotlib

        return matplotlib.colormaps[self.cmap].with_extremes(over=CAPPED)

    def levels(self) -> np.ndarray:
        """Heights for contour lines: round steps (of log10 on a log scale) inside the scale."""
        from matplotlib.ticker import MaxNLocator

        bottom, top = self.height([self.low, self.high])
        levels = np.asarray(MaxNLocator(14, steps=[1, 2, 2.5, 5, 10]).tick_values(bottom, top))
        return levels[(levels > bottom) & (levels < top)]

    def ticks(self, most: int = 6) -> np.ndarray:
        """At most about ``most`` round losses between the scale's ends."""
        from matplotlib.ticker import LogLocator, MaxNLocator

        decades = math.log10(self.high / self.low) if self.log else 0.0
        if decades > 2:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            ticks = 10.0 ** np.arange(first, last + 1, math.ceil((last - first + 1) / most))
        elif decades > 0.7:
            ticks = np.asarray(LogLocator(subs=(1.0, 2.0, 5.0)).tick_values(self.low, self.high))
        else:
            ticks = np.asarray(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]).tick_values(self.low, self.high))
        slack = 1e-9 * (self.high - self.low)
        return ticks[(ticks >= self.low - slack) & (ticks <= self.high + slack)]


def scale_of(
    *landscapes: Landscape,
    cap: float | None = None,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    cmap: str = CMAP,
) -> Scale:
    """The scale on which all the given landscapes can be drawn together.

    Args:
        landscapes: what the scale must cover.
        cap: losses above it are drawn as capped. None draws all.
        log: whether colours and heights are logarithmic; losses that are not positive are holes then.
        limits: the smallest and largest loss of the scale, instead of those of the landscapes.
        cmap: the name of a matplotlib colour map.
    """
    floor = 0.0 if log else -math.inf
    losses = np.concatenate([[*landscape.losses.numpy(), landscape.center] for landscape in landscapes])
    losses = losses[np.isfinite(losses) & (losses > floor)]
    if cap is not None:
        cap = finite_number("cap", cap, above=floor)
        cap = cap if (losses > cap).any() else None
    shown = losses if cap is None else losses[losses <= cap]
    if limits is not None:
        low, high = (finite_number("limits", limit, above=floor) for limit in limits)
        if low >= high:
            raise ValueError(f"limits={limits!r} are not in order; pass (smallest, largest)")
        high = high if cap is None else min(high, cap)
    elif cap is not None:
        low, high = (shown.min() if shown.size else cap), cap
    else:
        low, high = (shown.min(), shown.max()) if shown.size else (1.0, 1.0)
    if high - low <= 1e-12 * max(abs(low), abs(high)):  # constant up to rounding, which is no relief to draw
        low, high = (low / 1.05, high * 1.05) if log else (low - 0.05 * (abs(low) or 1.0), high)
        high = high if cap is not None or log else high + 0.05 * (abs(high) or 1.0)
    return Scale(float(low), float(high), log, cap, cmap)


def surface3d(
    landscape: Landscape,
    ax: Axes | None = None,
    *,
    cap: float | None = None,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    title: str | None = None,
    view: tuple[float, float] = (32.0, -55.0),
    cmap: str = CMAP,
    colorbar: bool = True,
    legend: bool = True,
) -> Axes:
    """Draws a plane's losses as a surface over its coordinates.

    Args:
        landscape: a mesh of two coordinates.
        ax: Axes made with ``projection="3d"``; by default those of a new figure.
        cap: losses above it are drawn flat and grey at this height.
        log: whether heights and colours are logarithmic.
        limits: the smallest and largest loss of the colour scale and the vertical axis, to share them.
        title: a line above the picture.
        view: elevation and azimuth of the eye in degrees.
        cmap: a matplotlib colour map.
        colorbar: whether to draw the colour bar.
        legend: whether to name centre, capped region and holes.

    Returns:
        The Axes. Its vertical axis holds log10 of the loss, labelled with the loss, where ``log``.

    Raises:
        ValueError: the landscape is not a mesh of two coordinates, or ``ax`` is not 3D.
    """
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    x, y = _mesh_axes(landscape, 2, "surface3d")
    if ax is None:
        ax = _figure(6.4, 4.8).add_subplot(projection="3d")
    elif ax.name != "3d":
        raise ValueError("ax is not a 3D Axes; make it with projection='3d'")
    axes3d: Any = ax
    scale = scale_of(landscape, cap=cap, log=log, limits=limits, cmap=cmap)
    bottom, top = scale.height([scale.low, scale.high])

    # Quadrilaterals are cut finer than the mesh, bilinearly as they would be drawn anyway, so that the edge of a
    # capped region and the colours do not follow the mesh.
    heights = scale.height(grid.surface(landscape).numpy())
    pieces = max(1, math.ceil(72 / max(heights.shape)))
    fine_x, fine_y = _subdivide(x, pieces), _subdivide(y, pieces)
    fine = _subdivide(_subdivide(heights, pieces).T, pieces).T
    colour_at = _corners(fine).mean(axis=1)
    fine = fine if scale.cap is None else np.minimum(fine, scale.height(scale.cap))
    mesh = np.stack([*np.meshgrid(fine_x, fine_y, indexing="ij"), fine], axis=-1)
    whole = np.isfinite(colour_at)
    share = (colour_at[whole] - bottom) / (top - bottom)
    faces = scale.colormap()(np.where(share > 1 + 1e-9, np.inf, share.clip(0, 1 - 1e-9)))
    # edges of the faces' own colour close the hairlines that antialiasing leaves between neighbours
    axes3d.add_collection3d(
        Poly3DCollection(_corners(mesh)[whole], facecolors=faces, edgecolors=faces, linewidths=0.3)
    )

    axes3d.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]), zlim=(bottom, top))
    center, loss = _center(landscape)
    if center is not None and math.isfinite(float(scale.height(loss))):
        spot = min(float(scale.height(loss)), top if scale.cap is not None else math.inf)
        axes3d.plot([center[0]], [center[1]], [spot], zorder=20, **_MARK)
    axes3d.view_init(*view)
    _label(ax, landscape, title)
    ticks = scale.ticks(5)
    axes3d.set_zticks(scale.height(ticks), [_number(tick) for tick in ticks] if log else None)
    axes3d.set_zlabel("loss")
    if colorbar:
        _colorbar(ax, scale, [landscape], shrink=0.62, pad=0.1, aspect=18)
    if legend:
        _legend(ax, _keys(scale, [landscape]))
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
    colorbar: bool = True,
    legend: bool = True,
) -> Axes:
    """Draws a plane's losses as colours with contour lines at round values.

    Args: as for :func:`surface3d`; ``ax`` is an ordinary Axes. Losses above ``cap`` are grey, holes are hatched.

    Raises:
        ValueError: the landscape is not a mesh of two coordinates.
    """
    x, y = _mesh_axes(landscape, 2, "contour")
    if ax is None:
        ax = _figure(5.2, 4.4).add_subplot()
    scale = scale_of(landscape, cap=cap, log=log, limits=limits, cmap=cmap)
    bottom, top = scale.height([scale.low, scale.high])
    heights = scale.height(grid.surface(landscape).numpy())
    ax.set_box_aspect(1)
    if not np.isfinite(heights).all():
        ax.add_patch(_hole(transform=ax.transAxes, zorder=0))
    if np.isfinite(heights).any():
        slack = 1e-9 * (top - bottom)  # so that rounding puts no extreme point beyond the scale
        bands = np.linspace(bottom - slack, top + slack, 65)
        field = np.ma.masked_invalid(heights.T)
        ax.contourf(x, y, field, bands, cmap=scale.colormap(), vmin=bottom, vmax=top, extend="both")
        ax.contour(x, y, field, scale.levels(), colors="white", linewidths=0.6, alpha=0.7, linestyles="solid")
        if scale.cap is not None:
            ax.contour(x, y, field, [top], colors="0.35", linewidths=1.0)
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    center, _ = _center(landscape)
    if center is not None:
        ax.plot(*center, zorder=20, clip_on=False, **_MARK)
    _label(ax, landscape, title)
    if colorbar:
        _colorbar(ax.inset_axes((1.04, 0.0, 0.05, 1.0)), scale, [landscape])
    if legend:
        _legend(ax, _keys(scale, [landscape]))
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

    Args: as for :func:`surface3d`; ``ax`` is an ordinary Axes. Losses above ``cap`` are a flat grey line, holes are
        gaps.

    Raises:
        ValueError: the landscape has more than one coordinate.
    """
    import matplotlib

    (x,) = _mesh_axes(landscape, 1, "profile")
    if ax is None:
        ax = _figure(5.2, 3.6).add_subplot()
    scale = scale_of(landscape, cap=cap, log=log, limits=limits, cmap=cmap)
    pieces = max(1, math.ceil(600 / len(x)))
    fine_x, fine = _subdivide(x, pieces), _subdivide(scale.height(landscape.losses.numpy()), pieces)
    losses = 10.0**fine if log else fine
    ax.grid(color="0.92", linewidth=0.8)
    ax.set_axisbelow(True)
    if scale.cap is not None:
        over = losses > scale.cap
        ax.plot(fine_x, np.where(over, scale.cap, np.nan), color=CAPPED, linewidth=4, solid_capstyle="butt")
        losses = np.where(over, np.nan, losses)
    ax.plot(fine_x, losses, color=matplotlib.colormaps[cmap](0.3), linewidth=1.8)
    if log:
        ax.set_yscale("log")
    margin = 0.04 * (x[-1] - x[0])
    bottom, top = scale.height([scale.low, scale.high])
    room = 0.06 * (top - bottom)
    ends = np.array([bottom - room, top + room])
    ax.set(xlim=(x[0] - margin, x[-1] + margin), ylim=10.0**ends if log else ends)
    center, loss = _center(landscape)
    if center is not None:
        ax.axvline(center[0], color=CENTER, linewidth=0.8, linestyle=(0, (4, 3)), alpha=0.6)
        ax.plot(center, [loss if scale.cap is None else min(loss, scale.cap)], zorder=20, **_MARK)
    _label(ax, landscape, title)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    if legend:
        _legend(ax, _keys(scale, [landscape]))
    return ax


_STYLES = {"surface3d": surface3d, "contour": contour, "profile": profile}


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
    **options: Any,
) -> Figure:
    """Draws several landscapes side by side.

    Args:
        landscapes: as many as there are titles.
        titles: one above each picture.
        columns: pictures in a row.
        style: ``"surface3d"``, ``"contour"`` or ``"profile"``.
        shared: whether all have one scale of colours and heights, with one colour bar; otherwise each its own.
        title: a line above all.
        cap: losses above it are drawn as capped.
        log: whether colours and heights are logarithmic.
        options: what else the style's function takes, such as ``view``.

    Returns:
        A new figure.
    """
    one_of("style", style, _STYLES)
    columns = min(positive_int("columns", columns), max(1, len(landscapes)))
    if len(landscapes) != len(titles) or not landscapes:
        raise ValueError(
            f"there are {len(titles)} titles for {len(landscapes)} landscapes; pass one for each"
        )
    rows = math.ceil(len(landscapes) / columns)
    width, height = {"surface3d": (4.0, 3.6), "contour": (3.6, 3.3), "profile": (3.8, 2.7)}[style]
    own_bars = style != "profile" and not shared
    figure = _figure(width * columns + (0.9 if shared else 0.7 * columns), height * rows + 0.4)
    scale = scale_of(*landscapes, cap=cap, log=log, cmap=options.get("cmap", CMAP))
    if shared:
        options = options | {"limits": (scale.low, scale.high)}
    if style != "profile":
        options = options | {"colorbar": own_bars}
    all_axes = []
    for index, (landscape, name) in enumerate(zip(landscapes, titles, strict=True), start=1):
        projection = "3d" if style == "surface3d" else None
        ax = figure.add_subplot(rows, columns, index, projection=projection)
        all_axes.append(_STYLES[style](landscape, ax, cap=cap, log=log, title=name, legend=False, **options))
    if shared and style != "profile":
        _colorbar(all_axes, scale, landscapes, shrink=0.7 if rows > 1 else 0.62, aspect=24, pad=0.06)
    keys = _keys(scale, landscapes)
    if keys:
        figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
    if title is not None:
        figure.suptitle(title)
    return figure


def slices(volume: Landscape, *, count: int = 4) -> tuple[list[Landscape], list[str]]:
    """Planes through a volume at values of its last coordinate, and their titles, for :func:`panel`.

    Args:
        volume: a mesh of three coordinates.
        count: how many planes, evenly spread over the last axis with both its ends.

    Returns:
        The landscapes of the planes, and titles that say where they lie. The centre is marked only in a plane that
        goes through it.
    """
    axes = _mesh_axes(volume, 3, "slices")
    count = min(positive_int("count", count), len(axes[2]))
    labels, center = _labels(volume), volume.chart.get("center")
    planes, titles = [], []
    for index in np.unique(np.linspace(0, len(axes[2]) - 1, count).round().astype(int)):
        inside = volume.coords[:, 2] == axes[2][index]
        through = center is not None and center[2] == axes[2][index]
        chart = volume.chart | {"labels": labels[:2], "center": list(center[:2]) if through else None}
        planes.append(
            Landscape(
                volume.coords[inside, :2],
                volume.losses[inside],
                chart,
                volume.diagnostics,
                volume.center if through else math.nan,
            )
        )
        titles.append(f"{labels[2]} = {axes[2][index]:.3g}")
    return planes, titles


def quadratic_overlay(
    ax: Axes,
    landscape: Landscape,
    eigenvalues: Sequence[float],
    *,
    cap: float | None = None,
    log: bool = False,
    limits: tuple[float, float] | None = None,
) -> Axes:
    """Adds what the Hessian predicts to a :func:`contour` or :func:`profile` along its eigenvectors.

    The prediction is center + 1/2 sum_i l_i (n_i c_i)^2, with coordinates c counted from the centre and n the norms of
    the directions (1 for normalised eigenvectors). In a contour it is dashed, at the same levels as the solid lines of
    the measured losses, so that the two coincide where the loss is quadratic.

    Args:
        ax: the Axes that the landscape was drawn in.
        landscape: one or two coordinates along eigenvectors, with the loss at its centre.
        eigenvalues: one for each coordinate.
        cap, log, limits: as given to the function that drew the landscape.
    """
    center, loss = _center(landscape)
    eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
    dim = landscape.coords.shape[1]
    if dim not in (1, 2) or eigenvalues.shape != (dim,):
        raise ValueError(
            f"there are {eigenvalues.size} eigenvalues for {dim} coordinates; pass one for each of one or two"
        )
    if center is None or not math.isfinite(loss):
        raise ValueError("the landscape has no loss at its centre, which the prediction starts from")
    axes = [np.linspace(axis[0], axis[-1], 201) for axis in _mesh_axes(landscape, dim, "quadratic_overlay")]
    norms = landscape.chart.get("norms") or [1.0] * dim
    terms = [
        0.5 * value * (norm * (axis - origin)) ** 2
        for value, norm, axis, origin in zip(eigenvalues, norms, axes, center, strict=True)
    ]
    style: dict[str, Any] = {"linestyles": "dashed", "linewidths": 1.1}
    if dim == 1:
        ax.plot(axes[0], loss + terms[0], color=CENTER, linestyle="dashed", linewidth=1.1, scaley=False)
    else:
        scale = scale_of(landscape, cap=cap, log=log, limits=limits)
        predicted = scale.height(loss + np.add.outer(*terms))
        ax.contour(*axes, np.ma.masked_invalid(predicted.T), scale.levels(), colors=CENTER, **style)
    from matplotlib.lines import Line2D

    _legend(
        ax, [Line2D([], [], color=CENTER, linestyle="dashed", linewidth=1.1, label="quadratic prediction")]
    )
    return ax


def save(figure: Figure, path: store.PathLike, *, dpi: int = 200) -> store.Path:
    """Writes a figure, whole or not at all; the same figure gives the same bytes.

    Args:
        figure: what to write.
        path: where; its suffix says the format (.png, .pdf, .svg, ...), .png if it has none.
        dpi: resolution of a PNG.
    """
    path = store.Path(path)
    path = path if path.suffix else path.with_suffix(".png")
    # no date and no version of the software in the file
    undated: dict[str, Any] = {
        ".png": {"Software": None},
        ".pdf": {"CreationDate": None},
        ".svg": {"Date": None},
    }
    with store.replacing(path) as file:
        figure.savefig(
            file,
            format=path.suffix[1:],
            dpi=dpi,
            bbox_inches="tight",
            pad_inches=0.08,
            metadata=undated.get(path.suffix),
        )
    return path


def show(figure: Figure) -> bool:
    """Shows a figure in the notebook, or else in a window until that is closed.

    Without either, it warns and says what to do; results are never lost because nobody could look at them.

    Returns:
        Whether it was shown.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        from IPython.display import Image, display

        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110, bbox_inches="tight")
        display(Image(data=file.getvalue()))
        return True
    try:
        from matplotlib import pyplot

        if pyplot.get_backend().lower() in _FILE_BACKENDS:
            raise ImportError(
                f"matplotlib's backend here is {pyplot.get_backend()!r}, which only writes files"
            )
        pyplot.figure(FigureClass=lambda **_: figure)  # type: ignore[arg-type]
    except ImportError as error:
        warnings.warn(
            f"there is no display to show the figure on ({error}); save it instead, or run where there is one",
            stacklevel=2,
        )
        return False
    pyplot.show(block=True)
    pyplot.close(figure)
    return True


_FILE_BACKENDS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")
_MARK: dict[str, Any] = {
    "marker": "o",
    "markersize": 6.5,
    "markerfacecolor": CENTER,
    "markeredgecolor": "white",
    "markeredgewidth": 1.0,
    "linestyle": "none",
}


def _figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches that pyplot knows nothing of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _mesh_axes(landscape: Landscape, dim: int, function: str) -> list[np.ndarray]:
    """The axes of a mesh with ``dim`` coordinates; other landscapes are refused."""
    if landscape.coords.shape[1] != dim:
        other = {1: "profile", 2: "surface3d or contour", 3: "slices"}.get(landscape.coords.shape[1], "none")
        raise ValueError(
            f"{function} draws landscapes of {dim} coordinate{'s' * (dim > 1)}, this one has "
            f"{landscape.coords.shape[1]}; the function for it is {other}"
        )
    axes = [axis.numpy() for axis in grid.axes(landscape)]
    if min(len(axis) for axis in axes) < 2:
        raise ValueError(
            f"{function} needs two or more values along each axis, there are {[len(a) for a in axes]}"
        )
    return axes


def _center(landscape: Landscape) -> tuple[list[float] | None, float]:
    """The centre's coordinates, None if it has none, and its loss, NaN where it was not evaluated."""
    center = landscape.chart.get("center")
    if center is None:
        return None, math.nan
    if math.isnan(landscape.center):
        here = (landscape.coords == landscape.coords.new_tensor(center)).all(dim=1)
        return list(center), float(landscape.losses[here][0]) if here.any() else math.nan
    return list(center), landscape.center


def _labels(landscape: Landscape) -> list[str]:
    """A name for each coordinate."""
    return landscape.chart.get("labels") or [f"coordinate {i + 1}" for i in range(landscape.coords.shape[1])]


def _subdivide(values: np.ndarray, pieces: int) -> np.ndarray:
    """Puts points at equal steps between neighbours along axis 0, by linear interpolation."""
    position = np.arange((len(values) - 1) * pieces + 1) / pieces
    left = np.minimum(position.astype(int), len(values) - 2)
    share = (position - left).reshape(-1, *[1] * (values.ndim - 1))
    # np.where, since zero times NaN would let a hole grow beyond its neighbours
    before = np.where(share < 1, values[left] * (1 - share), 0)
    return before + np.where(share > 0, values[left + 1] * share, 0)


def _corners(mesh: np.ndarray) -> np.ndarray:
    """The four corners of each cell of a mesh [A, B, ...], as [cells, 4, ...]."""
    around = [mesh[:-1, :-1], mesh[1:, :-1], mesh[1:, 1:], mesh[:-1, 1:]]
    return np.stack(around, axis=2).reshape(-1, 4, *mesh.shape[2:])


def _number(loss: float) -> str:
    """A loss as a tick label."""
    exponent = round(math.log10(loss)) if loss > 0 else 0
    if not -3 <= exponent <= 4 and math.isclose(loss, 10.0**exponent):
        return f"$10^{{{exponent}}}$"
    return f"{loss:.4g}"


def _label(ax: Any, landscape: Landscape, title: str | None) -> None:
    """Names the axes, with few round ticks on each."""
    from matplotlib.ticker import MaxNLocator

    for name, label in zip("xy", [*_labels(landscape), "loss"], strict=False):
        getattr(ax, f"set_{name}label")(label)
        if getattr(ax, f"get_{name}scale")() == "linear":
            getattr(ax, f"{name}axis").set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if title is not None:
        ax.set_title(title)


def _colorbar(ax: Any, scale: Scale, landscapes: Sequence[Landscape], **place: Any) -> None:
    """Draws the scale beside some Axes, or into one made for it; a grey tip stands for losses above it."""
    from matplotlib.cm import ScalarMappable

    colours = ScalarMappable(scale.norm(), scale.colormap())
    figure = ax[0].figure if isinstance(ax, list) else ax.figure
    target = {"ax": ax, **place} if place else {"cax": ax}
    above = any((scale.height(each.losses.numpy()) > scale.height(scale.high)).any() for each in landscapes)
    ticks = scale.ticks()
    bar = figure.colorbar(colours, extend="max" if above else "neither", ticks=ticks, **target)
    bar.ax.minorticks_off()
    if scale.log:
        bar.set_ticks(ticks, labels=[_number(tick) for tick in ticks])
    bar.set_label("loss" + (" (log scale)" if scale.log else ""))
    bar.outline.set_linewidth(0.6)


def _hole(**place: Any) -> Any:
    """The hatched patch that holes are seen by."""
    from matplotlib.patches import Rectangle

    return Rectangle((0, 0), 1, 1, facecolor=HOLE, edgecolor="0.75", hatch="xxxx", linewidth=0, **place)


def _keys(scale: Scale, landscapes: Sequence[Landscape]) -> list[Any]:
    """Legend entries for whatever is special in these pictures: centre, capped losses, holes."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = []
    centers = [_center(landscape) for landscape in landscapes]
    if any(center is not None for center, _ in centers):
        known = {loss for center, loss in centers if center is not None and not math.isnan(loss)}
        loss = f", loss {known.pop():.4g}" if len(known) == 1 else ""
        keys.append(Line2D([], [], label=f"centre{loss}", **_MARK))
    if scale.cap is not None:
        keys.append(Patch(facecolor=CAPPED, label=f"capped: loss above {scale.cap:.4g}"))
    holes = sum(int(np.isnan(scale.height(landscape.losses.numpy())).sum()) for landscape in landscapes)
    if holes:
        patch = _hole(label=f"not finite{' or not positive' * scale.log}: {holes} points")
        keys.append(patch)
    return keys


def _legend(ax: Any, keys: list[Any]) -> None:
    """Adds entries to the legend below the picture."""
    old = ax.get_legend()
    handles = ([*old.legend_handles] if old else []) + keys
    labels = ([text.get_text() for text in old.get_texts()] if old else []) + [
        key.get_label() for key in keys
    ]
    if handles:
        below = 0.0 if ax.name == "3d" else -0.13
        ax.legend(
            handles,
            labels,
            loc="upper center",
            bbox_to_anchor=(0.5, below),
            ncols=len(handles),
            frameon=False,
            fontsize="small",
            handletextpad=0.5,
        )
