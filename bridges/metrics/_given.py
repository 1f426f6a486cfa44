"""What callers hand to the facades as it is: a function of the model as a metric, another model as a point."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bridges.metrics._metrics import Metric
from bridges.models import unwrap
from lla_func.objective import Objective

__all__ = ["metric_of", "parameters_of"]


class _Function(Metric):
    """A function of the model, with the data inside."""

    def __init__(self, function: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self._function = function

    def __call__(self, model: nn.Module) -> Any:  # type: ignore[override]
        """The loss of the model."""
        return self._function(model)

    def objective(self, model: nn.Module, **options: Any) -> Objective:
        """The loss as a pure function, where the model is."""
        self.device = next((p.device for p in unwrap(model).parameters()), torch.device("cpu"))
        return super().objective(model, **options)


def metric_of(function: Callable[[nn.Module], Any]) -> Metric:
    """A function of the model alone as a metric.

    Args:
        function: returns the loss, a tensor without axes; or a number, which has landscapes but no derivatives.

    Raises:
        TypeError: it is a criterion, which needs data.

    Example:
        >>> model = nn.Linear(2, 1)
        >>> objective = metric_of(lambda model: model(torch.ones(1, 2)).square().sum()).objective(model)
        >>> objective.theta.shape
        torch.Size([3])
    """
    if isinstance(function, nn.Module):
        raise TypeError(
            f"metric is {type(function).__name__}, a criterion without data; pass "
            "bridges.metrics.Loss(criterion, inputs, targets), or a function of the model that returns the loss"
        )
    return _Function(function)


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a model by name, tied ones under each of theirs."""
    return {name: p.detach() for name, p in unwrap(model).named_parameters(remove_duplicate=False)}
