"""Forks: torch's threads do not survive one, and a child that used them would wait forever."""

from __future__ import annotations

import os

import torch

_HOME = os.getpid()


def refuse_lost_threads() -> None:
    """Names what would hang: work on several threads in a process forked from one that may have used them.

    Raises:
        RuntimeError: this process was forked, and torch computes on more than one thread in it.
    """
    if os.getpid() != _HOME and torch.get_num_threads() > 1:
        raise RuntimeError(
            f"this process was forked, and torch's {torch.get_num_threads()} threads may be lost in it, so that it "
            "would wait forever; call torch.set_num_threads(1) first in the worker, or start workers with "
            "multiprocessing.get_context('spawn')"
        )
