"""Metrics beside a loss, for an objective: functions of predictions and targets, torchmetrics, other losses."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bridges.metrics._guard import Guard
from lla_func.errors import instance, shown
from lla_func.objective import Accumulator, Batch, Objective

FORMS = (
    "a function of (predictions, targets) that returns [B], [B, K] or a number, a metric of torchmetrics, or anything "
    "with objective(model), such as bridges.metrics.Loss on other data"
)


def translated_metrics(
    metrics: Mapping[str, Any], model: nn.Module, guard: Guard, *, device: torch.device, **options: Any
) -> dict[str, Any]:
    """Metrics of a model as those of an :class:`lla_func.Objective`.

    Args:
        metrics: by name; each a function of (predictions, targets), of predictions alone where there are no targets, an
            object with ``reset``, ``update(predictions, targets)`` and ``compute``, or one with ``objective(model)``.
        model: for the latter.
        guard: of the data.
        device: where outputs are.
        options: for ``objective(model, **options)``.

    Raises:
        TypeError: a metric is none of these.
    """
    instance("metrics", metrics, Mapping, "a dict of metrics by name")
    return {
        name: _translated(name, metric, model, guard, device, options) for name, metric in metrics.items()
    }


def _translated(
    name: str, metric: Any, model: nn.Module, guard: Guard, device: torch.device, options: Mapping[str, Any]
) -> Any:
    if isinstance(metric, Objective):
        return metric
    if isinstance(metric, type):
        raise TypeError(
            f"metrics[{name!r}] is the class {metric.__name__}; pass an instance, {metric.__name__}()"
        )
    if hasattr(metric, "objective"):
        return metric.objective(model, **options)
    if isinstance(metric, Accumulator):
        return _Gathered(name, metric, device)
    if not callable(metric):
        raise TypeError(f"metrics[{name!r}]={shown(metric)} is no metric; pass {FORMS}")

    def measure(outputs: Any, batch: Batch) -> Any:
        return guard(partial(_judged, metric), None, (outputs, batch), part=f"metric {name}")

    return measure


def _judged(metric: Callable[..., Any], model: Any, given: tuple[Any, Batch]) -> Any:
    """A metric of predictions and targets; of predictions alone where there are no targets."""
    predictions, targets = given[0], targets_of(given[1])
    return metric(predictions) if targets is None else metric(predictions, targets)


def targets_of(batch: Batch) -> Any:
    """The targets of a batch (inputs, targets)."""
    return batch[1] if isinstance(batch, (tuple, list)) and len(batch) == 2 else None


class _Gathered:
    """A copy of an accumulating metric, such as those of torchmetrics: the caller's stays as it is."""

    def __init__(self, name: str, metric: Any, device: torch.device) -> None:
        self.name = name
        self.metric = copy.deepcopy(metric)
        if isinstance(self.metric, nn.Module):
            self.metric.to(device)

    def reset(self) -> None:
        self.metric.reset()

    def update(self, outputs: Any, batch: Batch) -> None:
        targets = targets_of(batch)
        given = (outputs,) if targets is None else (outputs, targets)
        self.metric.update(*given)

    def compute(self) -> Tensor | float:
        found = self.metric.compute()
        if isinstance(found, Mapping):
            raise TypeError(
                f"metrics[{self.name!r}] computes {len(found)} values by name ({shown(list(found))}); pass each of "
                "them as a metric of its own"
            )
        return found
