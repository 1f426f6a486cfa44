"""What a call of viz_path asks for, checked as a whole before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from lla_func.errors import instance
from lla_func.facades._common import folders_of
from lla_func.facades._models import Models, models_from
from lla_func.files import file_name
from lla_func.geometry import Chart, chart
from lla_func.landscape import MANIFEST, directory, planned, read_manifest
from lla_func.options import Between, Evaluation, Interpolation, Output, Picture

Families = tuple[Interpolation, Evaluation, Between, Picture, Output]


class PathRequest(NamedTuple):
    """What a call of :func:`viz_path` asks for, checked.

    Attributes:
        models: with their objectives.
        chart: the line, chain, plane or volume through them.
        coords: where it is evaluated, [N, C].
        places: the coordinates of the models, [n, C].
        pairs: of which models barriers are sought, by number.
        interpolation, evaluation, between, picture, output, group: the options.
        name: of the files.
        folders: for pictures and for numbers, None where nothing is written.
        store: the folder of finished points.
    """

    models: Models
    chart: Chart
    coords: Tensor
    places: Tensor
    pairs: tuple[tuple[int, int], ...]
    interpolation: Interpolation
    evaluation: Evaluation
    between: Between
    picture: Picture
    output: Output
    group: Any
    name: str
    folders: tuple[Path, Path] | None
    store: Path | None


def checked_path(
    models: Any, metric: Any, also: Mapping[str, Any] | None, group: Any, families: Families
) -> PathRequest:
    """The request of a call; what is left to check of options that are right by themselves. No loss is evaluated.

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it, its value and what is allowed.
    """
    interpolation, evaluation, between, picture, output = families
    if group is not None:
        instance("group", group, dist.ProcessGroup, "a torch.distributed process group, or None")
        if evaluation.store is None:
            raise ValueError("group= needs store=, a folder that all its processes see, to share the points")
    planned(evaluation)
    name = file_name("cur_name", f"path_{file_name('cur_name', picture.cur_name)}")
    found = models_from(models, metric, also, between, interpolation.names)
    through = _chart_through(found, interpolation)
    folders = folders_of(output, group)
    store = None if evaluation.store is None else directory("store", evaluation.store)
    for manifest in () if store is None else store.glob(f"*/{MANIFEST}"):
        read_manifest(manifest.parent)
    count = len(found.thetas)
    return PathRequest(
        models=found,
        chart=through,
        coords=_coords(through, interpolation),
        places=torch.tensor([through.points[each] for each in found.names], dtype=torch.float64),
        pairs=tuple(pairwise(range(count)) if through.dim == 1 else combinations(range(count), 2)),
        interpolation=interpolation,
        evaluation=evaluation,
        between=between,
        picture=picture,
        output=output,
        group=group,
        name=name,
        folders=folders,
        store=store,
    )


def _chart_through(models: Models, options: Interpolation) -> Chart:
    count, dim = len(models.thetas), options.dim(len(models.thetas))
    if dim > 1 and count != dim + 1:
        raise ValueError(f"kind={options.kind!r} goes through {dim + 1} models, there are {count}")
    makers: dict[int, Callable[..., Chart]] = {
        1: chart.linear_interpolation if count == 2 else chart.polygonal_chain,
        2: chart.planar_interpolation,
        3: chart.spatial_interpolation,
    }
    return makers[dim](*models.thetas, labels=models.names)


def _coords(through: Chart, options: Interpolation) -> Tensor:
    """Where the chart is evaluated: along a line at the models themselves, too, and in a volume on the last one."""
    places = torch.tensor(list(through.points.values()), dtype=torch.float64)
    if through.dim == 1:
        density = options.steps - 1
        beyond = round((options.margin or 0.0) * float(places.max()) * density)
        return (torch.arange(-beyond, int(places.max()) * density + beyond + 1).double() / density)[:, None]
    margin = 0.2 if options.margin is None else options.margin
    axes = []
    for number, column in enumerate(places.T):
        low, high = float(column.min()), float(column.max())
        room = margin * (high - low) if number < 2 else 0.0
        axes.append(torch.linspace(low - room, high + room, options.steps, dtype=torch.float64))
    return chart.mesh(*axes)
