"""What BatchNorm and dropout do in a loss landscape: the policies, and the pure losses they lead to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bridges.models._borrowed import Borrowed, Task, scalar
from bridges.models._pose import Pose, drops_out, evaluating
from lla_func.errors import one_of, seed_number
from lla_func.objective import Batch, samples

POLICIES = ("eval", "batch", "recalibrate")

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Behavior(NamedTuple):
    """The loss that a policy leads to, in the terms of :class:`lla_func.Objective`.

    Attributes:
        loss: maps theta [P] and a batch to a scalar.
        at: the same for any task: maps the task to a function of theta and data.
        adapt: maps theta to the loss to use there, or None.
        adapted: the same for any task: maps the task to what maps theta to the function of theta and data; or None.
        mixes: whether samples of a batch influence each other, so that it must not be cut.
        notes: what was chosen, for the results.
        statistics: with ``recalibrate`` maps theta to the running statistics there, by their names in the pipeline.
    """

    loss: Callable[[Tensor, Batch], Tensor]
    at: Callable[[Task], Callable[[Tensor, Any], Any]]
    adapt: Callable[[Tensor], Callable[[Tensor, Batch], Tensor]] | None
    mixes: bool
    notes: dict[str, str]
    statistics: Callable[[Tensor], dict[str, Tensor]] | None = None
    adapted: Callable[[Task], Callable[[Tensor], Callable[[Tensor, Any], Any]]] | None = None


def behave(
    borrowed: Borrowed,
    loss_of: Task,
    batches: Iterable[Batch],
    *,
    batchnorm: str = "eval",
    dropout_seed: int | None = None,
) -> Behavior:
    """The pure loss of a borrowed model under a policy for BatchNorm and dropout.

    Policies:
        ``eval``: running statistics as they are in the model. Simple, but away from the trained point the
            statistics no longer fit the activations, and the landscape looks rougher than training saw it.
        ``batch``: statistics of the batch at hand, as in training mode; the running ones are not touched.
        ``recalibrate``: at each theta one more pass over all batches gathers running statistics, then ``eval`` with
            them. They are the sample-weighted means, over the batches, of a batch's mean and unbiased variance. As
            in training, a layer's input is normalized by the batch at hand while they are gathered, so that this
            is ``torch.optim.swa_utils.update_bn`` (Izmailov et al. 2018, algorithm 1) but for the weights.

    A layer without running statistics (``track_running_stats=False``) takes those of the batch whatever the policy.

    Args:
        borrowed: the model.
        loss_of: maps the model and a batch to the loss.
        batches: the data that ``recalibrate`` goes over.
        batchnorm: one of the policies.
        dropout_seed: None for no dropout; a whole number for masks drawn from this seed anew in each call, so that
            a batch meets the same masks at all points of a landscape.

    Raises:
        ValueError, TypeError: unknown policy, or ``dropout_seed`` is not a whole number from 0 on.
    """
    one_of("batchnorm", batchnorm, POLICIES)
    seed = 0 if dropout_seed is None else seed_number("dropout_seed", dropout_seed)
    pipeline = borrowed.pipeline
    named = pipeline.model.named_modules(prefix="model")
    layers = {name: part for name, part in named if isinstance(part, _BatchNorm)}
    stateless = any(layer.running_mean is None for layer in layers.values())
    dropping = dropout_seed is not None and any(map(drops_out, pipeline.modules()))

    pose: dict[nn.Module, dict[str, Any]] = evaluating(pipeline, dropout=dropping)
    if batchnorm == "batch":
        for layer in layers.values():
            pose[layer] = {"training": True, "track_running_stats": False}

    def at(task: Task) -> Callable[[Tensor, Any], Any]:
        return lambda theta, data: borrowed(task, theta, data, pose=pose, buffers={}, seed=seed)

    def loss_with(buffers: Mapping[str, Tensor]) -> Callable[[Tensor, Batch], Tensor]:
        def loss(theta: Tensor, batch: Batch) -> Tensor:
            return scalar(borrowed(loss_of, theta, batch, pose=pose, buffers=buffers, seed=seed), theta)

        return loss

    adapt = adapted = statistics = None
    if batchnorm == "recalibrate" and layers:
        statistics = _recalibrating(borrowed, loss_of, batches, layers, pose, seed)

        def adapt(theta: Tensor) -> Callable[[Tensor, Batch], Tensor]:
            return loss_with(statistics(theta))

        def adapted(task: Task) -> Callable[[Tensor], Callable[[Tensor, Any], Any]]:
            def at_theta(theta: Tensor) -> Callable[[Tensor, Any], Any]:
                buffers = statistics(theta)
                return lambda theta, data: borrowed(task, theta, data, pose=pose, buffers=buffers, seed=seed)

            return at_theta

    note = batchnorm if layers else "none"
    if stateless and batchnorm != "batch":
        note += ", batch where a layer has no running statistics"
    return Behavior(
        loss_with({}),
        at,
        adapt,
        mixes=dropping or stateless or (batchnorm == "batch" and bool(layers)),
        notes={"batchnorm": note, "dropout": f"seed {seed}" if dropping else "off"},
        statistics=statistics,
        adapted=adapted,
    )


def _recalibrating(
    borrowed: Borrowed,
    loss_of: Task,
    batches: Iterable[Batch],
    layers: Mapping[str, nn.Module],
    pose: Pose,
    seed: int,
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Maps theta to the running statistics gathered there."""
    names = [f"{layer}.{part}" for layer in layers for part in STATISTICS]
    names = [name for name in names if name in borrowed.constants]
    # With momentum None and a count that starts at zero, PyTorch stores the plain mean over the uses of a layer in
    # one pass: the batch's own statistics, also for a layer that is used twice.
    gathering = dict(pose)
    for layer in layers.values():
        gathering[layer] = {"training": True, "momentum": None}
    # For losses that differentiate on their way (lla_func.objective.value); the model's loan ends it.
    pass_over = torch.enable_grad()(loss_of)

    def statistics(theta: Tensor) -> dict[str, Tensor]:
        sums: dict[str, Tensor] = {}
        count = 0
        for batch in batches:
            gathered = {name: torch.zeros_like(borrowed.constants[name]) for name in names}
            borrowed(pass_over, theta, batch, pose=gathering, buffers=gathered, seed=seed)
            weight = samples(batch)
            count += weight
            for name, value in gathered.items():
                sums[name] = sums.get(name, 0) + weight * value.double()
        return {name: (total / count).to(borrowed.constants[name].dtype) for name, total in sums.items()}

    return statistics
