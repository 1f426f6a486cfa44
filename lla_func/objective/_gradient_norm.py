"""The norm of the gradient as a function of theta."""

from __future__ import annotations

import torch
from torch import Tensor

from lla_func._torch import without_autocast
from lla_func.objective._objective import Batch, Objective, loss_at, weighed


def gradient_norm(objective: Objective) -> Objective:
    """The objective whose value at theta is the L2 norm of the risk's gradient there: a metric, point by point.

    Where the loss adapts to theta (recalibrated BatchNorm), what adapts counts as constant. The norm of a mean has no
    mean over samples, so there is no error over data.

    Args:
        objective: whose loss can be differentiated.

    Example:
        >>> from lla_func.objective import from_loss, risk
        >>> bowl = from_loss(lambda theta, batch: theta.square().sum(), torch.tensor([3.0, 4.0]))
        >>> float(risk(gradient_norm(bowl)))
        10.0
    """

    def norm(theta: Tensor, batch: Batch) -> Tensor:
        loss = loss_at(objective, theta)
        total = torch.zeros(len(theta), dtype=torch.float64, device=theta.device)
        weights = 0.0
        for weight, part in weighed(objective, objective.batches):
            total += weight * _gradient(objective, loss, theta, part)
            weights += weight
        return total.norm() / (weights if objective.reduction == "mean" else 1.0)

    return Objective(
        norm,
        objective.theta,
        objective.layout,
        [()],
        adapt=lambda theta: norm,  # point by point: a recording of derivatives would hold all data
        notes={**objective.notes, "value": "gradient norm"},
    )


def _gradient(objective: Objective, loss: object, theta: Tensor, batch: Batch) -> Tensor:
    """On one batch, [P]."""
    with torch.enable_grad(), without_autocast():
        if not objective.named or objective.adapt is not None:
            point = theta.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(point, batch), [point], allow_unused=True)  # type: ignore[operator]
            return torch.zeros_like(theta) if gradient is None else gradient
        named = {k: v.detach().requires_grad_() for k, v in objective.layout.unravel(theta).items()}
        found = torch.autograd.grad(loss(named, batch), list(named.values()), allow_unused=True)  # type: ignore[operator]
        pieces = zip(named.items(), found, strict=True)
        return objective.layout.ravel(
            {k: torch.zeros_like(v) if gradient is None else gradient for (k, v), gradient in pieces}
        )
