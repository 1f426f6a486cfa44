"""What is known about a criterion: whether it averages or sums, over what, and whether that can be cut into samples."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lla_func.errors import one_of
from lla_func.objective import Batch, samples

MODULES = (
    *(nn.L1Loss, nn.MSELoss, nn.SmoothL1Loss, nn.HuberLoss),
    *(nn.SoftMarginLoss, nn.PoissonNLLLoss, nn.KLDivLoss),
    *(nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss),
)
"""Criteria that average (or sum) over samples, with weights of their own if they have any."""

FUNCTIONS = (
    *(F.l1_loss, F.mse_loss, F.smooth_l1_loss, F.huber_loss),
    *(F.soft_margin_loss, F.poisson_nll_loss, F.kl_div),
    *(F.cross_entropy, F.nll_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits),
)
"""Functions that do so when they are called without further arguments."""

OF_LABELS = (nn.CrossEntropyLoss, nn.NLLLoss, F.cross_entropy, F.nll_loss)
"""Those of them whose targets may be labels, which have weights and may be ignored."""


def reduction_of(criterion: Any, told: str | None = None) -> str:
    """``"mean"`` or ``"sum"``: as told, else as the criterion's attribute or argument says, else ``"mean"``.

    Raises:
        TypeError: ``criterion`` cannot be called.
        ValueError: it does not reduce at all, or otherwise than it is told.

    Example:
        >>> reduction_of(nn.MSELoss(reduction="sum")), reduction_of(F.mse_loss), reduction_of(lambda p, y: p.sum())
        ('sum', 'mean', 'mean')
    """
    if not callable(criterion):
        raise TypeError(
            f"criterion is of type {type(criterion).__name__}, which cannot be called; pass a function of "
            "(prediction, targets) or a loss such as torch.nn.CrossEntropyLoss()"
        )
    if isinstance(criterion, type):
        name = criterion.__name__
        raise TypeError(f"criterion is the class {name}; pass an instance, {name}()")
    if told is not None:
        one_of("reduction", told, ("mean", "sum"))
    own = getattr(criterion, "reduction", None)
    if own is None:
        try:
            own = inspect.signature(criterion).parameters["reduction"].default
        except (KeyError, ValueError):  # no such argument, or a built-in function without a signature
            return told or "mean"
    if own == "none":
        raise ValueError(
            "criterion has reduction='none', which gives one loss for each sample; construct it with "
            "reduction='mean' or reduction='sum'"
        )
    own = "sum" if own == "sum" else "mean"  # "batchmean" of the Kullback-Leibler divergence is a mean, too
    if told not in (None, own):
        raise ValueError(f"reduction={told!r}, but the criterion has reduction={own!r}; leave it out")
    return own


def known(criterion: Any) -> bool:
    """Whether it is known what the criterion does over samples, so that no trial has to tell."""
    return described(criterion)[0] in (*MODULES, *FUNCTIONS)


def averages(criterion: Any) -> bool:
    """Whether the criterion is known to be the mean (or sum) of one loss for each sample, weighted or not.

    With :func:`weight_of` as the weight: a class-weighted mean is the weighted mean of those of its parts.
    """
    if isinstance(criterion, nn.Module):
        if type(criterion) not in MODULES:
            return False
        # Where a weight belongs to elements instead of classes, it may belong to these samples alone.
        own = getattr(criterion, "weight", None) is not None and type(criterion) not in OF_LABELS
        return criterion.reduction == "sum" or not own
    return criterion in FUNCTIONS


def weight_of(criterion: Any, batches: Iterable[Batch]) -> Callable[[Batch], Tensor | float] | None:
    """What the criterion's mean over a batch (inputs, targets) is a mean over, where it is known.

    Cross-entropy divides by the class weights of the targets that are not ignored, other criteria by the elements of
    the targets. None stands for the samples: for criteria that nobody knows, and where nothing else makes a difference
    on these batches. That is looked up only in data at hand.

    Example:
        >>> criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0]), ignore_index=2)
        >>> labels = torch.tensor([0, 1, 2])
        >>> float(weight_of(criterion, [])((None, labels)))
        6.0
        >>> weight_of(nn.CrossEntropyLoss(), [(None, labels)]) is None
        True
    """
    kind, options = described(criterion)
    if kind in OF_LABELS:
        classes, ignored = options.get("weight"), options.get("ignore_index", -100)
    elif kind in (*MODULES, *FUNCTIONS) and options.get("reduction") != "batchmean":
        classes, ignored = None, None
    else:
        return None

    def weight(batch: Batch) -> Tensor | float:
        targets = batch[1]
        if not isinstance(targets, Tensor):
            return samples(batch)
        if ignored is None:
            return targets.numel()
        if targets.is_floating_point():  # probabilities of classes: a mean over all but their axis
            return targets.numel() / targets.shape[1] if targets.ndim > 1 else 1
        counting = targets != ignored
        if classes is None:
            return counting.sum()
        return (classes.to(targets.device, torch.float64)[targets.where(counting, 0)] * counting).sum()

    if classes is None and isinstance(batches, list):
        targets = [targets for _, targets in batches if isinstance(targets, Tensor)]
        alike = len({one.shape[1:] for one in targets}) < 2
        if alike and (ignored is None or not any((one == ignored).any() for one in targets)):
            return None
    return weight


def described(criterion: Any) -> tuple[Any, Mapping[str, Any]]:
    """The class or function behind a criterion, and its options."""
    if isinstance(criterion, nn.Module):
        names = ("weight", "ignore_index", "reduction")
        return type(criterion), {name: getattr(criterion, name) for name in names if hasattr(criterion, name)}
    if isinstance(criterion, functools.partial):
        return criterion.func, criterion.keywords
    return criterion, {}
