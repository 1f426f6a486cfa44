"""What is known about a criterion: whether it averages or sums, and whether it does so over samples."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lla_func.errors import one_of
from lla_func.objective import Batch

__all__ = ["averages", "reduction_of"]

MODULES = (
    *(
        nn.L1Loss,
        nn.MSELoss,
        nn.SmoothL1Loss,
        nn.HuberLoss,
        nn.SoftMarginLoss,
        nn.PoissonNLLLoss,
        nn.KLDivLoss,
    ),
    *(nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss),
)
"""Criteria that average (or sum) over samples, unless weights or ignored targets change what they divide by."""

FUNCTIONS = (
    *(
        F.l1_loss,
        F.mse_loss,
        F.smooth_l1_loss,
        F.huber_loss,
        F.soft_margin_loss,
        F.poisson_nll_loss,
        F.kl_div,
    ),
    *(F.cross_entropy, F.nll_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits),
)
"""Functions that do so when they are called without further arguments."""


def reduction_of(criterion: Any, told: str | None = None) -> str:
    """``"mean"`` or ``"sum"``: as told, else as the criterion's attribute or argument says, else ``"mean"``.

    Raises:
        TypeError: ``criterion`` can't be called.
        ValueError: it doesn't reduce at all, or otherwise than it is told.

    Example:
        >>> reduction_of(nn.MSELoss(reduction="sum")), reduction_of(F.mse_loss), reduction_of(lambda p, y: p.sum())
        ('sum', 'mean', 'mean')
    """
    if not callable(criterion):
        raise TypeError(
            f"criterion is of type {type(criterion).__name__}, which can't be called; pass a function of "
            "(prediction, targets) or a loss such as torch.nn.CrossEntropyLoss()"
        )
    if isinstance(criterion, type):
        raise TypeError(
            f"criterion is the class {criterion.__name__}; pass an instance, {criterion.__name__}()"
        )
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


def averages(criterion: Any, batches: Iterable[Batch]) -> bool:
    """Whether the criterion is known to be the mean (or sum) of one loss for each sample, on these batches.

    Class weights and ignored targets make the mean one over something else than samples. Whether targets are ignored
    is looked up only in data at hand: streamed data counts as if some were.
    """
    if isinstance(criterion, nn.Module):
        if type(criterion) not in MODULES:
            return False
        if criterion.reduction == "sum":
            return True
        if getattr(criterion, "weight", None) is not None:
            return False
        ignored = getattr(criterion, "ignore_index", None)
    elif criterion in FUNCTIONS:
        ignored = -100 if criterion in (F.cross_entropy, F.nll_loss) else None
    else:
        return False
    if ignored is None:
        return True
    if not isinstance(batches, list):
        return False
    return not any(isinstance(labels, Tensor) and bool((labels == ignored).any()) for _, labels in batches)
