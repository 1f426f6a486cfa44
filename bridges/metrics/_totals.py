"""A loss over batches as a number, for whoever calls a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch

from lla_func.objective import Batch, Weight, combined, weighed

__all__ = ["Combination", "total"]


def _number(loss: Callable[[Batch], Any], batch: Batch) -> float:
    """The loss on a batch as a number, with a graph, which takes memory, only where the loss can't do without."""
    try:
        with torch.no_grad():
            return float(loss(batch))
    except RuntimeError as error:
        if "not require grad" not in str(error):
            raise
    with torch.enable_grad():  # it differentiates on its way
        return float(loss(batch).detach())


class Combination(NamedTuple):
    """How the losses of batches combine."""

    reduction: str
    weight: Weight | None


def total(how: Combination, loss_of: Callable[[Batch], Any], batches: Iterable[Batch]) -> float:
    """The loss over all batches that count, as a number."""
    losses, weights = [], []
    for weight, batch in weighed(how, batches):
        losses.append(torch.tensor(_number(loss_of, batch), dtype=torch.float64))
        weights.append(weight)
    return float(combined(how, losses, weights))
