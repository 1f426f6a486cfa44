"""Trainings in weight space: paths over a surface, what the plane does not show of them, and an animation."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lla_func.errors import finite_tensor, positive_int
from lla_func.files import PathLike
from lla_func.landscape import Landscape
from lla_func.plots._contour import contour
from lla_func.plots._files import new_figure
from lla_func.plots._scale import add_legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#d7263d", "#f2a541", "#ffffff", "#7fdbff", "#ff85e1", "#01ff70", "#b0bec5", "#ff7043")
"""Of runs, that stand out from the color map; light ones have a dark edge."""

EDGE = "0.15"


def path(
    landscape: Landscape,
    coordinates: Sequence[Tensor],
    ax: Axes | None = None,
    *,
    names: Sequence[str] | None = None,
    **options: Any,
) -> Axes:
    """Draws the contours of a plane with one or several trainings over it.

    A circle marks where each begins, a star where it ends; dots are its checkpoints.

    Args:
        landscape: the losses on the plane.
        coordinates: of each run's checkpoints on the plane, [T, 2].
        ax: by default those of a new figure.
        names: of the runs, for the legend.
        options: of the picture (:class:`lla_func.plots.Look`).

    Returns:
        The Axes.

    Raises:
        ValueError: coordinates are not [T, 2], or there is no name for each run.

    Example:
        >>> import torch
        >>> from lla_func import chart
        >>> axis = torch.linspace(-1, 1, 5)
        >>> coords = chart.mesh(axis, axis)
        >>> bowl = Landscape(coords, coords.square().sum(1), {}, {})
        >>> ax = path(bowl, [torch.tensor([[-1.0, 0.5], [-0.5, 0.1], [0.0, 0.0]])], title="downhill")
    """
    names = _named(coordinates, names)
    if ax is None:
        ax = new_figure(5.6, 4.8).add_subplot()
    contour(landscape, ax, **options)
    runs = [_run(ax, *run) for run in zip(coordinates, names, COLORS * len(names), strict=False)]
    if len(names) > 1:
        add_legend(ax, runs)
    return ax


def off_plane(
    steps: Sequence[Tensor],
    distances: Sequence[Tensor],
    losses: Sequence[Tensor],
    plane_losses: Sequence[Tensor],
    *,
    names: Sequence[str] | None = None,
    log: bool = False,
) -> Figure:
    """Draws what a plane does not show: distances of checkpoints from it, and their true losses beside the plane's.

    Args:
        steps: of each run's checkpoints, [T].
        distances: from the plane, [T].
        losses: at the checkpoints, [T].
        plane_losses: at their projections, [T].
        names: of the runs.
        log: whether losses are on a logarithmic scale.

    Returns:
        A new figure.
    """
    names = _named(distances, names, axes=1)
    figure = new_figure(5.6, 5.0)
    upper, lower = figure.subplots(2, 1, sharex=True)
    import matplotlib

    colors = matplotlib.colormaps["tab10"].colors  # type: ignore[attr-defined]
    for run, name in enumerate(names):
        color, more = colors[run % len(colors)], f", {name}" if len(names) > 1 else ""
        true: dict[str, Any] = {"color": color, "linewidth": 1.6}
        dashed: dict[str, Any] = {"color": color, "linewidth": 1.2, "linestyle": "dashed"}
        upper.plot(steps[run], losses[run], label=f"true loss{more}", **true)
        upper.plot(steps[run], plane_losses[run], label=f"loss on the plane{more}", **dashed)
        lower.plot(steps[run], distances[run], **true)
    shown = np.concatenate([np.asarray(part, dtype=np.float64) for part in (*losses, *plane_losses)])
    shown = shown[np.isfinite(shown)]
    if log and shown.size and shown.min() > 0:
        upper.set_yscale("log")
    upper.set_ylabel("loss")
    upper.legend(frameon=False, fontsize="small")
    lower.set(xlabel="step", ylabel="distance from the plane")
    lower.set_ylim(bottom=0)
    for ax in (upper, lower):
        ax.grid(color="0.92", linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def animation(
    landscape: Landscape,
    coordinates: Sequence[Tensor],
    file: PathLike,
    *,
    names: Sequence[str] | None = None,
    frames: int = 60,
    fps: int = 12,
    dpi: int = 100,
    **options: Any,
) -> Path:
    """Writes an animation of trainings that run over a surface: a GIF, or an MP4 where ffmpeg is installed.

    Args:
        landscape: the losses on the plane.
        coordinates: of each run's checkpoints, [T, 2]. All runs start together; each ends with its last checkpoint.
        file: what to write; its suffix says which, ``.gif`` (by pillow) or ``.mp4`` (by ffmpeg).
        names: of the runs.
        frames: at most so many, evenly spread over the checkpoints; the last stays for a second.
        fps: frames a second.
        dpi: the resolution.
        options: of the picture (:class:`lla_func.plots.Look`).

    Returns:
        The path written.

    Raises:
        ValueError: the suffix is another one, or ffmpeg is not there.
    """
    from matplotlib.animation import FFMpegWriter, PillowWriter

    names = _named(coordinates, names)
    frames, fps = positive_int("frames", frames, least=2), positive_int("fps", fps)
    target = Path(file)
    writers: dict[str, Any] = {".gif": PillowWriter, ".mp4": FFMpegWriter}
    if target.suffix.lower() not in writers:
        raise ValueError(f"file={str(file)!r} is no animation; name it .gif, or .mp4")
    writer = writers[target.suffix.lower()]
    if not writer.isAvailable():
        raise ValueError(f"file={str(file)!r} needs ffmpeg, which is not installed; name it .gif")
    longest = max(map(len, coordinates))
    shown = np.unique(np.linspace(1, longest, min(frames, longest)).round().astype(int))
    figure = new_figure(5.6, 4.8)
    ax = figure.add_subplot()
    contour(landscape, ax, **options)
    runs = [
        _run(ax, part, name, color, 1)
        for part, name, color in zip(coordinates, names, COLORS * len(names), strict=False)
    ]
    if len(names) > 1:
        add_legend(ax, runs)
    points = [np.asarray(part, dtype=np.float64) for part in coordinates]

    target.parent.mkdir(parents=True, exist_ok=True)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what was laid out once stays where it is
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".animation_") as folder:
        unfinished = Path(folder) / target.name
        movie = writer(fps=fps)
        movie.setup(figure, unfinished, dpi)
        try:
            for count in [*shown, *[longest] * fps]:
                for line, part in zip(runs, points, strict=True):
                    line.set_data(*part[:count].T)
                movie.grab_frame()
        except BaseException:
            with suppress(Exception):  # without a frame it has nothing to end, and says so in its own way
                movie.finish()
            raise
        movie.finish()
        unfinished.replace(target)
    return target


def _run(ax: Any, part: Tensor, name: str, color: str, until: int | None = None) -> Any:
    """Draws a run; returns the line of its checkpoints."""
    points = np.asarray(part, dtype=np.float64)
    begun: dict[str, Any] = {"color": color, "markeredgecolor": EDGE, "linestyle": "none", "zorder": 22}
    (line,) = ax.plot(
        *points[:until].T,
        color=color,
        linewidth=1.3,
        marker=".",
        markersize=5.0 if len(points) <= 100 else 2.5,
        markeredgecolor=EDGE,
        markeredgewidth=0.3,
        zorder=21,
        label=name,
    )
    ax.plot(*points[0], marker="o", markersize=6, **begun)
    if until is None or until >= len(points):
        ax.plot(*points[-1], marker="*", markersize=12, **begun)
    return line


def _named(coordinates: Sequence[Tensor], names: Sequence[str] | None, *, axes: int = 2) -> list[str]:
    """The runs' names, where there is one for each, and each is of points with so many coordinates."""
    if not len(coordinates):
        raise ValueError("coordinates is empty; pass [T, 2] for each run")
    for number, part in enumerate(coordinates):
        finite_tensor(f"coordinates[{number}]", part, ("T", 2)[:axes])
    found = [f"run {i + 1}" for i in range(len(coordinates))] if names is None else list(names)
    if len(found) != len(coordinates):
        raise ValueError(f"there are {len(found)} names for {len(coordinates)} runs; pass one for each")
    return found
