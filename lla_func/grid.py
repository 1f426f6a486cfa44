"""The grid: losses at any number of points of a chart."""

from __future__ import annotations

import time
import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lla_func.chart import Chart, mesh, summary
from lla_func.engines import ENGINES
from lla_func.errors import one_of, positive_int
from lla_func.objective import Objective, check, samples
from lla_func.precision import full_precision

__all__ = ["EngineFallbackWarning", "Landscape", "axes", "evaluate", "surface"]


class EngineFallbackWarning(RuntimeWarning):
    """An engine could not evaluate the objective and another one took over; the losses are right all the same."""


class Landscape(NamedTuple):
    """The losses at points of a chart.

    Attributes:
        coords: coordinates, [N, C] float64 on the CPU.
        losses: the risk at each point, [N] float64 on the CPU; NaN or infinite where the model gives that.
        chart: the chart's summary (:func:`lla_func.chart.summary`).
        diagnostics: how the numbers came about: ``engine``, ``points_per_pass``, ``seconds``, ``nonfinite`` (the count
            of such losses), ``fallback`` (why another engine than the one asked for was taken, or None), and the
            objective's notes such as ``batchnorm``.
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
    progress: bool = False,
) -> Landscape:
    """Evaluates the risk at points of a chart, exactly.

    Args:
        objective: the function to evaluate.
        chart: a surface through weight space.
        coords: coordinates, [N, C], finite.
        engine: ``"loop"`` (point by point, any objective), ``"vmap"`` (blocks of points), or ``"auto"``: vmap on an
            accelerator, the loop on the CPU, where vmap turns convolutions into slower grouped ones. An engine that
            cannot run the objective gives way to the loop, with an :class:`EngineFallbackWarning`.
        points_per_pass: how many points vmap takes at once; by default as many as are likely to fit. Halved when
            memory runs out.
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
    chosen = engine if engine != "auto" else "loop" if objective.theta.device.type == "cpu" else "vmap"
    block = (
        _default_block(objective)
        if points_per_pass is None
        else positive_int("points_per_pass", points_per_pass)
    )
    if chosen == "loop":
        block = 1

    start = time.perf_counter()
    coefficients = chart.coefficients(coords).to(chart.basis)
    bar = tqdm(total=len(coords), unit="point", disable=not progress, leave=False)
    fallback = None
    losses: list[Tensor] = []
    with bar, torch.no_grad(), full_precision():
        while (done := sum(map(len, losses))) < len(coords):
            try:
                run = ENGINES[chosen](objective, chart, points_per_pass=block)
                for rows in coefficients[done:].split(block):
                    losses.append(run(rows))
                    bar.update(len(rows))
            except Exception as error:
                if _out_of_memory(error) and block > 1:
                    block //= 2
                elif chosen != "loop":
                    fallback = f"engine {chosen!r} cannot evaluate this objective ({_first_line(error)})"
                    warnings.warn(f"{fallback}; the loop takes over", EngineFallbackWarning, stacklevel=2)
                    chosen, block = "loop", 1
                else:
                    raise
    values = torch.cat(losses)
    diagnostics = {
        "engine": chosen,
        "points_per_pass": block,
        "seconds": time.perf_counter() - start,
        "nonfinite": int((~torch.isfinite(values)).sum()),
        "fallback": fallback,
        **objective.notes,
    }
    return Landscape(coords, values, summary(chart), diagnostics)


def axes(landscape: Landscape) -> tuple[Tensor, ...]:
    """The C axes of a landscape that was evaluated on a mesh, each sorted and float64.

    Raises:
        ValueError: the coordinates are not a full mesh.
    """
    columns = tuple(torch.unique(column) for column in landscape.coords.T)
    sizes = [len(column) for column in columns]
    if torch.Size(sizes).numel() == len(landscape.coords) and torch.equal(mesh(*columns), landscape.coords):
        return columns
    raise ValueError(
        f"coords [{len(landscape.coords)}, {len(columns)}] is not a mesh of {sizes} values; use chart.mesh"
    )


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


def _default_block(objective: Objective) -> int:
    """A number of points whose parameters and activations (some 16 numbers an input element) take about 256 MB."""
    first = next(iter(objective.batches))
    leaves = [leaf for leaf in torch.utils._pytree.tree_leaves(first) if isinstance(leaf, Tensor)]
    elements = len(objective.theta) + 16 * sum(leaf.numel() for leaf in leaves) + samples(first)
    return max(1, min(64, 2**28 // (objective.theta.element_size() * elements)))


def _out_of_memory(error: Exception) -> bool:
    """Whether an allocation failed, on an accelerator or on the CPU."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
