"""Finished losses kept in chunks that survive whatever happens, and shared with whoever works on the same job.

A chunk is a file, written whole or not at all. Whoever works on a piece holds a lock on it, which the system releases
when the process ends, however it ends; so a lost process loses only the piece that it was working on, and another one
takes that over at once.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from lla_func import files
from lla_func.files import fingerprint
from lla_func.landscape._job import Job, StoreWarning
from lla_func.landscape.engines import Plan

Losses = Callable[[Tensor], Tensor]

CHUNKS = 64
"""Into how many pieces a job is cut, so that little is lost and a few processes share the work evenly."""

LARGEST = 256
POLL_SECONDS = 0.1


def chunk_size(count: int, plan: Plan) -> int:
    """The points in a piece of work of ``count`` points: whole passes, a 64th of them, 256 at most.

    Example:
        >>> chunk_size(1600, Plan("hoisted")), chunk_size(1600, Plan("vmap", points_per_pass=16))
        (25, 32)
    """
    wanted = min(LARGEST, math.ceil(count / CHUNKS))
    return math.ceil(wanted / plan.points_per_pass) * plan.points_per_pass


def remembered(
    losses_at: Losses,
    job: Job,
    *,
    row: tuple[int, ...] = (),
    advance: Callable[[int], Any] = lambda points: None,
) -> Losses:
    """A function like ``losses_at`` that keeps what it computes in the folder of a job, and what is there it reads.

    Calls are numbered, so a job that asks for several sets of points, one depending on another, finds them all again.

    Args:
        losses_at: maps coordinates [N, C] to losses [N].
        job: by :func:`begin`.
        row: the shape of what it gives at a point, ``()`` for losses alone.
        advance: called with the points that became finished since the last time, by whichever process.
    """
    calls, folder = 0, job.folder

    def losses(coords: Tensor) -> Tensor:
        nonlocal calls
        number, calls = calls, calls + 1
        size = chunk_size(len(coords), job.plan)
        pieces = list(coords.split(size))
        paths = [folder / "chunks" / f"{number:03d}-{i:05d}.npz" for i in range(len(pieces))]
        kept: dict[int, Tensor] = {}
        damaged: set[int] = set()

        def found(i: int) -> bool:
            """Whether a piece is on disk and as it was written."""
            if not paths[i].exists():
                return False
            try:
                kept[i] = _chunk(paths[i], job.seal, number, pieces[i], row)
            except (ValueError, OSError) as error:
                if i not in damaged:
                    damaged.add(i)
                    warnings.warn(f"{error}; its points are computed again", StoreWarning, stacklevel=4)
                return False
            return True

        def look() -> list[int]:
            """Finds out what is finished, and returns what is not."""
            advance(sum(len(pieces[i]) for i in range(len(pieces)) if i not in kept and found(i)))
            return [i for i in range(len(pieces)) if i not in kept]

        while pending := look():
            idle = True
            for i in pending:
                if i in kept:
                    continue
                try:
                    with FileLock(folder / "locks" / f"{paths[i].stem}.lock", timeout=0):
                        if not found(i):
                            kept[i] = losses_at(pieces[i])
                            checksum = fingerprint((job.seal, number, pieces[i], kept[i]))
                            files.save_arrays(paths[i], losses=kept[i], checksum=np.array(checksum))
                        advance(len(pieces[i]))
                        idle = False
                        look()
                except Timeout:  # another process is at it
                    continue
            if idle:
                time.sleep(POLL_SECONDS)
        return torch.cat([kept[i] for i in range(len(pieces))])

    return losses


def _chunk(path: Path, seal: str | None, number: int, piece: Tensor, row: tuple[int, ...] = ()) -> Tensor:
    """The losses in a chunk's file; raises a ValueError unless they are those of these points of this job."""
    arrays = files.load_arrays(path)
    losses = torch.from_numpy(arrays["losses"]) if "losses" in arrays else torch.empty(0)
    if losses.shape != (len(piece), *row) or losses.dtype != torch.float64:
        raise ValueError(
            f"{str(path)!r} has {losses.dtype} {list(losses.shape)} instead of {len(piece)} losses"
        )
    if seal is not None and str(arrays.get("checksum")) != fingerprint((seal, number, piece, losses)):
        raise ValueError(f"{str(path)!r} is damaged or of another job: its checksum is another")
    return losses
