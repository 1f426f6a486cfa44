"""The curvature of each sample's loss along a vector, v^T H_i v, in one pass over the data for a vector.

It is the second derivative of the losses of all samples of a tile along the line theta + t v: a function of the
number t, so forward mode needs no graph. Where forward mode has no rule, reverse mode takes over: sum_i u_i v^T H_i v
is linear in weights u, and its derivatives with respect to them are the curvatures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import grad

from lla_func._torch import differentiable, noticed, raise_if_interrupted
from lla_func.graph import DenseZeros
from lla_func.hessian._assembly import pieces
from lla_func.hessian._gauss_newton import sample_losses, sample_weights
from lla_func.hessian._kernels import Point, cut
from lla_func.hessian._request import Request
from lla_func.objective import Batch, Objective, PerSample

TILE = 256
"""Samples in a tile: third derivatives hold more than products do."""


def curvatures(request: Request) -> Callable[[Tensor], Tensor] | None:
    """The map from v to what samples contribute to v.Hv; None where samples have no losses of their own.

    For a weighted mean the weight of a sample is random as well as its curvature, so what it contributes is that of the
    linearized ratio: the sum is v.Hv, and the spread of the contributions is that over data.
    """
    objective = request.objective
    if not objective.separable:
        return None

    @noticed()
    def of(vector: Tensor) -> Tensor:
        values, weights = [], []
        with differentiable():
            for weight, tile in pieces(objective, min(request.tile, TILE)):
                found, own = _on(request, objective, tile, vector)
                values.append(found.double())
                total = own.double().sum()
                weights.append(own.double() * (1.0 if objective.reduction == "sum" else weight / total))
        each, share = torch.cat(values), torch.cat(weights)
        if objective.reduction == "sum":
            return (share * each).cpu()
        share = share / share.sum()
        whole = (share * each).sum()
        return (share * each + whole * (1 / len(each) - share)).cpu()

    return of


def _on(request: Request, objective: Objective, tile: Batch, vector: Tensor) -> tuple[Tensor, Tensor]:
    """The curvatures of the samples of a tile, and their weights, [n] each."""
    if objective.per_sample is not None and objective.outputs is not None:
        outputs, judge, given = objective.outputs, objective.per_sample, tile
        weights: list[Tensor | None] = [None]

        def losses(x: Point) -> Tensor:
            found: Any = judge(outputs(request.theta(x), given), given)
            if isinstance(found, PerSample):
                weights[0] = found.weights.detach() if isinstance(found.weights, Tensor) else None
                found = found.values
            return found

        curved = _second(losses, request.parts, vector)
        own = weights[0]
        return curved, torch.ones_like(curved) if own is None else own.to(curved)
    own, counting = sample_weights(objective, tile)
    return _second(lambda x: sample_losses(objective, counting, request.theta(x)), request.parts, vector), own


def _second(losses: Callable[[Point], Tensor], point: Point, vector: Tensor) -> Tensor:
    """The second derivative of losses [n] at a point along a vector."""
    along = cut(vector, point)
    zero, one = vector.new_zeros(()), vector.new_ones(())

    def slope(t: Tensor) -> Tensor:
        def moved(t: Tensor) -> Tensor:
            return losses(tuple(x + t * v for x, v in zip(point, along, strict=True)))

        return torch.func.jvp(moved, (t,), (one,))[1]

    try:
        with DenseZeros():
            return torch.func.jvp(slope, (zero,), (one,))[1].detach()
    except (RuntimeError, ValueError) as error:
        raise_if_interrupted(error)
    leaves = [x.detach().requires_grad_() for x in point]

    def derivative(value: Tensor) -> Tensor:
        """Of a scalar, along the vector."""
        if not value.requires_grad:
            return value.new_zeros(())
        slopes = grad(value, leaves, create_graph=True, materialize_grads=True)
        return sum(((g * v).sum() for g, v in zip(slopes, along, strict=True)), value.new_zeros(()))

    with torch.enable_grad():
        values = losses(tuple(leaves))
        u = torch.ones_like(values).requires_grad_()
        twice = derivative(derivative((u * values).sum()))
        return grad(twice, u, materialize_grads=True)[0] if twice.requires_grad else torch.zeros_like(values)
