"""What viz_path draws and writes: profiles, planes with the models marked, slices of volumes, numbers and settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lla_func import plots
from lla_func.facades._models import MAIN
from lla_func.facades._path_request import PathRequest
from lla_func.facades._path_result import PathResult
from lla_func.facades._writing import drawn_values
from lla_func.files import file_name, save_json
from lla_func.hessian import is_first
from lla_func.landscape import chosen
from lla_func.spectrum import Estimate


def write_path(asked: PathRequest, result: PathResult) -> PathResult:
    """The same result with its files, its pictures drawn and shown."""
    paths: dict[str, Path] = {}
    pictures, numbers = asked.folders or (None, None)
    if numbers is not None:
        paths["losses"] = result.save(numbers / f"{asked.name}.npz")
        record = {
            **result.settings,
            "losses_of_models": result.losses,
            "own_losses": result.own_losses,
            "barriers": [
                {
                    **each._asdict(),
                    "estimate": {**each.estimate._asdict(), "samples": len(each.estimate.samples)},
                }
                for each in result.barriers
            ],
        }
        paths["settings"] = save_json(numbers / f"{asked.name}.json", record)
    show = asked.output.to_viz and is_first(asked.group)
    if pictures is None and not show:
        return replace(result, paths=paths)
    options = {"cap": asked.picture.cap_loss, "log": asked.picture.log}
    for what, figure in figures(result, slices=asked.interpolation.slices, **options).items():
        if pictures is not None:
            suffix = "" if what in ("profile", "contour") else f"_{file_name('metrics', what)}"
            paths[what] = plots.save(figure, pictures / f"{asked.name}{suffix}.png")
        if show:
            plots.show(figure)
    return replace(result, paths=paths)


def figures(result: PathResult, *, slices: int = 4, **options: Any) -> Mapping[str, Any]:
    """The figures of a result: a profile of a line; contours and surfaces of a plane; slices of a volume.

    Args:
        result: of :func:`lla_func.viz_path`.
        slices: planes of a volume.
        options: ``cap`` and ``log`` (:class:`lla_func.plots.Look`).
    """
    dim = result.landscape.coords.shape[1]
    if dim == 3:
        return _slices(result, slices, **options)
    figures = {"profile": _profile(result, **options)} if dim == 1 else _planes(result, **options)
    for label, metric in drawn_values(result.landscape).items():
        if dim == 1:
            found = {label: chosen(result.landscape, metric)}
            figures[label] = plots.profiles(found).figure
        else:
            figures[label] = plots.panel(
                [result.landscape], [label], style="contour", columns=1, metric=metric
            )
            plots.mark_points(figures[label].axes[0], result.landscape)
    return figures


def _profile(result: PathResult, **options: Any) -> Any:
    ax = plots.profiles(result.landscapes, **options)
    found = [each for each in result.barriers if each.metric == MAIN]
    for each in found:
        left, right = (float(result.coordinates[result.names.index(name), 0]) for name in each.between)
        ends = (left, each.ends[0]), (right, each.ends[1])
        label = f"barrier\n{_height(each.estimate)}" if len(found) == 1 else f"{each.estimate.value:.3g}"
        plots.mark_barrier(ax, left + each.at * (right - left), ends, each.estimate.value, label)
    return ax.figure


def _height(estimate: Estimate) -> str:
    """A barrier with the larger of its errors, for a picture."""
    return f"{estimate.value:.4g} ± {max(estimate.error, estimate.data_error or 0.0):.1g}"


def _planes(result: PathResult, **options: Any) -> dict[str, Any]:
    panels = list(result.landscapes.values()), list(result.landscapes)
    columns = min(len(result.landscapes), 2)
    flat = plots.panel(*panels, style="contour", columns=columns, **options)
    steep = plots.panel(*panels, style="surface3d", columns=columns, **options)
    look = plots.Look(**options)
    for number, landscape in enumerate(panels[0]):
        plots.mark_points(flat.axes[number], landscape)
        if "path" in result.more:
            flat.axes[number].plot(*result.more["path"].T, color="white", linewidth=1.6, zorder=10)
        if number == 0:  # the height of the models is known of the first metric
            plots.mark_heights(steep.axes[number], landscape, result.losses.tolist(), look)
    return {"contour": flat, "surface": steep}


def _slices(result: PathResult, count: int, **options: Any) -> Mapping[str, Any]:
    drawn = {}
    for name, volume in result.landscapes.items():
        planes, titles = plots.slices(volume, count=count)
        figure = plots.panel(planes, titles, style="contour", title=None if name == MAIN else name, **options)
        heights = volume.coords[:, 2].unique()
        within = float(heights[-1] - heights[0]) / max(len(planes) - 1, 1) / 2
        chosen = heights[torch.linspace(0, len(heights) - 1, len(planes)).round().long()].tolist()
        for ax, plane, height in zip(figure.axes, planes, chosen, strict=False):
            plots.mark_points(ax, plane, at=height, within=within)
        drawn["slices" if name == MAIN else f"slices_{name}"] = figure
    return drawn
