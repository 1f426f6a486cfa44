"""Whether a loss reads its data out, by which it may choose what it does: seen on one pass, as it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.weak import WeakTensorKeyDictionary

from lla_func._torch import DispatchMode
from lla_func.objective import Batch

__all__ = ["Observed", "observe"]


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
        if any(isinstance(x, Tensor) and x in self._from_data for x in pytree.tree_leaves((args, kwargs))):
            self.branches |= torch.Tag.data_dependent_output in operation.tags
            self._note(result)
        return result

    def _note(self, values: Any) -> None:
        for value in pytree.tree_leaves(values):
            if isinstance(value, Tensor):
                self._from_data[value] = True
