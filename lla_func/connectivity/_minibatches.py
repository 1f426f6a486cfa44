"""Mini-batches of an objective's data: the batches themselves, or pieces of them, shuffled by a generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from lla_func._torch import tensors
from lla_func.objective import Batch, Objective, samples, weigh

USUAL = 128
"""Samples of a step, where a metric holds all its data in one batch; as in Garipov et al. (2018), section 5."""


class Count(NamedTuple):
    """How many steps an epoch has, and the weight of all its samples over that."""

    steps: int
    mean_weight: float


def size_of(objective: Objective, batch_size: int | None) -> int | None:
    """The samples of a step; None where batches are taken as they come."""
    whole = isinstance(objective.batches, Sequence) and len(objective.batches) == 1
    return USUAL if batch_size is None and whole else batch_size


def count(objective: Objective, size: int | None) -> Count:
    """What an epoch consists of; one pass over the data.

    Raises:
        ValueError: no batch has a weight.
    """
    steps, total = 0, 0.0
    for batch in objective.batches:
        steps += -(-samples(batch) // size) if size is not None and _even(batch) else 1
        total += weigh(objective, batch)
    if objective.reduction == "sum":
        total = float(steps)  # each piece counts as it is
    if total == 0:
        raise ValueError(
            "all batches have weight zero, so there is no loss to lower; are all targets ignored?"
        )
    return Count(steps, total / steps)


def minibatches(
    objective: Objective, size: int | None, generator: torch.Generator, *, skip: int = 0
) -> Iterator[Batch]:
    """The mini-batches of an epoch, without the first ``skip`` ones, which are not made.

    Args:
        objective: with the data.
        size: samples of a mini-batch, None for batches as they come. Batches whose tensors differ in length stay whole.
        generator: shuffles the samples of what is cut, and batches that are kept.
        skip: how many were used before.
    """
    batches = objective.batches
    if isinstance(batches, Sequence):
        order = torch.randperm(len(batches), generator=generator).tolist()
        batches = [batches[i] for i in order]
    for batch in batches:
        if size is None or not _even(batch):
            parts: list[Tensor | None] = [None]
        else:
            parts = list(torch.randperm(samples(batch), generator=generator).split(size))
        for part in parts[skip:]:
            yield batch if part is None else _chosen(batch, part)
        skip = max(0, skip - len(parts))


def _even(batch: Batch) -> bool:
    """Whether all tensors of a batch count the same samples, so that it can be cut."""
    count = samples(batch)
    return all(tensor.ndim and len(tensor) == count for tensor in tensors(batch))


def _chosen(batch: Batch, part: Tensor) -> Batch:
    """The samples of a batch with these indices."""
    return pytree.tree_map(lambda x: x[part.to(x.device)] if isinstance(x, Tensor) else x, batch)
