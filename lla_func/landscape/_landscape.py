"""Landscape: the loss and further values at points of a chart, and how they came about."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lla_func.geometry import mesh_axes


class Landscape(NamedTuple):
    """The loss, and further values if there are any, at points of a chart.

    Attributes:
        coords: coordinates, [N, C] float64 on the CPU.
        losses: the risk at each point, [N] float64 on the CPU; NaN or infinite where the model gives that.
        chart: the chart's summary (:func:`lla_func.geometry.summary`).
        diagnostics: how the numbers came about: ``engine``, ``points_per_pass``, ``plan`` (how the work was cut),
            ``rates`` (what the contenders of autotuning took), ``check`` (the agreement with the loop), ``sampling``,
            ``seconds``, ``points_per_second``, ``nonfinite`` (the count of such losses), ``fallback`` (why another
            engine than the one asked for was taken, or None), and the objective's notes such as ``batchnorm``.
        center: the loss at the chart's center, NaN if it was not evaluated.
        metrics: further values at each point by name, [N] or [N, K].
        errors: the standard error over data, what another sample of the same size would change, by the name of the
            value and in its shape; where it is known.

    Example:
        >>> import torch
        >>> coords = torch.zeros(1, 2).double()
        >>> landscape = Landscape(coords, torch.ones(1).double(), {}, {}, metrics={"accuracy": torch.tensor([0.9])})
        >>> list(landscape.values)
        ['loss', 'accuracy']
        >>> landscape.values["loss"] is landscape.losses
        True
    """

    coords: Tensor
    losses: Tensor
    chart: dict[str, Any]
    diagnostics: dict[str, Any]
    center: float = float("nan")
    metrics: Mapping[str, Tensor] = {}
    errors: Mapping[str, Tensor] = {}

    @property
    def values(self) -> dict[str, Tensor]:
        """Everything known at each point by its name: ``"loss"``, and the :attr:`metrics`."""
        return {"loss": self.losses, **self.metrics}


def chosen(landscape: Landscape, metric: str | tuple[str, int] | None = None) -> Landscape:
    """The landscape of one of its values, in the place of the losses.

    Args:
        landscape: with metrics or errors.
        metric: the name of a value, or of its error as ``"error of accuracy"``; with a number behind it, as in
            ``("class losses", 3)``, one of the K where there are several. None or ``"loss"`` for the landscape itself.

    Raises:
        ValueError: there is no such value, or it has K of them at each point.

    Example:
        >>> import torch
        >>> coords = torch.zeros(1, 2).double()
        >>> both = Landscape(coords, torch.ones(1).double(), {}, {}, metrics={"a": torch.tensor([[5.0, 6.0]])})
        >>> chosen(both, ("a", 1)).losses
        tensor([6.])
    """
    if metric is None or metric == "loss":
        return landscape
    name, column = metric if isinstance(metric, tuple) else (metric, None)
    values = {**landscape.values, **{f"error of {key}": value for key, value in landscape.errors.items()}}
    if name not in values:
        raise ValueError(f"metric={metric!r} is not one of {', '.join(map(repr, values))}")
    value, error = values[name], landscape.errors.get(name)
    center = torch.as_tensor(landscape.diagnostics.get("center_metrics", {}).get(name, math.nan)).double()
    if value.ndim > 1 and column is None:
        raise ValueError(
            f"metric={metric!r} has {value.shape[1]} values at each point; say which one, as in ({name!r}, 0)"
        )
    if column is not None:
        count = value.shape[1] if value.ndim > 1 else 0
        if not 0 <= column < count:
            raise ValueError(f"metric={metric!r} is out of range; {name!r} has {count} values at each point")
        value, error = value[:, column], None if error is None else error[:, column]
        center = center[column] if center.ndim else center
    label = name if column is None else f"{name}[{column}]"
    return landscape._replace(
        losses=value,
        chart={**landscape.chart, "value": label},
        center=float(center),
        metrics={},
        errors={} if error is None else {"loss": error},
    )


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
