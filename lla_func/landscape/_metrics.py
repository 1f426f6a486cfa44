"""Metrics beside the losses: interpolated where the surface is, evaluated by themselves where they have other data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lla_func import files
from lla_func.geometry import Chart, mesh_axes
from lla_func.landscape._chebyshev import BEYOND_HELD_OUT, Sampling, interpolate, nodes
from lla_func.landscape._landscape import Landscape
from lla_func.objective import Measures, Objective, separate
from lla_func.options import Evaluation


class Recorded:
    """Losses for :func:`lla_func.landscape._chebyshev.sample`, and beside them the metrics at the same points.

    Args:
        rows_at: maps coordinates [n, C] to losses [n] or to rows [n, width] with the loss in front.
    """

    def __init__(self, rows_at: Callable[[Tensor], Tensor]) -> None:
        self.rows_at = rows_at
        self.known: dict[tuple[float, ...], Tensor] = {}

    def __call__(self, coords: Tensor) -> Tensor:
        """The losses [n]."""
        rows = self.rows_at(coords)
        if rows.ndim == 1:
            return rows
        self.known |= zip(map(tuple, coords.tolist()), rows, strict=True)
        return rows[:, 0]

    def interpolated(self, coords: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
        """Rows [N, width] on the mesh, and how far the interpolant was off at points held out, [width].

        The degree is the one that the loss needs. A metric that jumps, as accuracy does by one sample, is smoothed.
        """
        if sampling.degree is None:
            rows = self._at(coords)
            return rows, torch.zeros(rows.shape[1], dtype=torch.float64)
        axes = mesh_axes(coords)
        sites = [nodes(sampling.degree, float(a[0]), float(a[-1])) if len(a) > 1 else a for a in axes]
        table = self._at(torch.cartesian_prod(*sites).reshape(-1, len(sites)))
        smooth = interpolate(table.unflatten(0, [len(site) for site in sites]), sites, axes)
        rows = smooth.reshape(len(coords), -1)
        true = self._at(coords[sampling.true])
        off = BEYOND_HELD_OUT * (rows[sampling.true] - true).abs().amax(0)
        rows[sampling.true] = true
        rows[:, 0] = sampling.losses
        return rows, off

    def _at(self, coords: Tensor) -> Tensor:
        return torch.stack([self.known[place] for place in map(tuple, coords.tolist())])


def metrics_error(measures: Measures, off: Tensor) -> dict[str, float]:
    """The estimated errors of interpolated metrics by name, the largest of their columns."""
    return {name: float(value.max()) for name, value in measures.split(off).metrics.items()}


class Separate(NamedTuple):
    """What objectives of their own gave on the same chart, by name."""

    metrics: dict[str, Tensor]
    errors: dict[str, Tensor]
    diagnostics: dict[str, Any]


def evaluated_separately(
    evaluate: Callable[..., Landscape],
    objective: Objective,
    chart: Chart,
    coords: Tensor,
    evaluation: Evaluation,
) -> Separate:
    """The metrics of an objective that are objectives themselves: other data, a norm of a gradient, a return.

    Args:
        evaluate: :func:`lla_func.evaluate`.
        objective, chart, coords, evaluation: its arguments.
    """
    found = Separate({}, {}, {})
    for name, other in separate(objective).items():
        options = evaluation.asdict() | {"plan": None, "log_tol": False}
        options["engine"] = "loop" if evaluation.engine == "loop" else "auto"
        options["errors"] = other.per_sample is not None and other.outputs is not None
        if evaluation.store is not None:
            options["store"] = Path(evaluation.store) / "metrics" / files.file_name("metrics", name)
        landscape = evaluate(other, chart, coords, **options)
        found.diagnostics[name] = landscape.diagnostics
        for own, value in landscape.values.items():
            found.metrics[name if own == "loss" else f"{name}.{own}"] = value
        for own, error in landscape.errors.items():
            found.errors[name if own == "loss" else f"{name}.{own}"] = error
    return found
