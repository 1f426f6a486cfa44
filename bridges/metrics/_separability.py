"""Trials: what evaluating a loss on parts of a batch tells about how it treats samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from lla_func._torch import DispatchMode, raise_if_interrupted, tensors
from lla_func.objective import Batch, Objective, beginning, samples, tiles, value, weighed

NEITHER = (
    "the criterion is neither the mean nor the sum of the losses of samples, so the loss over several batches depends "
    "on how the data are cut. Pass weight=... if it is a mean over something else (class weights, tokens), or all data "
    "in one batch"
)

TRIAL = 5
"""The number of samples of a trial: three parts, the last shorter than the others."""


def confirmed(objective: Objective) -> bool:
    """Whether a trial agrees that a batch may be cut: the loss of some samples is that of their parts, combined.

    This finds models that mix samples, such as a transformer that takes sequences first, samples second, and those that
    branch on values, which may do otherwise with other parts.
    """
    whole = beginning(objective._replace(separable=True), TRIAL)
    if (count := samples(whole)) == 1:
        return True
    parts = list(tiles(whole, count // 3 + 1 if count > 2 else 1))
    counting = list(weighed(objective, parts))
    weights = torch.tensor([weight for weight, _ in counting], dtype=torch.float64)
    loss = partial(value, objective.loss, objective.theta)
    try:
        expected, branches = observe(loss, whole)
        losses = [loss(part).double() for _, part in counting]
    except (RuntimeError, ValueError, IndexError) as error:
        raise_if_interrupted(error)
        return False  # a model for one size of batch: it cannot be cut
    if objective.reduction == "mean":
        weights /= weights.sum()
    shares = torch.stack(losses) * weights.to(expected.device)
    # Relative to the losses themselves, which may be as small as they like.
    bound = torch.finfo(objective.theta.dtype).eps ** 0.5 * shares.abs().sum()
    return not branches and bool((shares.sum() - expected.double()).abs() <= bound)


def reduction_by_trial(
    predict: Callable[[Batch], Any],
    judge: Callable[[Any, Batch], Tensor],
    batch: Batch,
    weight: Callable[[Batch], float],
    *,
    said: str,
) -> str | None:
    """``"mean"`` or ``"sum"``: how the losses of parts of a batch make up that of the whole; None if in neither way.

    It is ``said`` where the trial cannot tell, for a loss of zero or a batch that cannot be cut.
    """
    with torch.enable_grad():  # for losses that differentiate on their way
        prediction = predict(batch)
        parts = list(tiles((prediction, batch), samples(batch) // 3 + 1))
        if len(parts) < 2:
            return said
        try:
            found = [torch.as_tensor(judge(*part)).detach() for part in ((prediction, batch), *parts)]
        except (RuntimeError, ValueError, IndexError) as error:
            raise_if_interrupted(error)
            return None  # a criterion for one size of batch
    whole, *losses = map(float, found)
    if not math.isfinite(whole):
        return said
    weights = [weight(part) for _, part in parts]
    losses = [loss if share else 0.0 for loss, share in zip(losses, weights, strict=True)]
    mean = sum(loss * share for loss, share in zip(losses, weights, strict=True)) / (sum(weights) or 1)
    precision = torch.finfo(found[0].dtype).eps if found[0].is_floating_point() else 0.0
    scale = precision**0.5 * max(map(abs, (whole, *losses)))
    fitting = [name for name, value in (("mean", mean), ("sum", sum(losses))) if abs(value - whole) <= scale]
    return said if said in fitting else next(iter(fitting), None)


class Observed(NamedTuple):
    """A loss, and whether it depends on data in ways that show in no operation on tensors."""

    loss: Tensor
    branches: bool


def observe(loss: Callable[[Batch], Tensor], batch: Batch) -> Observed:
    """Calls ``loss(batch)`` and watches for numbers that it reads out of tensors that depend on the batch.

    Example:
        >>> observe(lambda x: x.sum() if x.mean() > 0 else -x.sum(), torch.ones(2))
        Observed(loss=tensor(2.), branches=True)
        >>> observe(lambda x: x.sum() * torch.ones(1).item(), torch.ones(2))
        Observed(loss=tensor(2.), branches=False)
    """
    with _Watch(batch) as watch:
        value = loss(batch)
    return Observed(value, watch.branches)


class _Watch(DispatchMode):
    """Follows what is computed from some tensors, and notes when a number of it is read out."""

    def __init__(self, data: Batch) -> None:
        super().__init__()
        self.branches = False
        self._from_data = WeakTensorKeyDictionary()
        self._note(data)

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        if any(tensor in self._from_data for tensor in tensors((args, kwargs))):
            self.branches |= torch.Tag.data_dependent_output in operation.tags
            self._note(result)
        return result

    def _note(self, values: Any) -> None:
        for tensor in tensors(values):
            self._from_data[tensor] = True
