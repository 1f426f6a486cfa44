"""Accuracy, and the accuracy and loss of each class: metrics of a classifier, with errors over data."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lla_func.objective import PerSample

IGNORED = -100
"""Labels that do not count, as for ``torch.nn.CrossEntropyLoss``."""


def accuracy(predictions: Tensor, targets: Tensor) -> PerSample:
    """Whether each sample is classified rightly.

    Args:
        predictions: logits [B, C], or [B, C, ...] for pixels or tokens; or [B] or [B, 1] of two classes, positive for
            the second.
        targets: labels [B] or [B, ...], of which -100 does not count; or probabilities of the classes, of the shape of
            the predictions.

    Returns:
        the share of a sample's elements that are right, [B], and how many count.

    Example:
        >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0])).values
        tensor([1., 0.], dtype=torch.float64)
    """
    labels, counting = _labels(predictions, targets)
    right = (_classes(predictions) == labels) & counting
    share = _flat(right.double()).sum(1)
    weights = _flat(counting.double()).sum(1)
    return PerSample(share / torch.where(weights > 0, weights, 1.0), weights)


def class_accuracy(predictions: Tensor, targets: Tensor) -> PerSample:
    """The accuracy among the samples of each class, its recall.

    Args:
        predictions: logits [B, C].
        targets: labels [B], or probabilities [B, C].

    Returns:
        [B, C], where a sample counts for its own class. A class without samples has NaN.
    """
    labels, counting = _labels(predictions, targets)
    right = (_classes(predictions) == labels).double()
    return PerSample(right[:, None].expand_as(predictions), _members(predictions, labels, counting))


def class_losses(predictions: Tensor, targets: Tensor) -> PerSample:
    """The cross-entropy among the samples of each class.

    Args:
        predictions: logits [B, C].
        targets: labels [B], or probabilities [B, C].

    Returns:
        [B, C], where a sample counts for its own class. A class without samples has NaN.

    Example:
        >>> losses, members = class_losses(torch.zeros(3, 2), torch.tensor([0, 1, 1]))
        >>> (losses * members).sum(0) / members.sum(0)
        tensor([0.6931, 0.6931], dtype=torch.float64)
    """
    labels, counting = _labels(predictions, targets)
    losses = F.cross_entropy(predictions, targets, reduction="none")
    return PerSample(losses[:, None].expand_as(predictions), _members(predictions, labels, counting))


def _classes(predictions: Tensor) -> Tensor:
    """The class of each element that a model decides for."""
    if predictions.ndim == 1 or predictions.shape[1] == 1:
        return (predictions.reshape(len(predictions)) > 0).long()
    return predictions.argmax(1)


def _labels(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The class of each element that it has, and whether it counts."""
    if targets.shape == predictions.shape and targets.ndim > 1 and targets.shape[1] > 1:
        labels = targets.argmax(1)
    elif targets.is_floating_point():
        labels = (targets.reshape(len(targets)) > 0.5).long()
    else:
        labels = targets.reshape(len(targets)) if predictions.ndim < 3 else targets
    return labels, labels != IGNORED


def _members(predictions: Tensor, labels: Tensor, counting: Tensor) -> Tensor:
    """Which class each sample counts for, [B, C]."""
    if predictions.ndim != 2 or labels.ndim != 1:
        raise ValueError(
            f"predictions have shape {list(predictions.shape)}; metrics of classes need logits [B, C] and labels [B]"
        )
    classes = torch.arange(predictions.shape[1], device=predictions.device)
    return ((labels[:, None] == classes) & counting[:, None]).double()


def _flat(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1)
