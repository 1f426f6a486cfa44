"""Work: what one pass forward takes in operations and memory, counted without a clock, and the tile that follows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lla_func._torch import DispatchMode, differentiable, tensors
from lla_func.objective import Objective, beginning, samples

aten = torch.ops.aten

ELEMENT = 50
"""Operations of a matrix product that take as long as one element of another operation, on a CPU."""
LARGEST = {"cpu": 2**22}
"""Bytes of the largest tensor of a tile, by device (others take 2**28, which was not measured).

On two CPUs products were fastest with 2 to 8 MB (LeNet in tiles of 128 to 410 images: a third of the time of 2,048 at
once), where tensors stay in the cache of the third level. Above 32 MB the allocator of Linux maps memory afresh for
each tensor: 40 % of a product on 2,048 images at once are page faults.
"""
PARAMETERS = 4
"""How many elements a tile computes at least for each parameter: every tile reads and writes all parameters.

ResNet-18 on 16 images of 64 x 64, two elements for each parameter, takes 1.5 times as long in two tiles, 2 in four.
"""


class Work(NamedTuple):
    """What the loss takes forward.

    Attributes:
        operations: of all data, in those of a matrix product.
        largest: bytes of the largest tensor, a sample; 0 where batches cannot be cut.
        elements: of all tensors, a sample.
        convolves: whether there is a convolution.
    """

    operations: float
    largest: float
    elements: float
    convolves: bool


def measure(objective: Objective) -> Work:
    """Counts on a few samples, where the batches may be cut, else on the first batch.

    What does not grow with the samples, such as a function of the parameters alone, is left out of the former.
    """
    whole = next(iter(objective.batches))
    few = beginning(objective, 16)
    count = samples(few)
    batches = len(objective.batches) if isinstance(objective.batches, Sequence) else 1
    seen = _counted(objective, few)
    if objective.separable and count > 1:
        half = beginning(objective, count // 2)
        less = _counted(objective, half)
        if len(less.sizes) == len(seen.sizes) and samples(half) < count:
            apart = count - samples(half)
            sizes = [
                max(0.0, (more - fewer) / apart) for more, fewer in zip(seen.sizes, less.sizes, strict=True)
            ]
            elements = sum(sizes) / objective.theta.element_size()
            products = max(0.0, (seen.products - less.products) / apart)
            each = products + ELEMENT * elements
            return Work(each * samples(whole) * batches, max(sizes, default=0.0), elements, seen.convolves)
    elements = sum(seen.sizes) / objective.theta.element_size()
    operations = (seen.products + ELEMENT * elements) * batches
    if objective.separable:
        operations *= samples(whole) / count
    return Work(operations, 0.0, elements / count, seen.convolves)


def suited(objective: Objective, work: Work) -> int:
    """The most samples in a piece of data: all, or as many as leave the largest tensor in a cache; even pieces.

    Example:
        >>> from lla_func import from_loss
        >>> data = [torch.zeros(3000, 1)]
        >>> made = from_loss(lambda t, x: (x * t).square().mean(), torch.ones(2), data, separable=True)
        >>> suited(made, Work(0, 2**12, 2**10, False))
        1000
    """
    count = max(1, samples(next(iter(objective.batches))))
    if not work.largest:
        return count
    most = LARGEST.get(objective.theta.device.type, 2**28) / work.largest
    most = max(1, math.floor(most), math.ceil(PARAMETERS * len(objective.theta) / work.elements))
    return math.ceil(count / math.ceil(count / most))


def _counted(objective: Objective, batch: Any) -> _Counter:
    with differentiable(), _Counter() as counter:
        objective.loss(objective.theta.detach(), batch)
    return counter


class _Counter(DispatchMode):
    """Counts operations of matrix products, and the bytes of the result of each operation that is no view."""

    def __init__(self) -> None:
        super().__init__()
        self.products = 0.0
        self.sizes: list[int] = []
        self.convolves = False

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        if operation in _LENGTHS:
            self.products += 2 * result.numel() * args[_LENGTHS[operation]].shape[-1]
        elif operation is aten.convolution.default:
            self.products += 2 * result.numel() * args[1][0].numel()
            self.convolves = True
        given = {_storage(x) for x in tensors((args, kwargs or {}))}
        for x in tensors(result):
            if (storage := _storage(x)) is not None and storage not in given:
                self.sizes.append(x.numel() * x.element_size())
        return result


def _storage(x: Tensor) -> int | None:
    """What tells whose memory a tensor has; None where it has none of its own."""
    return x.untyped_storage()._cdata if x.layout is torch.strided and not x._is_zerotensor() else None


_LENGTHS = {
    aten.mm.default: 0,
    aten.bmm.default: 0,
    aten.mv.default: 0,
    aten.addmm.default: 1,
    aten.baddbmm.default: 1,
    aten.addmv.default: 1,
}
"""Matrix products, and which argument has the inner axis last."""
