"""Trainings over the surface of their plane: what viz_path computes, draws and writes of trajectories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lla_func import plots
from lla_func._torch import full_precision, noticed, without_autocast
from lla_func.geometry import Trajectory, plane_coords, same_layout, trajectory_plane
from lla_func.landscape import Landscape, evaluate
from lla_func.objective import Objective, risk
from lla_func.options import Evaluation

MESH_ONLY: Mapping[str, Any] = {"sampling": "grid", "tol": None, "log_tol": False, "store": None}
"""Options of a surface that points along a path do not share."""

MARGIN = 0.15
"""How far the plane goes beyond the paths, as a part of their extent, where nothing else is said."""

BUDGET = 2**28
"""Bytes for finding the plane, where nothing else is said."""


class TrajectoryFindings(NamedTuple):
    """What is known of trainings on a plane; with several runs all but the first two are tuples, one entry a run.

    Attributes:
        landscape: the surface on the plane; its chart's summary has what the plane is.
        explained: the share of the checkpoints' squared distance from the plane's origin along each axis, [2].
        coordinates: of the checkpoints' projections onto the plane, [T, 2].
        distances: of the checkpoints from the plane, [T]: what the picture does not show of the path.
        losses: the true loss at each checkpoint, [T].
        plane_losses: the loss at its projection, [T].
        steps: of training, [T].
    """

    landscape: Landscape
    explained: Tensor
    coordinates: Any
    distances: Any
    losses: Any
    plane_losses: Any
    steps: Any


def along_trajectories(
    objective: Objective,
    paths: Trajectory | Sequence[Trajectory],
    *,
    axes: str | Tensor = "pca",
    center: str | None = None,
    steps: int = 40,
    margin: float = MARGIN,
    evaluation: Evaluation | None = None,
    memory_budget: int = BUDGET,
) -> TrajectoryFindings:
    """The surface on the plane of one or several trainings, with the losses along them on and off it.

    Where the objective recalibrates BatchNorm it does so at every checkpoint and at every point of the plane, so that
    the two losses can be compared.

    Args:
        objective: the loss; its parameters are those that were recorded.
        paths: one or several trajectories of whole thetas.
        axes, center: which plane (:func:`lla_func.geometry.trajectory_plane`).
        steps: points of the surface along each axis.
        margin: how far it reaches beyond the paths, as a share of their extent.
        evaluation: how losses are computed (:func:`lla_func.evaluate`).
        memory_budget: bytes for finding the plane.

    Raises:
        ValueError: the trajectories are of another model than the objective, or keep random projections.

    Example:
        >>> from lla_func import from_loss
        >>> bowl = from_loss(lambda theta, _: theta.square().sum(), torch.zeros(3).double())
        >>> turn = torch.linspace(1, 0, 9, dtype=torch.float64)[:, None]
        >>> thetas = torch.cat([turn, turn**2, 0 * turn], dim=1)
        >>> found = along_trajectories(bowl, Trajectory.of(thetas), steps=5)
        >>> torch.allclose(found.losses, thetas.square().sum(1)), bool(found.distances.max() < 1e-12)
        (True, True)
    """
    runs = [paths] if isinstance(paths, Trajectory) else list(paths)
    evaluation = Evaluation() if evaluation is None else evaluation
    for number, path in enumerate(runs):
        if isinstance(path, Trajectory) and path.projection is not None:
            raise ValueError(
                f"paths[{number}] keeps random projections, along which there are no losses; trajectory_plane shows "
                "such a path alone, or record without project="
            )
        if isinstance(path, Trajectory):
            same_layout(path, objective.layout, "the objective")
    theta = objective.theta
    found = trajectory_plane(
        *(runs,),
        axes=axes,
        center=center,
        memory_budget=memory_budget,
        dtype=theta.dtype,
        device=theta.device,
    )
    options = {name: getattr(evaluation, name) for name in Evaluation.__dataclass_fields__}
    landscape = evaluate(objective, found.chart, plane_coords(found, steps, margin=margin), **options)
    unmarked = {**landscape.chart, "center": None, "plane": found.kind, "explained": found.explained.tolist()}
    landscape = landscape._replace(chart=unmarked)
    along = replace(evaluation, **MESH_ONLY)
    options = {name: getattr(along, name) for name in Evaluation.__dataclass_fields__}
    shown = evaluate(objective, found.chart, torch.cat(found.coordinates), **options)
    losses = _true_losses(objective, runs, evaluation)
    sizes = [len(path) for path in runs]
    found_along = (
        found.coordinates,
        found.distances,
        losses,
        shown.losses.split(sizes),
        tuple(path.steps for path in runs),
    )
    if isinstance(paths, Trajectory):
        return TrajectoryFindings(landscape, found.explained, *(parts[0] for parts in found_along))
    return TrajectoryFindings(landscape, found.explained, *found_along)


def draw_trajectories(
    found: TrajectoryFindings, names: Sequence[str] | None = None, *, log: bool = False, **options: Any
) -> dict[str, Any]:
    """The figures: ``path``, the trainings over their surface, and ``off_plane``, what that does not show.

    Args:
        found: by :func:`along_trajectories`.
        names: of the runs.
        log: whether losses are on a logarithmic scale.
        options: of the picture (:class:`lla_func.plots.Look`).
    """
    runs = _by_run(found)
    over = plots.path(found.landscape, runs.coordinates, names=names, log=log, **options)
    beside = plots.off_plane(
        *(runs.steps, runs.distances, runs.losses, runs.plane_losses), names=names, log=log
    )
    return {"path": over.figure, "off_plane": beside}


def write_animation(
    found: TrajectoryFindings, file: str | Path, names: Sequence[str] | None = None, **options: Any
) -> Path:
    """Writes an animation of the trainings over their surface (:func:`lla_func.plots.animation`)."""
    return plots.animation(found.landscape, _by_run(found).coordinates, file, names=names, **options)


def _by_run(found: TrajectoryFindings) -> TrajectoryFindings:
    """The same with tuples, also of one run."""
    if isinstance(found.distances, tuple):
        return found
    return TrajectoryFindings(found.landscape, found.explained, *((part,) for part in found[2:]))


def _true_losses(
    objective: Objective, runs: Sequence[Trajectory], evaluation: Evaluation
) -> tuple[Tensor, ...]:
    """The loss at every checkpoint of every run, one theta in memory at a time."""
    count = sum(len(path) for path in runs)
    bar = tqdm(total=count, unit="checkpoint", disable=not evaluation.progress, leave=False)
    found = []
    with bar, noticed(), torch.no_grad(), full_precision(not evaluation.tf32), without_autocast():
        for path in runs:
            losses = torch.empty(len(path), dtype=torch.float64)
            for t in range(len(path)):
                losses[t] = risk(objective, path.theta(t).to(objective.theta))
                bar.update()
            found.append(losses)
    return tuple(found)
