"""The losses that a Gauss-Newton matrix is of: a criterion of outputs, or a mean of the losses of single samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lla_func._torch import raise_if_interrupted
from lla_func.hessian._kernels import Point, Vector
from lla_func.objective import Batch, Objective, tiles, value, weigh, weighed


def outputs_and_criterion(
    objective: Objective, batch: Batch, theta: Callable[[Point], Any]
) -> tuple[Vector, Callable[[Tensor], Tensor]]:
    """All outputs for a batch as one vector [M], a function of x with theta(x); and the loss, a function of them."""
    outputs, criterion = objective.outputs, objective.criterion
    assert outputs is not None
    assert criterion is not None
    shapes: list[Any] = []

    def flat_outputs(x: Point) -> Tensor:
        leaves, structure = pytree.tree_flatten(outputs(theta(x), batch))
        if not all(isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in leaves):
            raise TypeError(
                "outputs returned something else than tensors of a floating dtype; return these alone"
            )
        shapes[:] = structure, [leaf.shape for leaf in leaves]
        return torch.cat([leaf.reshape(-1) for leaf in leaves])

    def of_flat_outputs(flat: Tensor) -> Tensor:
        structure, of_leaves = shapes  # every kernel computes outputs before it gets here
        cut = flat.split([shape.numel() for shape in of_leaves])
        leaves = [piece.view(shape) for piece, shape in zip(cut, of_leaves, strict=True)]
        return criterion(pytree.tree_unflatten(leaves, structure), batch)

    return flat_outputs, of_flat_outputs


def check_composition(objective: Objective) -> None:
    """Raises unless the criterion of the outputs is the loss, on the first batch that counts."""
    assert objective.outputs is not None
    assert objective.criterion is not None
    _, batch = next(weighed(objective, objective.batches))
    criterion, outputs = objective.criterion, objective.outputs
    whole = float(value(objective.loss, objective.theta, batch))
    parts = float(value(lambda theta, batch: criterion(outputs(theta, batch), batch), objective.theta, batch))
    if abs(whole - parts) > torch.finfo(objective.theta.dtype).eps ** 0.5 * abs(whole):
        raise ValueError(
            f"criterion(outputs) is {parts:.8g}, but the loss is {whole:.8g}; they must be the same"
        )


def sample_losses(objective: Objective, batch: Batch, theta: Any) -> Tensor:
    """The losses of the samples of a batch, [n], together where the loss can be batched over samples."""
    leaves, structure = pytree.tree_flatten(batch)
    axes = tuple(0 if isinstance(leaf, Tensor) else None for leaf in leaves)

    def single(*sample: Any) -> Tensor:
        sample = tuple(s.unsqueeze(0) if isinstance(s, Tensor) else s for s in sample)
        return objective.loss(theta, pytree.tree_unflatten(list(sample), structure))

    try:
        return torch.func.vmap(single, in_dims=axes)(*leaves)
    except (RuntimeError, ValueError) as error:  # control flow that depends on data, or no batching rule
        raise_if_interrupted(error)
        return torch.stack([objective.loss(theta, sample) for sample in tiles(batch, 1)])


def sample_weights(objective: Objective, batch: Batch) -> tuple[Tensor, Batch]:
    """The share of each sample in the loss of a batch, [n] (1 for a sum), and the batch of the n samples that count."""
    single = list(tiles(batch, 1))
    weights = torch.tensor([weigh(objective, sample) for sample in single])
    weights = weights.to(objective.theta)
    counting = weights > 0
    if not counting.all():
        batch = pytree.tree_map(lambda x: x[counting] if isinstance(x, Tensor) else x, batch)
        weights = weights[counting]
    return weights / weights.sum() if objective.reduction == "mean" else weights, batch
