"""Processes started by torchrun: which one this is, and the group that they form."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous


class Team(NamedTuple):
    """The processes that work together.

    Attributes:
        rank: the number of this one, from 0.
        size: how many there are.
        local_rank: the number of this one on its machine, which is also that of its GPU.
        group: their ``torch.distributed`` group; None for a process alone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    group: Any = None


def launched() -> Team:
    """What torchrun says in the environment, or a ValueError where that contradicts itself; else one process alone."""
    try:
        rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        local = int(os.environ.get("LOCAL_RANK", 0))
    except ValueError as error:
        raise ValueError(
            f"RANK, WORLD_SIZE and LOCAL_RANK must be whole numbers, as torchrun sets them ({error})"
        ) from None
    if not 0 <= rank < size:
        raise ValueError(f"RANK={rank} is not below WORLD_SIZE={size}")
    return Team(rank, size, local)


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Team]:
    """Forms the group of the processes that torchrun started, by gloo on CPUs and NCCL on GPUs, and dissolves it.

    After a restart torchrun's store still holds where the processes of the attempt before could be reached. Each
    attempt therefore has names of its own in it; otherwise the first one back may wait for processes that are gone.
    """
    team = launched()
    if team.size == 1:
        yield team
        return
    store, _, _ = next(rendezvous("env://"))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=dist.PrefixStore(f"attempt {attempt} of {team.size} processes", store),
        rank=team.rank,
        world_size=team.size,
    )
    try:
        yield team._replace(group=dist.group.WORLD)
    finally:
        dist.destroy_process_group()
