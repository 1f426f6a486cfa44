"""Dense matrices that operators are compared with, and a small network as a pure loss."""

from __future__ import annotations

import torch
from torch.autograd.functional import hessian as dense_hessian
from torch.nn import functional as F

from lla_func._torch._differentiable import differentiable
from lla_func.objective._objective import from_loss, samples

__all__ = ["QUICK", "Streaming", "dense", "draw", "labels", "matrix", "network", "off"]

QUICK = {"kernel": "vjp", "blocks": "rows"}  # no rehearsal


def dense(objective):
    """The Hessian by two reverse passes without vmap: the weighted sum over the batches as they are.

    Not by ``torch.func.hessian``, which is wrong by 5 % for the transformer in torch 2.14: it disagrees with finite
    differences, and its result is not symmetric.
    """
    total, weights = 0.0, 0
    with differentiable():
        for batch in objective.batches:
            weight = samples(batch) if objective.reduction == "mean" else 1
            total = total + weight * dense_hessian(lambda t: objective.loss(t, batch), objective.theta)  # noqa: B023
            weights += weight
    return total / weights if objective.reduction == "mean" else total


def matrix(operator):
    """The matrix of an operator, from one product with the identity."""
    return operator.matvec(torch.eye(operator.dim, dtype=operator.dtype)).detach()


def off(found, expected):
    return float((found - expected).norm()) / (float(expected.norm()) or 1.0)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(count, classes, seed=0):
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


def network(*, sizes=(7, 3, 12), reduction="mean", flat=False, dtype=torch.float64):
    """A small tanh network on unequal batches, as a pure loss that splits into outputs and criterion."""
    parameters = {
        "w1": draw(6, 4),
        "b1": draw(6, seed=1),
        "w2": draw(3, 6, seed=2),
        "b2": draw(3, seed=3),
    }  # P = 51
    parameters = {name: (0.5 * p).to(dtype) for name, p in parameters.items()}
    batches = [(draw(n, 4, seed=n).to(dtype), labels(n, 3, n)) for n in sizes]

    def outputs(p, batch):
        return torch.tanh(batch[0] @ p["w1"].mT + p["b1"]) @ p["w2"].mT + p["b2"]

    def criterion(output, batch):
        return F.cross_entropy(output, batch[1], reduction=reduction)

    def loss(p, batch):
        return criterion(outputs(p, batch), batch)

    made = from_loss(
        loss,
        parameters,
        batches,
        separable=True,
        reduction=reduction,
        outputs=outputs,
        criterion=criterion,
    )
    return made._replace(named=False) if flat else made


class Streaming:
    """Batches that are made anew in every pass."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        for batch in self.batches:
            yield tuple(part.clone() for part in batch)
