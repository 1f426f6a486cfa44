"""Objective: the function of theta whose landscape and Hessian are studied, with its data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lla_func._torch import tensors, without_autocast
from lla_func.errors import flag, instance, one_of
from lla_func.objective._layout import Layout

if TYPE_CHECKING:
    from lla_func.objective._measured import Measures

Batch = Any
Loss = Callable[[Tensor, Batch], Tensor]
Weight = Callable[[Batch], "Tensor | float"]
Outputs = Callable[[Tensor, Batch], Any]

OBJECTIVE = "an Objective: metric.objective(model), or from_loss(...) for a pure loss"


class Objective(NamedTuple):
    """A loss over data, as a function of a flat parameter vector.

    The quantity of interest is the risk: with ``reduction="mean"`` the mean of the batches' losses, each weighted by
    what it is a mean over, the number of samples if nothing else is said; with ``"sum"`` their sum.

    Attributes:
        loss: maps theta [P] and one batch to the loss on this batch, a scalar. A pure function.
        theta: the point under study, [P].
        layout: how parameters lie in theta.
        batches: pytrees of tensors whose first axis counts samples. May be iterated any number of times, always
            with the same batches in the same order.
        separable: whether the loss of a batch is the weighted mean (or the sum) of the losses of its parts, so that
            it may be cut into tiles. False under batch statistics or anything unknown.
        reduction: ``"mean"`` or ``"sum"``.
        adapt: for losses that depend on theta through the whole data (recalibrated BatchNorm): maps theta to the
            loss to use at theta. None for all others.
        notes: what a reader of the results should know, such as ``{"batchnorm": "eval"}``.
        outputs: maps theta and one batch to the model's outputs (a tensor or a pytree of them), where the loss splits
            into a model and a criterion, ``loss(theta, batch) = criterion(outputs(theta, batch), batch)``. The
            Gauss-Newton matrix needs the split; None where there is none.
        criterion: maps outputs and the batch to the loss.
        named: whether ``loss`` and ``outputs`` also take the named tensors that make up theta in its place (as they
            do if all they do with theta is ``layout.unravel(theta)``). Then derivatives with respect to some of the
            parameters cost less than with respect to all.
        weight: maps a batch, or a part of one, to what its loss is a mean over, where that is not the number of its
            samples: the sum of the class weights of its targets, or the number of tokens that count. A batch of weight
            zero is left out. None for samples.
        metrics: further values by name, read off the outputs in the same pass. Each is a function of (outputs, batch)
            that gives [B] or [B, K], a value or K of them for each sample (or :class:`PerSample`, with weights), whose
            mean is taken and whose standard error is known; or that gives a number or [K] for the batch, of which the
            mean over batches is taken, weighted by samples. Or it is an :class:`Accumulator`. Or it is an Objective of
            the same theta, which is evaluated separately.
        per_sample: maps outputs and the batch to the losses of single samples, such that the loss is their weighted
            mean (or their sum): [B] or :class:`PerSample`. None where they are not known.
        adapt_outputs: the same for outputs as ``adapt`` for the loss: maps theta to the outputs to use at theta.
        measures: what the vector holds that the loss of :func:`lla_func.objective.measured` is; None for all others.
    """

    loss: Loss
    theta: Tensor
    layout: Layout
    batches: Iterable[Batch]
    separable: bool = False
    reduction: str = "mean"
    adapt: Callable[[Tensor], Loss] | None = None
    notes: Mapping[str, str] = {}
    outputs: Callable[[Tensor, Batch], Any] | None = None
    criterion: Callable[[Any, Batch], Tensor] | None = None
    named: bool = False
    weight: Weight | None = None
    metrics: Mapping[str, Any] = {}
    per_sample: Callable[[Any, Batch], Any] | None = None
    adapt_outputs: Callable[[Tensor], Outputs] | None = None
    measures: Measures | None = None


def from_loss(
    loss: Callable[[Any, Batch], Tensor],
    parameters: Tensor | Mapping[str, Tensor],
    batches: Iterable[Batch] = ((),),
    *,
    separable: bool = False,
    reduction: str = "mean",
    outputs: Callable[[Any, Batch], Any] | None = None,
    criterion: Callable[[Any, Batch], Tensor] | None = None,
    weight: Weight | None = None,
    metrics: Mapping[str, Any] | None = None,
    per_sample: Callable[[Any, Batch], Any] | None = None,
) -> Objective:
    """The objective of a pure loss function.

    Args:
        loss: maps parameters and a batch to a scalar. It is called with parameters of the form given next.
        parameters: a vector theta [P], or named tensors of any shape.
        batches: pytrees of tensors (the default, one empty batch, is for losses without data).
        separable: whether a batch may be cut into tiles along its samples.
        reduction: how the losses of batches combine, ``"mean"`` (weighted by samples) or ``"sum"``.
        outputs, criterion: the two parts of the loss, for the Gauss-Newton matrix: outputs of parameters (of the same
            form) and a batch, and the loss of outputs and a batch.
        weight: what the loss of a batch is a mean over, a function of the batch; the number of its samples by default.
        metrics: further values at each point by name (:class:`Objective`).
        per_sample: the losses of single samples, [B], a function of outputs and a batch, for errors over data.

    Raises:
        ValueError: there are no data, or one of the arguments does not fit them.

    Example:
        >>> bowl = from_loss(lambda theta, batch: theta.square().sum(), torch.tensor([3.0, 4.0]))
        >>> float(risk(bowl))
        25.0
    """
    one_of("reduction", reduction, ("mean", "sum"))
    flag("separable", separable)
    given = {"loss": loss, "outputs": outputs, "criterion": criterion, "per_sample": per_sample}
    for name, function in given.items():
        if not callable(function) and (name == "loss" or function is not None):
            raise TypeError(f"{name}={function!r} cannot be called; pass a function")
    if metrics is not None:
        instance("metrics", metrics, Mapping, "a dict of metrics by name")
    instance("parameters", parameters, (Tensor, Mapping), "theta [P] or a dict of named tensors")
    if isinstance(batches, (str, bytes)) or not isinstance(batches, Iterable):
        raise TypeError(f"batches={batches!r} is no sequence of batches; pass a list of them")
    if isinstance(parameters, Tensor) and parameters.ndim != 1:
        raise ValueError(f"parameters has shape {list(parameters.shape)}; pass theta [P] or named tensors")
    named = not isinstance(parameters, Tensor)
    parts = dict(parameters) if isinstance(parameters, Mapping) else {"theta": parameters}
    layout = Layout.of(parts)

    def of_theta(function: Callable[[Any, Batch], Any]) -> Callable[[Tensor, Batch], Any]:
        return (lambda theta, batch: function(layout.unravel(theta), batch)) if named else function

    batches = batches if isinstance(batches, Iterable) and iter(batches) is not batches else list(batches)
    with torch.inference_mode(False):  # tensors made there take no part in derivatives
        theta = layout.ravel(parts).detach().clone()
    objective = Objective(
        of_theta(loss),
        theta,
        layout,
        batches,
        separable,
        reduction,
        outputs=of_theta(outputs) if outputs else None,
        criterion=criterion,
        named=named,
        weight=weight,
        metrics=dict(metrics or {}),
        per_sample=per_sample,
    )
    check(objective)
    return objective


def samples(batch: Batch) -> int:
    """The number of samples in a batch: the length of the first axis of its first tensor (1 if it has none)."""
    return next((tensor.shape[0] for tensor in tensors(batch) if tensor.ndim), 1)


def tiles(batch: Batch, size: int) -> Iterator[Batch]:
    """Cuts every tensor of a batch along its first axis into pieces of at most ``size`` samples.

    A batch whose tensors differ in length cannot be cut and is returned whole.
    """
    count = samples(batch)
    if size >= count or any(tensor.ndim == 0 or len(tensor) != count for tensor in tensors(batch)):
        yield batch
        return
    for start in range(0, count, size):
        with torch.enable_grad():  # a part of data that requires gradients requires them, too
            part = pytree.tree_map(lambda x, s=start: x[s : s + size] if isinstance(x, Tensor) else x, batch)
        yield part


class Weighted(Protocol):
    """What says how the losses of batches combine: an objective, or a metric."""

    @property
    def reduction(self) -> str:
        """``"mean"`` or ``"sum"``."""

    @property
    def weight(self) -> Weight | None:
        """What the loss of a batch is a mean over; None for its samples."""


class Plain(NamedTuple):
    """How losses combine, and nothing else."""

    reduction: str
    weight: Weight | None


def weigh(objective: Weighted, batch: Batch) -> float:
    """The weight of a batch's loss in the risk: for a mean what it is a mean over, 1 for a sum.

    Raises:
        ValueError: the objective gives a weight that is negative, infinite or NaN.
    """
    if objective.reduction == "sum":
        return 1
    if objective.weight is None:
        return samples(batch)
    weight = float(objective.weight(batch))
    if not 0 <= weight < math.inf:
        raise ValueError(
            f"the weight of a batch is {weight:g}; weight(batch) must be finite and not negative"
        )
    return weight


def weighed(objective: Weighted, batches: Iterable[Batch]) -> Iterator[tuple[float, Batch]]:
    """The batches that count, each with its weight; those of weight zero do not: a mean over nothing is NaN.

    For metrics, which have weights of their own, all count.
    """
    everything = getattr(objective, "measures", None) is not None
    for batch in batches:
        if (weight := weigh(objective, batch)) or everything:
            yield weight, batch


def beginning(objective: Objective, size: int) -> Batch:
    """The first ``size`` samples of the data that count, where batches may be cut; else the first batch that counts.

    Raises:
        ValueError: no batch has a weight.
    """
    for batch in objective.batches:
        for _, part in weighed(objective, tiles(batch, size) if objective.separable else (batch,)):
            return part
    raise ValueError(NO_WEIGHT)


NO_WEIGHT = "all batches have weight zero, so there is no mean loss; are all targets ignored?"


def combined(objective: Weighted, losses: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The risk of the losses of all batches, each one number or [N] of them: float64 on the CPU.

    Measured losses give rows [width], or [N, width], with the risk in front (:func:`lla_func.objective.measured`).

    Raises:
        ValueError: there is no batch that counts.
    """
    if (measures := getattr(objective, "measures", None)) is not None:
        counting = [(loss[..., 0], weight) for loss, weight in zip(losses, weights, strict=True) if weight]
        parts, shares = zip(*counting, strict=True) if counting else ((), ())
        whole = combined(Plain(objective.reduction, objective.weight), parts, shares)
        return torch.cat([whole[..., None], measures.combined(losses, objective.reduction)], dim=-1)
    if not losses:
        raise ValueError(NO_WEIGHT)
    total = torch.tensor(weights, dtype=torch.float64) @ torch.stack(list(losses)).to("cpu", torch.float64)
    return total / sum(weights) if objective.reduction == "mean" else total


def value(loss: Loss, theta: Tensor | Mapping[str, Tensor], batch: Batch) -> Tensor:
    """The loss on a batch, of which no gradient is recorded.

    While it is computed gradients are enabled, for losses that differentiate on their way: the residual of a
    differential equation, the forces of a potential. Where nothing asks for gradients that costs nothing.

    Example:
        >>> def slope(theta, x):
        ...     x = x.clone().requires_grad_()
        ...     return torch.autograd.grad((theta * x**2).sum(), x, create_graph=True)[0].sum()
        >>> with torch.no_grad():
        ...     value(slope, torch.ones(2), torch.tensor([1.0, 3.0]))
        tensor(8.)
    """
    with torch.enable_grad(), without_autocast():
        found = loss(theta, batch)  # type: ignore[arg-type]
    return found.detach() if isinstance(found, Tensor) else found


def loss_at(objective: Objective, theta: Tensor) -> Loss:
    """The loss to use at theta: adapted to it where the objective asks for that."""
    return objective.loss if objective.adapt is None else objective.adapt(theta)


def risk(objective: Objective, theta: Tensor | Mapping[str, Tensor] | None = None) -> Tensor:
    """The loss over all batches at theta (by default at the point under study), a float64 scalar on the CPU.

    No gradient is recorded. Where the objective says ``named``, theta may be the named tensors that it consists of.

    Example:
        >>> objective = from_loss(lambda theta, x: (x @ theta).square().mean(), torch.ones(2), [torch.eye(2)])
        >>> risk(objective)
        tensor(1., dtype=torch.float64)
    """
    instance("objective", objective, Objective, OBJECTIVE)
    theta = objective.theta if theta is None else theta
    if isinstance(theta, Tensor) and theta.shape != objective.theta.shape:
        raise ValueError(f"theta has shape {list(theta.shape)}; pass {list(objective.theta.shape)}")
    losses, weights = [], []
    with torch.no_grad():
        loss = loss_at(objective, theta)  # type: ignore[arg-type]
        for weight, batch in weighed(objective, objective.batches):
            losses.append(value(loss, theta, batch))
            weights.append(weight)
        return combined(objective, losses, weights)


def check(objective: Objective) -> None:
    """Raises a ValueError that names what is wrong with an objective: theta, its batches or their devices.

    Iterates the batches once and evaluates no loss.
    """
    instance("objective", objective, Objective, OBJECTIVE)
    theta, layout = objective.theta, objective.layout
    one_of("reduction", objective.reduction, ("mean", "sum"))
    if theta.shape != (layout.numel,):
        raise ValueError(f"theta has shape {list(theta.shape)}, the layout needs [{layout.numel}]")
    if layout.numel == 0:
        raise ValueError("theta is empty: the parameters have no elements; there is nothing to move")
    for name, piece in zip(layout.names, layout.slices, strict=True):
        if not torch.isfinite(theta[piece]).all():
            raise ValueError(
                f"parameter {name!r} has NaN or infinite values; there is no landscape around them"
            )
    count = 0
    for index, batch in enumerate(objective.batches):
        count += 1
        if samples(batch) == 0:
            raise ValueError(f"batch {index} is empty; every batch needs at least one sample")
        try:
            weigh(objective, batch)
        except ValueError as error:
            raise ValueError(f"batch {index}: {error}") from error
        for path, leaf in pytree.tree_flatten_with_path(batch)[0]:
            if isinstance(leaf, Tensor) and leaf.device != theta.device:
                raise ValueError(
                    f"batch {index}{pytree.keystr(path)} is on {leaf.device}, but theta is on {theta.device}; "
                    "move the data or the model so that they are on one device"
                )
    if count == 0:
        raise ValueError("batches is empty; at least one batch of data is needed")
