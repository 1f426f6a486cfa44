"""The point under study, and what moves away from it do to the loss: rises, slopes, and how samples differ in them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from lla_func._torch import differentiable, full_precision, without_autocast
from lla_func.assessment._contrast import sample_losses
from lla_func.errors import instance
from lla_func.objective import Objective, mean_and_error, merged, moments, risk, tiles, weighed

TILE = 1024
"""Samples in a piece of data whose gradient is taken at once."""
SHORT = 0.1
"""The part of a move that rounding of theta may swallow before a result says so."""


class Center(NamedTuple):
    """An objective with the loss at its theta.

    Attributes:
        objective: what is studied.
        loss: the risk at ``objective.theta``.
    """

    objective: Objective
    loss: float

    @property
    def theta(self) -> Tensor:
        """The point under study, [P]."""
        return self.objective.theta

    @property
    def eps(self) -> float:
        """The relative rounding of losses."""
        return torch.finfo(self.theta.dtype).eps

    def rise(self, step: Tensor) -> float:
        """The loss after a step [P], less the loss before it; NaN or infinite where the loss is."""
        with full_precision():
            return float(risk(self.objective, self.theta + step)) - self.loss

    def rounding(self, rise: float) -> float:
        """What rounding of two losses may leave in their difference."""
        return self.eps * (abs(self.loss) + abs(self.loss + rise)) if math.isfinite(rise) else math.inf

    def doubt(self, step: Tensor, rise: float) -> str | None:
        """What to say of a step [P] that theta is too coarse to hold, or of a rise that rounding may have made."""
        asked = length(step)
        lost = length((self.theta + step).double() - self.theta.double() - step.double())
        name = str(self.theta.dtype).removeprefix("torch.")
        said = []
        if lost > SHORT * asked:
            said.append(
                f"{name} rounds {lost / asked:.0%} of the step away; pass dtype='float32', for a copy"
            )
        if not math.isfinite(rise):
            said.append("the loss is not finite after the step; go less far")
        elif abs(rise) <= self.rounding(rise):
            said.append(
                f"the rise is within the rounding of {name} losses; go further, or pass dtype='float64'"
            )
        return notes(*said)


def center_of(objective: Objective) -> Center:
    """The objective with its loss.

    Raises:
        TypeError: it is no Objective.
        ValueError: the loss there is not finite.
    """
    instance("objective", objective, Objective, "an Objective: metric.objective(model), or from_loss(...)")
    with full_precision():
        loss = float(risk(objective))
    if not math.isfinite(loss):
        raise ValueError(
            f"the loss at theta is {loss}; sharpness is how a finite loss changes around it, so look at the data and "
            "the weights first"
        )
    return Center(objective, loss)


def gradient(objective: Objective, theta: Tensor) -> Tensor:
    """The gradient of the risk at theta, [P], in one pass over the data.

    Raises:
        ValueError: the loss has no derivative with respect to theta.
    """
    if objective.adapt is not None:
        raise ValueError(
            "the loss depends on theta also through statistics of all the data (recalibrated BatchNorm), which has no "
            "derivative here; pass batchnorm='eval' or 'batch', or a kind without gradient: average, basin, pac_bayes"
        )
    total, weights = torch.zeros_like(theta), 0.0
    with differentiable():
        for batch in objective.batches:
            parts = tiles(batch, TILE) if objective.separable else (batch,)
            for weight, part in weighed(objective, parts):
                leaf = theta.detach().clone().requires_grad_()
                loss = objective.loss(leaf, part)
                if not (isinstance(loss, Tensor) and loss.requires_grad and loss.ndim == 0):
                    raise ValueError(
                        "the loss is not a scalar that can be differentiated by theta, which this kind of sharpness "
                        "needs; look for .detach(), .item() or numpy in it, or take average, basin or pac_bayes"
                    )
                (slope,) = torch.autograd.grad(loss, leaf, allow_unused=True, materialize_grads=True)
                total.add_(slope.detach(), alpha=weight)
                weights += weight
    return total.div_(weights) if objective.reduction == "mean" and weights else total


def error_over_data(center: Center, steps: Iterable[Tensor]) -> float | None:
    """The standard error over samples of the mean rise after some steps [P], of which one at a time is held.

    Each sample's loss after a step is compared with its own before it, so that what they differ in anyway drops out.
    None where the objective has no losses of single samples, or they depend on one another (batch statistics).
    """
    objective = center.objective
    if objective.per_sample is None or not (objective.separable or objective.adapt is not None):
        return None
    with torch.no_grad(), full_precision(), without_autocast():
        before = list(sample_losses(objective, center.theta))
        rises, count = [torch.zeros_like(losses) for losses, _ in before], 0
        for step in steps:
            count += 1
            after = sample_losses(objective, center.theta + step)
            for rise, (first, _), (losses, _) in zip(rises, before, after, strict=True):
                rise += losses - first
        parts = zip(rises, before, strict=True)
        numbers = merged([moments(rise / count, weights) for rise, (_, weights) in parts])
    error = float(mean_and_error(numbers)[1]) * (float(numbers[1]) if objective.reduction == "sum" else 1.0)
    return error if math.isfinite(error) else None


def length(vector: Tensor) -> float:
    """The Euclidean norm, summed in float64: squares of small gradients vanish in float32."""
    return float(torch.linalg.vector_norm(vector, dtype=torch.float64))


def unit(vector: Tensor) -> Tensor:
    """The vector [P] with length one; zero stays zero."""
    largest = vector.abs().max()
    if not float(largest) > 0:
        return torch.zeros_like(vector)
    scaled = vector / largest  # first, so that the length is neither too small nor too large for the dtype
    return scaled / length(scaled)


def normal(theta: Tensor, generator: torch.Generator) -> Tensor:
    """A standard normal vector like theta, the same on every device."""
    dtype = torch.promote_types(theta.dtype, torch.float32)
    drawn = torch.randn(len(theta), generator=generator, dtype=dtype, device=generator.device)
    return drawn.to(theta)


def notes(*parts: str | None) -> str | None:
    """What there is to say, in one line; None for nothing."""
    return "; ".join(filter(None, parts)) or None
