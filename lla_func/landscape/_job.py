"""A job on disk: a run that is stored and can be resumed, by any number of processes, together or one after another.

A folder holds one job. ``manifest.json`` says which: fingerprints of theta, points and data, the settings, and the
plan, which all processes follow. ``chunks`` has a file for each finished piece of work (:mod:`._chunks`), and what
comes out of them is ``landscape.npz``. Processes need nothing in common but the folder: they may be started by
torchrun, by a batch system, by hand.

Nothing is taken on trust. The manifest has a checksum of itself, and every other file one of its numbers together with
the manifest's and the points: so a damaged file, or one of another job, counts as missing, is reported and made anew.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from filelock import FileLock

from lla_func import files
from lla_func.files import fingerprint
from lla_func.landscape import _manifest as manifests
from lla_func.landscape._landscape import Landscape
from lla_func.landscape._manifest import MANIFEST
from lla_func.landscape._store import load_landscapes, save_landscapes
from lla_func.landscape.engines import Plan

LANDSCAPE = "landscape.npz"


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
    folder: Path,
    identity: Mapping[str, Any],
    decide: Callable[[], tuple[Plan, list[dict[str, Any]]]],
) -> Job:
    """Opens the folder of a job, or makes it one. One that is finished is only read: no lock, no write.

    Args:
        folder: by :func:`directory`.
        identity: by :func:`identity`.
        decide: decides on a plan; called only by the first process that comes.

    Raises:
        ValueError: the folder holds another job, and what differs is named; or its manifest is damaged; or it cannot be
            written.
    """
    manifest = folder / MANIFEST
    if manifest.exists():
        job = _opened(folder, identity)
        if job.landscape is not None:
            return job
    files.writable_directory("store", folder)
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
            checksum = np.array(_seal(job.seal, landscape))
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
    if seal is not None and str(files.load_arrays(path).get("checksum")) != _seal(seal, landscape):
        raise ValueError(f"{str(path)!r} is damaged or of another job: its checksum is another")
    return landscape


def _seal(seal: str | None, landscape: Landscape) -> str:
    """The checksum of a landscape, of metrics and errors too where there are any."""
    more = [dict(named) for named in (landscape.metrics, landscape.errors) if named]
    return fingerprint((seal, landscape.coords, landscape.losses, *more))
