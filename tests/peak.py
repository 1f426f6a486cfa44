"""How much memory a computation has in use at its worst."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from lla_func._torch._dispatch import DispatchMode

__all__ = ["Peak"]


class Peak(DispatchMode):
    """The most bytes, ``most``, that are there at a time in tensors which come into being in this context.

    Tensors of fewer than ``least`` bytes are left out, which makes looking at the others fast.
    """

    def __init__(self, least: int = 0) -> None:
        super().__init__()
        self.least, self.most = least, 0
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = operation(*args, **(kwargs or {}))
        given = {
            x.untyped_storage()._cdata for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)
        }
        for leaf in pytree.tree_leaves(result):
            if not isinstance(leaf, Tensor) or (storage := leaf.untyped_storage())._cdata in given:
                continue
            if storage.nbytes() >= self.least:
                alive = {k: v for k, v in self._storages.items() if not v[0].expired()}
                self._storages = {**alive, storage._cdata: (StorageWeakRef(storage), storage.nbytes())}
                self.most = max(self.most, sum(size for _, size in self._storages.values()))
        return result
