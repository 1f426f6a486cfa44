"""A job on disk: finished losses in chunks that survive whatever happens, shared by any number of processes.

A folder holds one job. ``manifest.json`` says which: fingerprints of theta, points and data, the settings, and the
plan, which all processes follow. ``chunks`` has a file for each finished piece of work, written whole or not at all.
Whoever works on a piece holds a lock on it, which the system releases when the process ends, however it ends; so a lost
process loses only the piece it was working on, and another one takes that over at once. Processes need nothing in
common but the folder: they may be started by torchrun, by a batch system, by hand, together or one after another.

Nothing is taken on trust. The manifest has a checksum of itself, and every other file one of its numbers together with
the manifest's and the points: so a damaged file, or one of another job, counts as missing, is said so and made anew.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
import secrets
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from lla_func import files
from lla_func.files import fingerprint
from lla_func.landscape import _manifest as manifests
from lla_func.landscape._landscape import Landscape
from lla_func.landscape._manifest import MANIFEST, identity
from lla_func.landscape._store import load_landscapes, save_landscapes
from lla_func.landscape.engines import Plan

__all__ = [
    "Job",
    "StoreWarning",
    "begin",
    "chunk_size",
    "directions_of",
    "directory",
    "finish",
    "identity",
    "load_landscape",
    "remembered",
]

Losses = Callable[[Tensor], Tensor]

LANDSCAPE = "landscape.npz"

CHUNKS = 64
"""Into how many pieces a job is cut, so that little is lost and a few processes share the work evenly."""

LARGEST = 256
POLL_SECONDS = 0.1


class StoreWarning(RuntimeWarning):
    """A file of a store is damaged or of another job; it is made anew, and the losses are right all the same."""


class Job(NamedTuple):
    """An open job.

    Attributes:
        folder: where it lies.
        plan: that all its processes follow.
        rates: what autotuning measured that chose the plan.
        seal: the manifest's checksum, a part of all others; None in a store of format 1, which has none.
        landscape: what came out, if it is finished.
    """

    folder: Path
    plan: Plan
    rates: list[dict[str, Any]]
    seal: str | None = None
    landscape: Landscape | None = None


def directory(name: str, path: str | os.PathLike[str]) -> Path:
    """The folder of a job, or of several: one that can be written, or in which all of them are finished.

    Args:
        name: the argument that the path came from, for the error message.
        path: the folder; it is made if need be.

    Raises:
        ValueError, TypeError: it cannot be used; the argument, the path and the reason are named.
    """
    try:
        return files.writable_directory(name, path)
    except ValueError:
        folder = Path(path).expanduser()
        begun = [*folder.glob(MANIFEST), *folder.glob(f"*/{MANIFEST}")]
        if begun and all((manifest.parent / LANDSCAPE).exists() for manifest in begun):
            return folder
        raise


def begin(
    path: str | os.PathLike[str],
    identity: Mapping[str, Any],
    decide: Callable[[], tuple[Plan, list[dict[str, Any]]]],
) -> Job:
    """Opens the folder of a job, or makes it one. One that is finished is only read: no lock, no write.

    Args:
        path: of the folder; it is made if need be.
        identity: by :func:`identity`.
        decide: decides on a plan; called only by the first process that comes.

    Raises:
        ValueError: the folder holds another job, and what differs is named; or its manifest is damaged; or it cannot be
            written.
    """
    folder = directory("store", path)
    manifest = folder / MANIFEST
    if manifest.exists():
        job = _opened(folder, identity)
        if job.landscape is not None:
            return job
    folder = files.writable_directory("store", path)
    with FileLock(folder / "manifest.lock"):
        for place in (folder, folder / "chunks"):
            files.sweep(place)
        if manifest.exists():
            return _opened(folder, identity)
        if any((folder / "chunks").glob("*.npz")):
            raise ValueError(
                f"store={str(folder)!r} has chunks but no manifest; choose another folder, or empty it"
            )
        plan, rates = decide()
        (folder / "chunks").mkdir(exist_ok=True)
        (folder / "locks").mkdir(exist_ok=True)
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        content = files.plain(
            {
                "format": manifests.FORMAT,
                "id": secrets.token_hex(8),  # so that no two stores have one checksum
                "job": identity,
                "plan": plan._asdict(),
                "rates": rates,
                "versions": versions,
            }
        )
        content["checksum"] = manifests.checksum(content)
        files.save_json(manifest, content)
        return Job(folder, plan, rates, content["checksum"])


def _opened(folder: Path, identity: Mapping[str, Any]) -> Job:
    """The job that a folder holds, if it is this one."""
    known = manifests.read(folder)
    manifests.check_same(folder, known, identity)
    job = Job(folder, Plan(**known["plan"]), known["rates"], known["checksum"])
    try:
        return job._replace(landscape=_landscape(folder, job.seal))
    except ValueError as error:
        warnings.warn(f"{error}; it is put together again", StoreWarning, stacklevel=4)
        return job


def directions_of(folder: Path, directions: Tensor) -> Tensor:
    """The directions that a job began with, which those computed anew repeat to rounding only.

    Eigenvectors depend in their last bits on threads and free memory; points of one job need the same ones.

    Args:
        folder: of the job.
        directions: computed now, [K, P]; those of the first call are kept.

    Raises:
        ValueError: they are others.
    """
    path = folder / "directions.npz"
    if not path.exists() or (kept := _kept_directions(path)) is None:
        with FileLock(folder / "directions.lock"):
            kept = _kept_directions(path) if path.exists() else None
            if kept is None:
                files.save_arrays(path, directions=directions)
                return directions
    kept = kept.to(directions)
    if kept.shape != directions.shape or not (_cosines(kept, directions) > 0.99).all():
        raise ValueError(
            f"store={str(folder)!r} was begun with other directions; choose another folder for this job"
        )
    return kept


def _kept_directions(path: Path) -> Tensor | None:
    """Those in a file, None if it is damaged: then the job goes on if the ones computed now have the same bits."""
    try:
        return torch.from_numpy(files.load_arrays(path)["directions"])
    except (ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{str(path)!r} is damaged ({error}); it is made anew", StoreWarning, stacklevel=4)
        return None


def _cosines(first: Tensor, second: Tensor) -> Tensor:
    return torch.nn.functional.cosine_similarity(first.double(), second.double(), dim=1)


def chunk_size(count: int, plan: Plan) -> int:
    """The points in a piece of work of ``count`` points: whole passes, a 64th of them, 256 at most.

    Example:
        >>> chunk_size(1600, Plan("hoisted")), chunk_size(1600, Plan("vmap", points_per_pass=16))
        (25, 32)
    """
    wanted = min(LARGEST, math.ceil(count / CHUNKS))
    return math.ceil(wanted / plan.points_per_pass) * plan.points_per_pass


def remembered(losses_at: Losses, job: Job, *, advance: Callable[[int], Any] = lambda points: None) -> Losses:
    """A function like ``losses_at`` that keeps what it computes in the folder of a job, and what is there it reads.

    Calls are numbered, so a job that asks for several sets of points, one depending on another, finds them all again.

    Args:
        losses_at: maps coordinates [N, C] to losses [N].
        job: by :func:`begin`.
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
                kept[i] = _chunk(paths[i], job.seal, number, pieces[i])
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


def _chunk(path: Path, seal: str | None, number: int, piece: Tensor) -> Tensor:
    """The losses in a chunk's file; raises a ValueError unless they are those of these points of this job."""
    arrays = files.load_arrays(path)
    losses = torch.from_numpy(arrays["losses"]) if "losses" in arrays else torch.empty(0)
    if losses.shape != piece.shape[:1] or losses.dtype != torch.float64:
        raise ValueError(
            f"{str(path)!r} has {losses.dtype} {list(losses.shape)} instead of {len(piece)} losses"
        )
    if seal is not None and str(arrays.get("checksum")) != fingerprint((seal, number, piece, losses)):
        raise ValueError(f"{str(path)!r} is damaged or of another job: its checksum is another")
    return losses


def finish(job: Job, landscape: Landscape) -> None:
    """Writes the complete landscape, once."""
    folder = job.folder
    with FileLock(folder / "manifest.lock"):
        files.sweep(folder / "chunks")
        try:
            there = _landscape(folder, job.seal) is not None
        except ValueError:
            there = False
        if not there:
            checksum = np.array(fingerprint((job.seal, landscape.coords, landscape.losses)))
            title = landscape.chart.get("kind", "landscape")
            save_landscapes(folder / LANDSCAPE, [landscape], [title], checksum=checksum)


def load_landscape(folder: str | Path) -> Landscape:
    """The landscape of a finished job; neither the model nor the data are needed.

    Raises:
        ValueError: there is no job in the folder, or it is not finished, or a file is damaged; it is named.
    """
    folder = Path(folder)
    if not (folder / MANIFEST).exists():
        raise ValueError(f"{str(folder)!r} is not the store of a job: it has no {MANIFEST}")
    seal = manifests.read(folder)["checksum"]
    try:
        landscape = _landscape(folder, seal)
    except ValueError as error:
        raise ValueError(f"{error}. Repeat the call that began the job: it is put together again") from error
    if landscape is None:
        done = 0
        for path in (folder / "chunks").glob("*.npz"):
            with contextlib.suppress(ValueError, KeyError):
                done += len(files.load_arrays(path)["losses"])
        raise ValueError(
            f"the job in {str(folder)!r} is not finished, {done} losses are there; repeat the call that began it"
        )
    return landscape


def _landscape(folder: Path, seal: str | None) -> Landscape | None:
    """The landscape in a folder, None if there is none yet; raises a ValueError unless it is this job's."""
    path = folder / LANDSCAPE
    if not path.exists():
        return None
    landscapes, _ = load_landscapes(path)
    landscape = landscapes[0] if len(landscapes) == 1 else None
    if landscape is None or len(landscape.coords) != len(landscape.losses):
        raise ValueError(f"{str(path)!r} is damaged: it does not hold the losses of one landscape")
    expected = fingerprint((seal, landscape.coords, landscape.losses))
    if seal is not None and str(files.load_arrays(path).get("checksum")) != expected:
        raise ValueError(f"{str(path)!r} is damaged or of another job: its checksum is another")
    return landscape
