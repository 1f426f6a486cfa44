"""The meter: how many bytes a computation leaves behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from lla_func._torch._dispatch import DispatchMode


class Meter(DispatchMode):
    """A context that counts the bytes that are allocated in it and stay.

    It sees every tensor that torch computes, also those that only a graph of derivatives refers to, and looks at them
    through weak references. So it is exact, alike on all devices, and holds nothing itself.

    Example:
        >>> with Meter() as meter:
        ...     kept = torch.zeros(10)
        ...     dropped = torch.ones(1000).sum().item()
        >>> meter.kept()
        40
    """

    def __init__(self) -> None:
        super().__init__()
        self._storages: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = operation(*args, **kwargs)
        given = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(result):
            if storage._cdata not in given:  # otherwise a view, or written in place
                self._storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return result

    def kept(self) -> int:
        """The bytes that are still there."""
        return sum(size for reference, size in self._storages.values() if not reference.expired())


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, Tensor) and leaf.layout is torch.strided and not leaf._is_zerotensor():
            yield leaf.untyped_storage()
