"""The grid: losses at any number of points of a chart."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lla_func._torch import full_precision, noticed, without_autocast
from lla_func.errors import finite_tensor, instance, numbers_of
from lla_func.geometry import Chart, mesh_axes, summary
from lla_func.landscape import _job as jobs
from lla_func.landscape import _manifest as manifest
from lla_func.landscape._chebyshev import sample
from lla_func.landscape._chunks import remembered
from lla_func.landscape._evaluator import Evaluator
from lla_func.landscape._landscape import Landscape
from lla_func.landscape._metrics import Recorded, evaluated_separately, metrics_error
from lla_func.landscape.engines import ENGINES, Plan, checked
from lla_func.objective import Objective, Values, check, measured, row_shape
from lla_func.options import Evaluation

COARSE = (torch.bfloat16, torch.float16)
"""Dtypes whose steps show in a surface."""

DECISIVE = ("sampling", "tol", "log_tol", "tf32", "engine")
"""Options that make another job, besides those that say how the work is cut."""

FEW = 150
"""About as many points as Chebyshev sampling takes."""


def evaluate(
    objective: Objective,
    chart: Chart,
    coords: Tensor,
    *,
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
) -> Landscape:
    """Evaluates the risk at points of a chart, exactly.

    Args:
        objective: the function to evaluate.
        chart: a surface through weight space.
        coords: coordinates, [N, C], finite.
        engine: how the points are computed: auto (by autotuning), loop, vmap, hoisted or compiled. ``"loop"`` goes
            point by point and takes any objective, ``"vmap"`` takes blocks of points, ``"hoisted"`` computes once what
            all points share (:mod:`lla_func.landscape.engines`), ``"compiled"`` does the same through
            ``torch.compile``, for long jobs. ``"auto"`` takes what autotuning on the first points finds fastest, or, in
            jobs of less than about a second, the one that a count of operations suggests. Every engine but the loop is
            checked against the loop on two points; one that cannot run the objective, or fails the check, gives way to
            the loop with an :class:`EngineFallbackWarning` (``"auto"`` takes the loop quietly where the objective
            cannot be recorded).
        points_per_pass: how many points share each operation. Halved when memory runs out.
        samples_per_tile: how many samples are computed together, where batches may be cut.
        channels_last: whether images have their channels innermost in memory.
        plan: a plan to follow, such as the ``diagnostics["plan"]`` of an earlier landscape, instead of engine and the
            three options before. All engines and plans give the same losses to rounding; the same plan gives the same
            bits, while autotuning, which goes by the clock, may end with another plan in another run.
        memory_budget: bytes for everything beyond the data and the directions (default: a quarter of what is free). The
            hoisted engine estimates its need from it before it allocates.
        sampling: ``"grid"`` evaluates every point. ``"chebyshev"`` evaluates Chebyshev nodes, more until the estimated
            error of a polynomial through them is within ``tol``, and interpolates; the points have to be a mesh. A
            surface that is not smooth enough is evaluated at every point. What was done is in
            ``diagnostics["sampling"]``.
        tol: evaluate fewer points and interpolate with an estimated error of so much of the range of the losses (0.01
            is one percent); a needle narrower than the spacing of the points, about a sixth of the extent, can be
            missed. For ``sampling="chebyshev"``, which needs it.
        log_tol: whether the log-loss has to be within ``tol`` of its range as well.
        tf32: let a GPU compute a quick preview with TensorFloat-32. Faster, with ten bits of mantissa and errors of
            about 1e-3; an engine's check against the loop then compares two such results.
        errors: also the standard error of each loss over data: what another sample of the same size would change. It is
            found in the same pass, for criteria whose losses of single samples are known; with metrics it is found
            anyway.
        store: keep finished points in a folder: the same call goes on where it stopped, and several processes that make
            it share the work. It goes on along the same plan, so that the losses are bit for bit those of an unbroken
            run; each process returns the whole landscape. :func:`lla_func.landscape.load_landscape` reads a finished
            folder, and so does the same call.
        progress: whether to show a progress bar.

    Returns:
        the landscape, with ``center`` NaN.

    Raises:
        ValueError: coords has another shape than [N, C], is empty or not finite; the chart or the objective is
            malformed; store holds another job.

    Example:
        >>> from lla_func.geometry import line
        >>> from lla_func import from_loss
        >>> bowl = from_loss(lambda theta, batch: theta.square().sum(), torch.zeros(2))
        >>> evaluate(bowl, line(bowl.theta, torch.tensor([3.0, 4.0])), torch.tensor([[0.0], [1.0]])).losses
        tensor([ 0., 25.], dtype=torch.float64)
    """
    # The options, gathered by `make signatures`.
    # fmt: off
    evaluation = Evaluation(engine=engine, points_per_pass=points_per_pass, samples_per_tile=samples_per_tile,
        channels_last=channels_last, plan=plan, memory_budget=memory_budget, sampling=sampling, tol=tol,
        log_tol=log_tol, tf32=tf32, errors=errors, store=store, progress=progress)
    # fmt: on
    check(objective)
    instance("chart", chart, Chart, "a Chart, such as chart.plane(theta, first, second)")
    coords = _check_coords(coords, chart)
    finite_tensor("chart.origin", chart.origin, ("P",))
    finite_tensor("chart.basis", chart.basis, ("K", len(chart.origin)))
    if chart.origin.shape != objective.theta.shape:
        raise ValueError(
            f"chart has P={len(chart.origin)} parameters, the objective P={len(objective.theta)}"
        )
    given_plan = planned(evaluation)
    if evaluation.sampling == "chebyshev":
        mesh_axes(coords)
    folder = None if store is None else jobs.directory("store", store)

    start = time.perf_counter()
    bar = tqdm(
        total=len(coords) if evaluation.sampling == "grid" else None,
        unit="point",
        disable=not evaluation.progress,
        leave=False,
    )
    with bar, noticed(), torch.no_grad(), full_precision(not evaluation.tf32), without_autocast():
        whole = measured(objective, errors=evaluation.errors)
        measures = whole.measures
        evaluator = Evaluator(
            whole,
            chart,
            engine=evaluation.engine,
            count=len(coords) if evaluation.sampling == "grid" else min(len(coords), FEW),
            options=evaluation.cut,
            plan=given_plan,
            advance=bar.update if folder is None else None,
        )
        losses_at: Callable[[Tensor], Tensor] = evaluator
        if folder is not None:
            settings = {name: getattr(evaluation, name) for name in DECISIVE} | dict(evaluation.cut)
            settings |= {"dtype": str(objective.theta.dtype), "plan": given_plan and given_plan._asdict()}
            if objective.metrics or evaluation.errors:
                settings |= {"metrics": list(objective.metrics), "errors": evaluation.errors}
            identity = manifest.identity(objective, chart, coords, settings)
            if measures is not None or objective.metrics:
                identity["metrics"] = manifest.metrics_at(whole)
            if others := manifest.data_of_metrics(objective):
                identity["data of metrics"] = others
            job = jobs.begin(folder, identity, lambda: evaluator.proven(coords))
            if job.landscape is not None:
                return job.landscape
            evaluator.follow(job.plan)
            evaluator.rates = job.rates
            losses_at = remembered(evaluator, job, row=row_shape(measures), advance=_updating(bar))
        if evaluation.sampling == "grid":
            rows, sampled = losses_at(coords), None
        else:
            assert evaluation.tol is not None
            recorded = Recorded(losses_at)
            result = sample(recorded, mesh_axes(coords), tol=evaluation.tol, log=evaluation.log_tol)
            sampled = result._asdict() | {"true": result.true.nonzero().flatten().tolist()}
            del sampled["losses"]
            rows = result.losses
            if measures is not None:
                rows, off = recorded.interpolated(coords, result)
                sampled["metrics_error"] = metrics_error(measures, off)
        found = Values(rows, {}, {}) if measures is None else measures.split(rows)
        values = found.loss
    diagnostics = {
        "engine": evaluator.engine,
        "points_per_pass": evaluator.plan.points_per_pass,
        "plan": evaluator.plan._asdict(),
        "rates": evaluator.rates,
        "check": evaluator.check,
        "sampling": sampled,
        "tf32": evaluation.tf32,
        "store": None if folder is None else str(folder),
        "seconds": (seconds := time.perf_counter() - start),
        "points_per_second": evaluator.evaluations / seconds,
        "nonfinite": int((~torch.isfinite(values)).sum()),
        "fallback": evaluator.fallback,
        **objective.notes,
    }
    if objective.theta.dtype in COARSE:
        warnings.warn(
            f"the model is in {str(objective.theta.dtype).removeprefix('torch.')}, which leaves "
            f"{len(values.unique())} distinct losses at {len(values)} points; dtype=torch.float32 (of viz_lla, or of "
            "metric.objective) evaluates a copy of it in more precision",
            RuntimeWarning,
            stacklevel=2,
        )
    more = evaluated_separately(evaluate, objective, chart, coords, evaluation)
    diagnostics |= {"metrics": more.diagnostics} if more.diagnostics else {}
    metrics, errors_found = found.metrics | more.metrics, found.errors | more.errors
    landscape = Landscape(coords, values, summary(chart), diagnostics, metrics=metrics, errors=errors_found)
    if folder is not None:
        jobs.finish(job, landscape)
    return landscape


def planned(evaluation: Evaluation) -> Plan | None:
    """The plan that is given, if one is and it can be followed."""
    return None if evaluation.plan is None else checked(evaluation.plan, ENGINES)


def _check_coords(coords: Tensor, chart: Chart) -> Tensor:
    coords = finite_tensor("coords", numbers_of("coords", coords), floating=False)
    coords = coords.detach().to("cpu", torch.float64)
    if coords.ndim != 2 or coords.shape[1] != chart.dim:
        raise ValueError(f"coords has shape {list(coords.shape)}, a {chart.kind} needs [N, {chart.dim}]")
    if len(coords) == 0:
        raise ValueError("coords is empty; at least one point is needed")
    return coords


def _updating(bar: Any) -> Callable[[int], Any]:
    """Advances a progress bar; what was finished before counts as its beginning, so that the rate is right."""
    first = True

    def advance(points: int) -> None:
        nonlocal first
        if first:
            bar.reset()
            bar.initial = points
            first = False
        bar.update(points)

    return advance
