"""Several metrics of one model as one, the original's MetricPipeline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from bridges.metrics._metric import Metric, metric_of
from bridges.models import unwrap
from lla_func.objective import Objective


class Pipeline:
    """A sequence of metrics of a model: called with a model it gives all their values, in order.

    As a metric of a landscape the first is the loss; the others are evaluated on the same chart.

    Args:
        metrics: metrics, or functions of the model; in a list, or by name. Those without a name are called
            ``metric 2``, ``metric 3`` and so on.

    Raises:
        TypeError, ValueError: there is none, or one that is no metric.

    Example:
        >>> import torch
        >>> from bridges.metrics import Loss
        >>> train, test = (Loss(nn.MSELoss(), torch.ones(n, 1), torch.zeros(n, 1)) for n in (4, 2))
        >>> both = Pipeline({"train": train, "test": test})
        >>> model = nn.Linear(1, 1)
        >>> both(model) == (train(model), test(model))
        True
        >>> list(both.objective(model).metrics)
        ['test']
    """

    def __init__(self, metrics: Iterable[Any] | Mapping[str, Any]) -> None:
        if not isinstance(metrics, Mapping):
            if not isinstance(metrics, Iterable) or isinstance(metrics, (str, nn.Module)):
                raise TypeError(
                    f"metrics is of type {type(metrics).__name__}; pass a list of metrics, or a dict"
                )
            metrics = {f"metric {i}": metric for i, metric in enumerate(metrics, start=1)}
        if not metrics:
            raise ValueError("metrics is empty; pass at least one metric")
        self.metrics = {name: _metric(name, metric) for name, metric in metrics.items()}

    def __call__(self, model_wrapper: Any) -> tuple[Any, ...]:
        """The value of each metric for a model, wrapped or not."""
        return tuple(
            metric(model_wrapper) if isinstance(metric, Metric) else metric(unwrap(model_wrapper))
            for metric in self.metrics.values()
        )

    def objective(self, model: nn.Module, **options: Any) -> Objective:
        """The first metric as an objective, with the others as its metrics."""
        (_, first), *others = self.metrics.items()
        beside = {**(options.pop("metrics", None) or {}), **dict(others)}
        return first.objective(model, **options, metrics=beside)

    def moments(self, model: nn.Module, optimizer: Any) -> Any:
        """The moments of an Adam-like optimizer, by the first metric."""
        return next(iter(self.metrics.values())).moments(model, optimizer)


def _metric(name: str, metric: Any) -> Any:
    if hasattr(metric, "objective") and not isinstance(metric, type):
        return metric
    if callable(metric) and not isinstance(metric, type):
        return metric_of(metric)
    raise TypeError(
        f"metrics[{name!r}] is of type {type(metric).__name__}; pass a metric such as bridges.metrics.Loss(...), or a "
        "function of the model"
    )
