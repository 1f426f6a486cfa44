"""The grid: losses at any number of points of a chart."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lla_func.chart import Chart, mesh_axes, summary
from lla_func.chebyshev import sample
from lla_func.engines import ENGINES
from lla_func.engines.evaluator import EngineFallbackWarning, Evaluator
from lla_func.errors import finite_number, one_of, positive_int
from lla_func.objective import Objective, check
from lla_func.plan import Plan
from lla_func.precision import full_precision

__all__ = ["EngineFallbackWarning", "Landscape", "axes", "describe", "evaluate", "surface"]


FEW = 150
"""About as many points as Chebyshev sampling takes."""


class Landscape(NamedTuple):
    """The losses at points of a chart.

    Attributes:
        coords: coordinates, [N, C] float64 on the CPU.
        losses: the risk at each point, [N] float64 on the CPU; NaN or infinite where the model gives that.
        chart: the chart's summary (:func:`lla_func.chart.summary`).
        diagnostics: how the numbers came about: ``engine``, ``points_per_pass``, ``plan`` (how the work was cut),
            ``rates`` (what the contenders of a trial took), ``check`` (the agreement with the loop), ``sampling``,
            ``seconds``, ``points_per_second``, ``nonfinite`` (the count of such losses), ``fallback`` (why another
            engine than the one asked for was taken, or None), and the objective's notes such as ``batchnorm``.
        center: the loss at the chart's center, NaN if it was not evaluated.
    """

    coords: Tensor
    losses: Tensor
    chart: dict[str, Any]
    diagnostics: dict[str, Any]
    center: float = float("nan")


def evaluate(
    objective: Objective,
    chart: Chart,
    coords: Tensor,
    *,
    engine: str = "auto",
    points_per_pass: int | None = None,
    samples_per_tile: int | None = None,
    channels_last: bool | None = None,
    plan: Plan | Mapping[str, Any] | None = None,
    memory_budget: int | None = None,
    sampling: str = "grid",
    tol: float | None = None,
    log_tol: bool = False,
    tf32: bool = False,
    progress: bool = False,
) -> Landscape:
    """Evaluates the risk at points of a chart, exactly.

    Args:
        objective: the function to evaluate.
        chart: a surface through weight space.
        coords: coordinates, [N, C], finite.
        engine: ``"loop"`` (point by point, any objective), ``"vmap"`` (blocks of points), ``"hoisted"`` (what all
            points share is computed once, :mod:`lla_func.engines.hoisted`), ``"compiled"`` (the same through
            ``torch.compile``, for long jobs) or ``"auto"``: the fastest in a trial on the job's first points
            (:mod:`lla_func.engines.trial`), or, in jobs of less than about a second, the one that a count of operations
            suggests. Every engine but the loop is checked against the loop on two points; one that can't run the
            objective, or fails the check, gives way to the loop with an :class:`EngineFallbackWarning` (``"auto"``
            takes the loop quietly where the objective can't be recorded).
        points_per_pass: how many points share each operation. Halved when memory runs out.
        samples_per_tile: how many samples are computed together, where batches may be cut.
        channels_last: whether images have their channels innermost in memory.
        plan: a plan to follow, such as the ``diagnostics["plan"]`` of an earlier landscape, instead of ``engine`` and
            the three options before. All engines and plans give the same losses to rounding; the same plan gives the
            same bits, while a trial, which goes by the clock, may end with another plan in another run.
        memory_budget: bytes for everything beyond the data and the chart, by default a quarter of what is free. The
            hoisted engine estimates its need from it before it allocates.
        sampling: ``"grid"`` evaluates every point. ``"chebyshev"`` evaluates Chebyshev nodes, more until a polynomial
            through them is within ``tol``, and interpolates; coords have to be a mesh. A surface that isn't smooth
            enough is evaluated at every point. What was done is in ``diagnostics["sampling"]``
            (:class:`lla_func.chebyshev.Sampling`).
        tol: the error that ``"chebyshev"`` may leave, as a part of the surface's range.
        log_tol: whether the log-loss has to be within ``tol`` of its range as well.
        tf32: whether a GPU may compute float32 products with ten bits of mantissa, for a quick preview: faster, with
            errors of about 1e-3. The check against the loop then compares two such results.
        progress: whether to show a progress bar.

    Returns:
        the landscape, with ``center`` NaN.

    Raises:
        ValueError: coords has another shape than [N, C], is empty or not finite; the chart or the objective is
            malformed.

    Example:
        >>> from lla_func.chart import line
        >>> from lla_func.objective import from_loss
        >>> bowl = from_loss(lambda theta, batch: theta.square().sum(), torch.zeros(2))
        >>> evaluate(bowl, line(bowl.theta, torch.tensor([3.0, 4.0])), torch.tensor([[0.0], [1.0]])).losses
        tensor([ 0., 25.], dtype=torch.float64)
    """
    check(objective)
    coords = _check_coords(coords, chart)
    one_of("engine", engine, ("auto", *ENGINES))
    if chart.origin.shape != objective.theta.shape:
        raise ValueError(
            f"chart has P={len(chart.origin)} parameters, the objective P={len(objective.theta)}"
        )
    given = {
        "points_per_pass": points_per_pass,
        "samples_per_tile": samples_per_tile,
        "memory_budget": memory_budget,
    }
    options: dict[str, Any] = {
        name: None if value is None else positive_int(name, value) for name, value in given.items()
    }
    options["channels_last"] = None if channels_last is None else bool(channels_last)
    if plan is not None:
        plan = _check_plan(plan)

    one_of("sampling", sampling, ("grid", "chebyshev"))
    if sampling == "chebyshev":
        if tol is None:
            raise ValueError(
                "sampling='chebyshev' needs tol, the error allowed as a part of the surface's range"
            )
        finite_number("tol", tol, above=0)
        mesh_axes(coords)

    start = time.perf_counter()
    bar = tqdm(total=len(coords), unit="point", disable=not progress, leave=False)
    with bar, torch.no_grad(), full_precision(not tf32):
        losses_at = Evaluator(
            objective,
            chart,
            engine=engine,
            count=len(coords) if sampling == "grid" else min(len(coords), FEW),
            options=options,
            plan=plan,
            advance=bar.update,
        )
        if sampling == "grid":
            values, sampled = losses_at(coords), None
        else:
            result = sample(losses_at, mesh_axes(coords), tol=float(tol), log=log_tol)  # type: ignore[arg-type]
            values = result.losses
            sampled = result._asdict() | {"true": result.true.nonzero().flatten().tolist()}
            del sampled["losses"]
    diagnostics = {
        "engine": losses_at.engine,
        "points_per_pass": losses_at.plan.points_per_pass,
        "plan": losses_at.plan._asdict(),
        "rates": losses_at.rates,
        "check": losses_at.check,
        "sampling": sampled,
        "tf32": tf32,
        "seconds": (seconds := time.perf_counter() - start),
        "points_per_second": losses_at.evaluations / seconds,
        "nonfinite": int((~torch.isfinite(values)).sum()),
        "fallback": losses_at.fallback,
        **objective.notes,
    }
    return Landscape(coords, values, summary(chart), diagnostics)


def describe(diagnostics: Mapping[str, Any]) -> str:
    """The plan of a landscape and what its contenders took, as text for people.

    Args:
        diagnostics: of a :class:`Landscape`.
    """

    def cut(plan: Mapping[str, Any]) -> str:
        parts = [str(plan["engine"])]
        if plan["samples_per_tile"] is not None:
            parts.append(f"tiles of {plan['samples_per_tile']} samples")
        if plan["points_per_pass"] > 1:
            parts.append(f"{plan['points_per_pass']} points a pass")
        if plan["channels_last"]:
            parts.append("channels last")
        return ", ".join(parts)

    plan = diagnostics["plan"]
    lines = [
        f"plan: {cut(plan)}; workers: {plan['workers']}; {diagnostics['points_per_second']:.4g} points a second"
    ]
    for rate in diagnostics["rates"]:
        if "failed" in rate:
            lines.append(f"  tried {rate['engine']}: failed with {rate['failed']}")
        else:
            lines.append(f"  tried {cut(rate)}: {1e3 * rate['seconds_per_point']:.3g} ms a point")
    return "\n".join(lines)


def axes(landscape: Landscape) -> tuple[Tensor, ...]:
    """The C axes of a landscape that was evaluated on a mesh, each sorted and float64.

    Raises:
        ValueError: the coordinates are not a full mesh.
    """
    return mesh_axes(landscape.coords)


def surface(landscape: Landscape) -> Tensor:
    """The losses of a mesh as an array with one axis for each coordinate: [steps, steps] for a plane."""
    return landscape.losses.reshape([len(axis) for axis in axes(landscape)])


def _check_coords(coords: Tensor, chart: Chart) -> Tensor:
    coords = torch.as_tensor(coords).detach().to("cpu", torch.float64)
    if coords.ndim != 2 or coords.shape[1] != chart.dim:
        raise ValueError(f"coords has shape {list(coords.shape)}, a {chart.kind} needs [N, {chart.dim}]")
    if len(coords) == 0:
        raise ValueError("coords is empty; at least one point is needed")
    if not torch.isfinite(coords).all():
        raise ValueError("coords has NaN or infinite values")
    return coords


def _check_plan(plan: Plan | Mapping[str, Any]) -> Plan:
    if isinstance(plan, Mapping):
        if unknown := sorted(set(plan) - set(Plan._fields)):
            raise ValueError(f"plan has unknown entries {unknown}; a plan has {', '.join(Plan._fields)}")
        plan = Plan(**plan)
    if not isinstance(plan, Plan):
        raise TypeError(f"plan={plan!r} is not a plan; pass the diagnostics['plan'] of a landscape")
    one_of("plan['engine']", plan.engine, ENGINES)
    return plan
