"""What moves control points in a step: the gradient of the mean loss over a curve, or the forces of an elastic band."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lla_func.geometry import Chart
from lla_func.objective import Batch, Objective


class Pull(NamedTuple):
    """The loss that a step has seen, and the direction [K - 2, P] that the optimizer goes against."""

    loss: float
    gradient: Tensor


def along_curve(objective: Objective, curve: Chart, batch: Batch, t: float) -> Pull:
    """The loss at one place of a curve, and its gradient with respect to the inner control points.

    A point of the curve is a combination of control points, so its gradient is shared out by the coefficients, and no
    graph goes through the curve. In the mean over uniform t it is the gradient of the mean loss over the curve.

    Args:
        objective: gives the loss.
        curve: the curve; its basis are the control points [K, P].
        batch: the samples of the step.
        t: in [0, 1].

    Source:
        Garipov et al. (2018), equation 2 and algorithm 1.
    """
    coefficients = curve.coefficients(torch.tensor([[t]], dtype=torch.float64))[0].to(curve.basis)
    loss, gradient = value_and_gradient(objective, coefficients @ curve.basis, batch)
    return Pull(loss, torch.outer(coefficients[1:-1], gradient))


def of_band(
    objective: Objective, points: Tensor, batch: Batch, *, spring: float = 1.0, climbing: bool = False
) -> Pull:
    """The highest loss of a band's pivots, and the forces on them, with the sign of a gradient.

    A pivot feels the gradient only across the band, and the springs only along it. So the springs do not pull the band
    off the path, which cuts corners otherwise, and the gradient does not pull pivots down into the valleys.

    Args:
        objective: gives the loss.
        points: the ends and the pivots between them, [K, P].
        batch: the samples of the step.
        spring: stiffness in units of the mean length of the gradients over the mean length of the pieces.
        climbing: whether the highest pivot feels no spring, and the gradient along the band reversed.

    Source:
        Henkelman and Jonsson (2000), J. Chem. Phys. 113, 9978, equations 4, 8 to 12; the climbing image by Henkelman,
        Uberuaga and Jonsson (2000), J. Chem. Phys. 113, 9901, equation 5.
    """
    with torch.no_grad():
        ends = [float(objective.loss(end, batch)) for end in (points[0], points[-1])]
    inner = [value_and_gradient(objective, point, batch) for point in points[1:-1]]
    losses = [ends[0], *(loss for loss, _ in inner), ends[1]]
    lengths = (points[1:] - points[:-1]).norm(dim=1)
    scale = torch.stack([gradient.norm() for _, gradient in inner]).mean()
    stiffness = spring * scale / lengths.mean().clamp_min(torch.finfo(points.dtype).tiny)
    highest = max(range(1, len(points) - 1), key=losses.__getitem__)
    forces = torch.empty_like(points[1:-1])
    for i, (_, gradient) in enumerate(inner, start=1):
        tangent = _tangent(points[i - 1 : i + 2], losses[i - 1 : i + 2])
        along = gradient @ tangent
        if climbing and i == highest:
            forces[i - 1] = gradient - 2 * along * tangent
        else:
            pull = stiffness * (lengths[i] - lengths[i - 1]) + along
            forces[i - 1] = gradient - pull * tangent
    return Pull(losses[highest], forces)


def _tangent(points: Tensor, losses: list[float]) -> Tensor:
    """The unit tangent [P] at the second of three neighbors [3, P]: towards the higher one, mixed at an extremum."""
    after, before = points[2] - points[1], points[1] - points[0]
    rise, fall = losses[2] - losses[1], losses[1] - losses[0]
    if rise > 0 and fall > 0:
        tangent = after
    elif rise < 0 and fall < 0:
        tangent = before
    else:
        most, least = max(abs(rise), abs(fall)), min(abs(rise), abs(fall))
        weights = (most, least) if losses[2] > losses[0] else (least, most)
        if most == least:  # flat, or symmetric: neither side is preferred
            weights = (1.0, 1.0)
        tangent = weights[0] * after + weights[1] * before
    return tangent / tangent.norm().clamp_min(torch.finfo(points.dtype).tiny)


def value_and_gradient(objective: Objective, theta: Tensor, batch: Batch) -> tuple[float, Tensor]:
    """The loss on a batch and its gradient [P], taken in the named tensors that make up theta where that will do."""
    layout = objective.layout
    pieces = layout.unravel(theta.detach()) if objective.named else {"theta": theta.detach()}
    leaves = {name: piece.requires_grad_() for name, piece in _leaves(pieces).items()}
    with torch.enable_grad():
        loss = objective.loss(leaves if objective.named else leaves["theta"], batch)  # type: ignore[arg-type]
        if not isinstance(loss, Tensor) or not loss.requires_grad:
            raise TypeError(
                "the loss has no gradient, so no curve can be fitted to it; it must be a tensor that depends on theta"
            )
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    gradients = dict(zip(leaves, found, strict=True))
    return float(loss.detach()), layout.ravel(gradients) if objective.named else gradients["theta"]


def _leaves(pieces: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: piece.detach() for name, piece in pieces.items()}
