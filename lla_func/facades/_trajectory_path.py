"""viz_path of trainings: checked, computed, drawn and written."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lla_func import plots
from lla_func.errors import names as names_in
from lla_func.facades._common import bridge, folders_of, metric_of, objective_of, provenance
from lla_func.facades._models import refuse_like, settled
from lla_func.facades._trajectory import (
    BUDGET,
    MARGIN,
    TrajectoryFindings,
    along_trajectories,
    draw_trajectories,
    write_animation,
)
from lla_func.facades._trajectory_result import ALONG, TrajectoryResult
from lla_func.files import file_name, save_json
from lla_func.geometry import Trajectory
from lla_func.landscape import planned
from lla_func.objective import Objective
from lla_func.options import Between, Evaluation, Following, Interpolation, Output, Picture

Families = tuple[Interpolation, Following, Evaluation, Between, Picture, Output]


class TrajectoryRequest(NamedTuple):
    """What a call of :func:`lla_func.viz_path` with trajectories asks for, checked."""

    runs: tuple[Trajectory, ...]
    names: tuple[str, ...]
    objective: Objective
    families: Families
    name: str
    folders: tuple[Path, Path] | None


def are_trajectories(given: Any) -> bool:
    """Whether it is a trajectory, or a list with one in it."""
    several = given if isinstance(given, (list, tuple)) else [given]
    return any(isinstance(each, Trajectory) for each in several)


def checked_trajectories(
    given: Any, metric: Any, also: Mapping[str, Any] | None, like: Any, group: Any, families: Families
) -> TrajectoryRequest:
    """The request of a call; no loss is evaluated.

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it, its value and what is allowed.
    """
    interpolation, following, evaluation, between, picture, output = families
    for option, value in (("also", also), ("group", group)):
        if value is not None:
            raise ValueError(f"{option}= is for models and curves; leave it out for a trajectory")
    if interpolation.kind not in ("auto", "plane"):
        raise ValueError(f"kind={interpolation.kind!r} is for models; a trajectory is shown on its plane")
    planned(evaluation)
    runs = (given,) if isinstance(given, Trajectory) else tuple(given)
    if wrong := [number for number, each in enumerate(runs) if not isinstance(each, Trajectory)]:
        raise TypeError(
            f"models[{wrong[0]}] is of type {type(runs[wrong[0]]).__name__}, others are trajectories; pass one kind"
        )
    if following.animation is not None and Path(following.animation).suffix.lower() not in (".gif", ".mp4"):
        raise ValueError(f"animation={str(following.animation)!r} is none; name it .gif, or .mp4")
    return TrajectoryRequest(
        runs=runs,
        names=_names(runs, interpolation),
        objective=_objective(runs, metric, like, between),
        families=families,
        name=file_name("cur_name", f"path_{file_name('cur_name', picture.cur_name)}"),
        folders=folders_of(output, None),
    )


def over_trajectories(asked: TrajectoryRequest) -> TrajectoryResult:
    """The result of a request, with its files, its pictures drawn and shown."""
    interpolation, following, evaluation, _, _, _ = asked.families
    start = time.perf_counter()
    found = along_trajectories(
        *(asked.objective, asked.runs),
        axes=following.axes,
        steps=interpolation.steps,
        margin=MARGIN if interpolation.margin is None else interpolation.margin,
        evaluation=evaluation,
        memory_budget=BUDGET if evaluation.memory_budget is None else evaluation.memory_budget,
    )
    settings = {name: value for family in asked.families for name, value in family.asdict().items()}
    settings |= {
        "names": asked.names,
        "axes": following.axes if isinstance(following.axes, str) else "given",
        "trajectories": [str(path.folder) for path in asked.runs],
        **provenance(asked.objective),
    }
    along: Any = {name: torch.cat(list(getattr(found, name))) for name in ALONG}
    lengths = tuple(len(path) for path in asked.runs)
    result = TrajectoryResult(
        *(found.landscape, found.explained),
        **along,
        lengths=lengths,
        names=asked.names,
        settings=settings,
        seconds=time.perf_counter() - start,
    )
    return _written(asked, found, result)


def _written(
    asked: TrajectoryRequest, found: TrajectoryFindings, result: TrajectoryResult
) -> TrajectoryResult:
    """The same result with its files; numbers first, so that no trouble with a picture loses them."""
    _, following, _, _, picture, output = asked.families
    paths: dict[str, Path] = {}
    pictures, numbers = asked.folders or (None, None)
    if numbers is not None:
        paths["losses"] = result.save(numbers / f"{asked.name}.npz")
        record = {**result.settings, "explained": result.explained, "last_loss": float(result.losses[-1])}
        paths["settings"] = save_json(numbers / f"{asked.name}.json", record)
    look: dict[str, Any] = {"cap": picture.cap_loss, "log": picture.log}
    if pictures is not None or output.to_viz:
        for what, figure in draw_trajectories(found, asked.names, **look).items():
            if pictures is not None:
                suffix = "" if what == "path" else f"_{what}"
                paths[what] = plots.save(figure, pictures / f"{asked.name}{suffix}.png")
            if output.to_viz:
                plots.show(figure)
    if following.animation is not None:
        paths["animation"] = write_animation(found, following.animation, asked.names, **look)
    return replace(result, paths=paths)


def _names(runs: tuple[Trajectory, ...], options: Interpolation) -> tuple[str, ...]:
    """The runs' names: those given, or those of their folders where these differ."""
    if options.names is not None:
        given = names_in("names", options.names)
        if len(given) != len(runs) or len(set(given)) != len(given):
            raise ValueError(
                f"names has {len(set(given))} different names for {len(runs)} runs; pass one for each"
            )
        return given
    folders = tuple(path.folder.name for path in runs)
    temporary = any(path.held is not None for path in runs)
    if temporary or len(set(folders)) < len(runs):
        return tuple(f"run {number}" for number in range(1, len(runs) + 1))
    return folders


def _objective(runs: tuple[Trajectory, ...], metric: Any, like: Any, between: Between) -> Objective:
    """The metric of the model that the runs are of."""
    if isinstance(metric, Objective):
        refuse_like(like)
        return objective_of(metric, None, settled(between))
    if like is None:
        like = next((path.like for path in runs if path.like is not None), None)
    if like is None:
        raise ValueError(
            "like= is missing: pass the model that this trajectory is of, or metric.objective(model) as the metric"
        )
    objective = objective_of(like, metric_of(metric), between)
    _check_buffers(runs, like, between)
    return objective


def _check_buffers(runs: tuple[Trajectory, ...], like: Any, between: Between) -> None:
    """Warns where losses along the path are not those of the checkpoints, since buffers are those of the model."""
    for path in runs:
        for t in {0, len(path) - 1} if len(path) else ():
            differing = bridge().different_buffers(like, path.buffer(t))
            names = differing["buffers"]
            if between.batchnorm == "eval":
                names = [*names, *(each for each in differing["statistics"] if "num_batches" not in each)]
            if names:
                warnings.warn(
                    f"{names[0]!r} of like has other values than checkpoint {t} of {path!r} recorded; losses along the "
                    "path are those with like's"
                    + ("" if differing["buffers"] else "; batchnorm='recalibrate' gathers statistics anew"),
                    RuntimeWarning,
                    stacklevel=6,
                )
                return
