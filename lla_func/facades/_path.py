"""viz_path: what lies between models."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from lla_func._torch import noticed, plainly
from lla_func.assessment import with_data_error
from lla_func.facades._common import provenance
from lla_func.facades._models import MAIN, own_losses
from lla_func.facades._path_request import PathRequest, checked_path
from lla_func.facades._path_result import PairBarrier, PathResult
from lla_func.facades._path_writing import write_path
from lla_func.facades._trajectory_path import (
    TrajectoryRequest,
    are_trajectories,
    checked_trajectories,
    over_trajectories,
)
from lla_func.files import fingerprint
from lla_func.geometry import chart
from lla_func.landscape import Landscape, barrier, evaluate
from lla_func.options import VIZ_PATH, Between, Evaluation, Following, Interpolation, Output, Picture

PLAIN: Mapping[str, Any] = {
    "store": None,
    "sampling": "grid",
    "tol": None,
    "log_tol": False,
    "errors": False,
}
"""Options of a landscape that the lines between its models do not share."""


def viz_path(
    models: Any,
    metric: Any = None,
    *,
    also: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Any] | None = None,
    like: Any = None,
    group: Any = None,
    steps: int = 41,
    kind: str = "auto",
    margin: float | None = None,
    slices: int = 4,
    names: Sequence[str] | None = None,
    axes: Any = "pca",
    animation: str | Path | None = None,
    engine: str = "auto",
    points_per_pass: int | None = None,
    samples_per_tile: int | None = None,
    channels_last: bool | None = None,
    plan: Any = None,
    memory_budget: int | None = None,
    sampling: str = "grid",
    tol: float | None = None,
    log_tol: bool = False,
    tf32: bool = False,
    errors: bool = False,
    store: str | Path | None = None,
    progress: bool = False,
    device: Any = None,
    batchnorm: str = "recalibrate",
    dropout_seed: int | None = None,
    dtype: Any = None,
    cap_loss: float | None = None,
    log: bool = False,
    cur_name: str = "default",
    to_save: bool = True,
    to_viz: bool = False,
    viz_dir: str | Path | None = None,
    res_dir: str | Path | None = None,
) -> Any:
    """Evaluates and draws the loss between models: on the line through two, the plane through three, and farther.

    A line is drawn as a profile with the barrier: max over t of L(t) - ((1 - t) L(a) + t L(b)), refined between the
    points. The plane through three models has orthonormal axes, so that coordinates are distances in weight space.
    All charts give the models themselves exactly.

    Where the criterion gives losses of single samples, lines have a band of the standard error over data, and the
    barrier one of its own, over paired samples: the losses at the top and at both ends are of the same samples, so
    that what they share cancels. With ``errors=True`` planes have a panel of errors.

    Models are points of one objective, that of the first: they have to agree in names and shapes, and the loss of
    each as such a point has to be the one that it has by itself. BatchNorm is recalibrated by default: its statistics
    are gathered anew at each point, the models' own among them, over the metric's data. So the loss at an end is that
    of the model after ``update_bn``, not with its stored statistics, which ``own_losses`` has.

    Args:
        models: two or more modules; or, with an Objective as the metric, vectors [P] or named tensors; or a curve
            that was fitted between two of them (:func:`lla_func.connect`), which is shown with the straight line
            beside it, or with ``kind="plane"`` on the surface that it lies on; or a trajectory
            (:class:`lla_func.Trajectory`), or several, which are shown over the plane that has most of them.
        metric: what the loss is, such as ``bridges.metrics.Loss(criterion, inputs, targets)``, as in
            :func:`lla_func.viz_lla`; or an :class:`~lla_func.Objective`.
        also: further metrics, or Objectives, by name, such as ``{"test": metric_test}``: shown beside the first.
        metrics: further values at each point by name, such as ``{"accuracy": bridges.metrics.accuracy}``, found in the
            same pass as the first loss (:func:`lla_func.viz_lla`).
        like: the model of a curve or a trajectory, where the metric is no Objective.
        group: a ``torch.distributed`` process group, all of whose processes make this call with the same arguments.
            They share the points through ``store``, which it needs; rank 0 alone writes and draws.
        steps: points along each axis; of a chain, along each of its pieces.
        kind: what goes through the models: auto, chain (straight pieces), plane (of three) or volume (of four).
            ``"auto"`` is the line through two models, the plane through three and the chain of four and more.
        margin: how far to go beyond the models, as a part of their extent (default: 0 on lines, 0.2 on planes and in
            volumes, 0.15 around trajectories).
        slices: planes of a volume that are drawn.
        names: a name for each model; by default a, b, ...
        axes: plane of a trajectory: pca (principal components) or ends (through start and end). ``"ends"`` has the
            direction across in which the checkpoints lie farthest; directions of your own come as a tensor [2, P]. See
            :func:`lla_func.geometry.trajectory_plane`.
        animation: also write a trajectory as an animation, a .gif, or an .mp4 by ffmpeg.
        engine: how the points are computed: auto (by autotuning), loop, vmap, hoisted or compiled.
        points_per_pass: how many points share each operation.
        samples_per_tile: how many samples are computed together, where batches may be cut.
        channels_last: whether images have their channels innermost in memory.
        plan: a plan to follow, such as the ``diagnostics["plan"]`` of an earlier landscape, instead of engine and the
            three options before.
        memory_budget: bytes for everything beyond the data and the directions (default: a quarter of what is free).
        sampling: ``"grid"`` evaluates every point.
        tol: evaluate fewer points and interpolate with an estimated error of so much of the range of the losses (0.01
            is one percent); a needle narrower than the spacing of the points, about a sixth of the extent, can be
            missed.
        log_tol: whether the log-loss has to be within ``tol`` of its range as well.
        tf32: let a GPU compute a quick preview with TensorFloat-32.
        errors: also the standard error of each loss over data: what another sample of the same size would change.
        store: keep finished points in a folder: the same call goes on where it stopped, and several processes that make
            it share the work.
        progress: whether to show a progress bar.
        device: where to compute; it must be the metric's device, which is the default.
        batchnorm: statistics of BatchNorm: recalibrate (anew at each point), batch (of the data) or eval (those of the
            first model). The activations between two models fit the statistics of neither, so that with those of one
            end the loss in the middle is high for that reason alone (Garipov et al. 2018, appendix; Izmailov et al.
            2018, section 3.2).
        dropout_seed: evaluate with dropout active, the same mask at every point; by default it is off.
        dtype: float32 or float64 to evaluate a copy of the model and of the data in this precision. Models in bfloat16
            or float16 need it: with 8 or 11 bits a surface has a few distinct losses only.
        cap_loss: draw losses above this as capped. The saved losses are the true ones.
        log: draw on a logarithmic scale.
        cur_name: a name for the run, and for its files.
        to_save: write the pictures, the numbers (npz) and the settings (JSON).
        to_viz: show the picture.
        viz_dir: folder for pictures (default: viz_results).
        res_dir: folder for numbers and settings (default: analysis_results).

    Returns:
        a :class:`PathResult`; of trajectories a :class:`TrajectoryResult`.

    Raises:
        ValueError, TypeError: an argument is wrong, or the models are not of one architecture; the message names what
            differs.

    Source:
        Goodfellow, Vinyals and Saxe (2015), section 2, for lines; Garipov et al. (2018), appendix, for planes; Frankle
        et al. (2020), section 2, for barriers.

    Example:
        >>> import torch
        >>> from lla_func import from_loss
        >>> well = from_loss(lambda theta, _: ((theta**2 - 1) ** 2).sum(), torch.ones(1, dtype=torch.float64))
        >>> result = viz_path([-well.theta, well.theta], well, steps=11, to_save=False)
        >>> round(result.barrier.value, 6), result.losses.tolist()
        (1.0, [0.0, 0.0])
    """
    # The options, gathered by `make signatures`.
    # fmt: off
    interpolation = Interpolation(steps=steps, kind=kind, margin=margin, slices=slices, names=names)
    following = Following(axes=axes, animation=animation)
    evaluation = Evaluation(engine=engine, points_per_pass=points_per_pass, samples_per_tile=samples_per_tile,
        channels_last=channels_last, plan=plan, memory_budget=memory_budget, sampling=sampling, tol=tol,
        log_tol=log_tol, tf32=tf32, errors=errors, store=store, progress=progress)
    between = Between(device=device, batchnorm=batchnorm, dropout_seed=dropout_seed, dtype=dtype)
    picture = Picture(cap_loss=cap_loss, log=log, cur_name=cur_name)
    output = Output(to_save=to_save, to_viz=to_viz, viz_dir=viz_dir, res_dir=res_dir)
    # fmt: on
    with noticed(), plainly():
        families = (interpolation, following, evaluation, between, picture, output)
        asked = _checked(models, metric, also, metrics, like, group, families)
        if isinstance(asked, TrajectoryRequest):
            return over_trajectories(asked)
        return write_path(asked, _computed(asked))


def check_path(*operands: Any, **options: Any) -> PathRequest | TrajectoryRequest:
    """Checks what a call of :func:`viz_path` with these arguments asks for, and evaluates nothing.

    Raises:
        ValueError, TypeError: as :func:`viz_path`.
    """
    call = inspect.signature(viz_path).bind(*operands, **options)
    call.apply_defaults()
    given = call.arguments
    made: Any = tuple(
        family(**{each.name: given[each.name] for each in fields(family)}) for family in VIZ_PATH
    )
    names = ("models", "metric", "also", "metrics", "like", "group")
    models, metric, also, metrics, like, group = (given[name] for name in names)
    return _checked(models, metric, also, metrics, like, group, made)


def _checked(
    models: Any, metric: Any, also: Any, metrics: Any, like: Any, group: Any, families: Any
) -> PathRequest | TrajectoryRequest:
    """The request of a call, by what its first argument is."""
    if are_trajectories(models):
        if metrics is not None:
            raise ValueError("metrics= is for models and curves; leave it out for a trajectory")
        return checked_trajectories(models, metric, also, like, group, families)
    interpolation, following, evaluation, between, picture, output = families
    if following.animation is not None or not isinstance(following.axes, str) or following.axes != "pca":
        raise ValueError("axes= and animation= are for trajectories; leave them out")
    families = (interpolation, evaluation, between, picture, output)
    return checked_path(models, metric, also, metrics, like, group, families)


def _computed(asked: PathRequest) -> PathResult:
    """The models' own losses, then the landscapes and their barriers, one metric after another."""
    start = time.perf_counter()
    course = asked.course
    models = course.models
    families = (asked.interpolation, asked.evaluation, asked.between, asked.picture, asked.output)
    settings = {name: value for family in families for name, value in family.asdict().items()}
    settings |= provenance(models.objectives[MAIN])
    settings |= {"names": models.names, "thetas": [fingerprint(theta) for theta in models.thetas]}
    losses, own = own_losses(models)
    result = PathResult({}, models.names, course.places, losses, own, (), settings, 0.0, more=course.more)
    for name, objective in models.objectives.items():
        folder = None if asked.store is None else asked.store / "_".join(re.findall(r"\w+", name))
        options = asked.evaluation.asdict()
        if course.charts[name].dim == 1 and objective.per_sample is not None:
            options["errors"] = True  # a band costs no further pass
        landscape = evaluate(objective, course.charts[name], course.coords, **options | {"store": folder})
        found = [_barrier(asked, name, pair, landscape, options) for pair in course.pairs]
        result = replace(
            result,
            landscapes={**result.landscapes, name: landscape},
            barriers=(*result.barriers, *found),
            seconds=time.perf_counter() - start,
        )
        if asked.folders is not None:  # after each, so that an interruption loses no more than one
            result.save(asked.folders[1] / f"{asked.name}.npz")
    return result


def _barrier(
    asked: PathRequest, metric: str, pair: tuple[int, int], landscape: Landscape, options: Mapping[str, Any]
) -> PairBarrier:
    """The barrier between two models: on the line that was evaluated, or on one through these two."""
    models, through = asked.course.models, asked.course.charts[metric]
    objective, names = models.objectives[metric], (models.names[pair[0]], models.names[pair[1]])
    if through.dim == 1:
        ends = (float(pair[0]), float(pair[1]))
        found = barrier(objective, through, landscape, between=ends)
    else:
        ends = (0.0, 1.0)
        through = chart.linear_interpolation(*(models.thetas[i] for i in pair), labels=names)
        found = barrier(objective, through, steps=asked.interpolation.steps, **{**options, **PLAIN})
    estimate = with_data_error(found, objective, through, between=ends)
    return PairBarrier(metric, names, estimate, found.at - ends[0], found.ends)
