"""The norm of the gradient as a metric of a model."""

from __future__ import annotations

from typing import Any

from torch import nn

from lla_func.objective import Objective, gradient_norm


class GradientNorm:
    """The L2 norm of the gradient of a loss over all its data, at each point; evaluated by itself, without an error.

    Args:
        metric: of the loss, anything with ``objective(model)``.

    Example:
        >>> import torch
        >>> from bridges.metrics import Loss
        >>> loss = Loss(nn.MSELoss(), torch.ones(2, 1), torch.zeros(2, 1))
        >>> model = nn.Linear(1, 1, bias=False)
        >>> objective = GradientNorm(loss).objective(model)
        >>> bool(objective.loss(objective.theta, ()) == 2 * objective.theta.abs())
        True
    """

    def __init__(self, metric: Any) -> None:
        if not hasattr(metric, "objective") or isinstance(metric, type):
            raise TypeError(
                f"metric is of type {type(metric).__name__}, which has no objective(model); pass a metric such as "
                "bridges.metrics.Loss(criterion, inputs, targets)"
            )
        self.metric = metric

    def objective(self, model: nn.Module, **options: Any) -> Objective:
        """The norm as a function of theta; the options are those of the metric."""
        return gradient_norm(self.metric.objective(model, **options))
