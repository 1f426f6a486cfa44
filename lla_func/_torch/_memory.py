"""Memory: how much is free, how large a core's cache is, whether it ran out, and whether tensors share it."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor


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


def share_memory(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors lie in one piece of memory."""
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
