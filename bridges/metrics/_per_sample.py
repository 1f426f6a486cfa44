"""The losses of single samples, for criteria that are known to average over samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bridges.metrics._reduction import FUNCTIONS, MODULES, OF_LABELS, described
from lla_func.objective import PerSample

PerSampleLoss = Callable[[Any, Any], PerSample]
"""Maps a prediction and targets to the losses of samples, and how much each counts."""


def per_sample_of(criterion: Any) -> PerSampleLoss | None:
    """The losses of single samples whose weighted mean (or sum) the criterion is; None where they are not known.

    A sample with several elements (pixels, tokens) has the mean of theirs, weighted by the class weights of those that
    are not ignored, and weighs as much as they do together.

    Example:
        >>> criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]))
        >>> p, y = torch.randn(4, 2), torch.tensor([0, 1, 1, 0])
        >>> losses, weights = per_sample_of(criterion)(p, y)
        >>> torch.allclose((losses * weights).sum() / weights.sum(), criterion(p, y).double())
        True
    """
    kind, options = described(criterion)
    if kind not in (*MODULES, *FUNCTIONS):
        return None
    if options.get("weight") is not None and kind not in OF_LABELS:
        return None  # it belongs to elements instead of classes, maybe to these samples alone
    reduction = options.get("reduction", "mean")

    def elements(prediction: Any, targets: Any) -> Tensor:
        if isinstance(criterion, nn.Module):
            return _unreduced(criterion, prediction, targets)
        return criterion(prediction, targets, reduction="none")

    def losses(prediction: Any, targets: Any) -> PerSample:
        found = elements(prediction, targets)
        found = found.reshape(len(found), -1) if found.ndim else found.reshape(1, 1)
        if reduction in ("sum", "batchmean"):
            return PerSample(found.double().sum(1))
        counting = _counting(kind, options, targets)
        if counting is None:
            return PerSample(found.double().mean(1), torch.full_like(found[:, 0], found.shape[1]).double())
        weights = counting.double().reshape(len(found), -1).sum(1)
        mean = found.double().sum(1) / torch.where(weights > 0, weights, 1.0)
        return PerSample(mean, weights)

    return losses


def _unreduced(criterion: nn.Module, prediction: Any, targets: Any) -> Tensor:
    """What a module gives for each element: its own forward pass with another reduction, the module as it was."""
    twin = object.__new__(type(criterion))
    vars(twin).update(vars(criterion))
    vars(twin)["reduction"] = "none"
    return type(criterion).forward(twin, prediction, targets)


def _counting(kind: Any, options: Mapping[str, Any], targets: Any) -> Tensor | None:
    """What each element of labels counts in the mean; None where all count alike."""
    if kind not in OF_LABELS or not isinstance(targets, Tensor) or targets.is_floating_point():
        return None
    counting = targets != options.get("ignore_index", -100)
    classes = options.get("weight")
    if classes is None:
        return counting
    return classes.to(targets.device, torch.float64)[targets.where(counting, 0)] * counting
