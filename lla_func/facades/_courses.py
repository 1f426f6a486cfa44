"""Where viz_path goes: through models, or along a fitted curve and over its plane."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import combinations, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lla_func.facades._models import MAIN, Models, models_from, names_of, points_of
from lla_func.geometry import Chart, chart
from lla_func.objective import Objective
from lla_func.options import Between, Interpolation

STRAIGHT = "straight line"
"""What the loss on the straight line between the ends of a curve is called."""

EXTENT = 0.2
"""How far a plane goes beyond what lies on it, as a part of its extent, where nothing else is said."""


class Course(NamedTuple):
    """What is evaluated where.

    Attributes:
        models: the models, or points of a curve, with the objectives by name.
        charts: for each name the chart that its objective is evaluated on; on the first one the models are marked.
        coords: where, [N, C].
        pairs: of which models barriers are sought, by number.
        more: further arrays for the result.
    """

    models: Models
    charts: Mapping[str, Chart]
    coords: Tensor
    pairs: tuple[tuple[int, int], ...]
    more: Mapping[str, Tensor] = {}

    @property
    def chart(self) -> Chart:
        """The chart of the first objective."""
        return self.charts[MAIN]

    @property
    def places(self) -> Tensor:
        """The coordinates of the models, [n, C]."""
        return torch.tensor([self.chart.points[name] for name in self.models.names], dtype=torch.float64)


def course_of(
    given: Any,
    metric: Any,
    also: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    like: Any,
    setup: Between,
    options: Interpolation,
) -> Course:
    """The course of a call of viz_path, by what its first argument is; no loss is evaluated.

    Raises:
        ValueError, TypeError: it is nothing that a path can be made of, or an argument does not fit it.
    """
    if is_curve(given):
        if like is None and not isinstance(metric, Objective):
            like = getattr(given, "like", None)
        return _along_curve(given, metric, also, metrics, like, setup, options)
    if like is not None:
        raise ValueError("like= is for curves and trajectories, which do not know their model; leave it out")
    return _through_models(models_from(given, metric, also, metrics, setup, options.names), options)


def is_curve(given: Any) -> bool:
    """Whether it is a curve: what :func:`lla_func.connect` returns, or anything with a chart and points."""
    return hasattr(given, "chart") and isinstance(getattr(given, "points", None), Tensor)


def _through_models(models: Models, options: Interpolation) -> Course:
    count, dim = len(models.thetas), options.dim(len(models.thetas))
    if dim > 1 and count != dim + 1:
        raise ValueError(f"kind={options.kind!r} goes through {dim + 1} models, there are {count}")
    makers: dict[int, Callable[..., Chart]] = {
        1: chart.linear_interpolation if count == 2 else chart.polygonal_chain,
        2: chart.planar_interpolation,
        3: chart.spatial_interpolation,
    }
    through = makers[dim](*models.thetas, labels=models.names)
    pairs = tuple(pairwise(range(count)) if dim == 1 else combinations(range(count), 2))
    places = torch.tensor(list(through.points.values()), dtype=torch.float64)
    coords = _along(count - 1, options) if dim == 1 else _over(places, options)
    return Course(models, dict.fromkeys(models.objectives, through), coords, pairs)


def _along_curve(
    curve: Any,
    metric: Any,
    also: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    like: Any,
    setup: Between,
    options: Interpolation,
) -> Course:
    """Along a curve, with the straight line between its ends beside it; or over the plane that it lies on."""
    if options.kind in ("chain", "volume"):
        raise ValueError(
            f"kind={options.kind!r} is for models; a curve is shown along itself (auto) or on its plane"
        )
    ends = [curve.points[0], curve.points[-1]]
    if options.kind == "plane":
        plane = curve.plane()
        bends = ["bend"] if len(plane.marks) == 3 else [f"bend {i + 1}" for i in range(len(plane.marks) - 2)]
        first, last = names_of(options.names, 2)
        models = points_of(list(curve.points), metric, also, metrics, like, setup, [first, *bends, last])
        places = dict(zip(models.names, map(tuple, plane.marks.tolist()), strict=True))
        over = _like_main(plane.chart, models)._replace(center=None, points=places)
        coords = _over(torch.cat([plane.marks, plane.path]), options)
        more = {"path": plane.path, "path_distances": plane.distances}
        return Course(models, dict.fromkeys(models.objectives, over), coords, (), more)
    models = points_of(ends, metric, also, metrics, like, setup, options.names)
    if STRAIGHT in models.objectives:
        raise ValueError(f"also has the name {STRAIGHT!r}, which the line between the curve's ends has")
    places = {name: (float(number),) for number, name in enumerate(models.names)}
    along = _like_main(curve.chart, models)._replace(center=None, points=places)
    charts = dict.fromkeys(models.objectives, along)
    charts[STRAIGHT] = chart.linear_interpolation(*models.thetas, labels=models.names)
    models = models._replace(objectives={**models.objectives, STRAIGHT: models.objectives[MAIN]})
    return Course(models, charts, _along(1, options), ((0, 1),))


def _like_main(found: Chart, models: Models) -> Chart:
    theta = models.objectives[MAIN].theta
    return found._replace(origin=found.origin.to(theta), basis=found.basis.to(theta))


def _along(pieces: int, options: Interpolation) -> Tensor:
    """Coordinates along a line of so many pieces, which meet all whole numbers."""
    density = options.steps - 1
    beyond = round((options.margin or 0.0) * pieces * density)
    return (torch.arange(-beyond, pieces * density + beyond + 1).double() / density)[:, None]


def _over(places: Tensor, options: Interpolation) -> Tensor:
    """A mesh around some places; in a volume the last axis ends at them, so that slices meet them."""
    margin = EXTENT if options.margin is None else options.margin
    axes = []
    for number, column in enumerate(places.T):
        low, high = float(column.min()), float(column.max())
        room = margin * (high - low) if number < 2 else 0.0
        axes.append(torch.linspace(low - room, high + room, options.steps, dtype=torch.float64))
    return chart.mesh(*axes)
