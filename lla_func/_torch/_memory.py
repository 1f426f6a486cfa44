"""Memory: how much is free on a device, how much a computation leaves behind, and how large a core's cache is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree

from lla_func._torch._dispatch import DispatchMode

__all__ = ["Meter", "cache_size", "free_memory", "out_of_memory"]


class Meter(DispatchMode):
    """A context that counts the bytes that come into being in it and stay.

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


def free_memory(device: torch.device | str = "cpu") -> int:
    """Bytes that can still be allocated on a device; a cautious 2 GiB where the system doesn't tell."""
    device = torch.device(device)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 2 << 30


def cache_size() -> int:
    """Bytes of the second-level cache of a core; a common 512 kB where the system doesn't tell."""
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if (index / "level").read_text().strip() == "2":
                size = (index / "size").read_text().strip()
                return int(size[:-1]) * {"K": 2**10, "M": 2**20}[size[-1]]
        except (OSError, KeyError, ValueError):
            continue
    return 2**19


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that an allocation failed, on an accelerator or on the CPU."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or "not enough memory" in str(error)
