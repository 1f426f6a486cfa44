"""A job on disk: finished losses in chunks that survive whatever happens, shared by any number of processes.

A folder holds one job. ``manifest.json`` says which: fingerprints of theta, points and data, the settings, and the
plan, which all processes follow. ``chunks`` has a file for each finished piece of work, written whole or not at all.
Whoever works on a piece holds a lock on it, which the system releases when the process ends, however it ends; so a lost
process loses only the piece in work, and another one takes that over at once. Processes need nothing in common but the
folder: they may be started by torchrun, by a batch system, by hand, together or one after another.
"""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from lla_func import store
from lla_func.chart import Chart
from lla_func.engines.check import tolerance
from lla_func.fingerprint import fingerprint
from lla_func.landscape import Landscape
from lla_func.objective import Objective, risk, weigh
from lla_func.plan import Plan

__all__ = [
    "Job",
    "begin",
    "chunk_size",
    "directions_of",
    "finish",
    "identity",
    "load_landscape",
    "remembered",
]

Losses = Callable[[Tensor], Tensor]

FORMAT = 1
CHUNKS = 64
"""Into how many pieces a job is cut, so that little is lost and a few processes share the work evenly."""

LARGEST = 256
POLL_SECONDS = 0.1


def identity(
    objective: Objective, chart: Chart, coords: Tensor, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What makes a job this one and no other, in JSON's types.

    Data that are streamed are known by their first batch only. A changed criterion or model shows in the loss at
    the point under study.
    """
    batches = objective.batches
    streamed = not isinstance(batches, Sequence)
    known = [next(iter(batches))] if streamed else list(batches)
    data = fingerprint(known[0] if streamed else known)
    weights = None if objective.weight is None else [weigh(objective, batch) for batch in known]
    return {
        "theta": fingerprint(objective.theta),
        "directions": fingerprint((chart.origin, chart.basis)),
        "points": fingerprint((coords, chart.coefficients(coords))),
        "data": f"{data}, first batch" if streamed else data,
        "weights": weights,
        "loss": float(risk(objective)),
        "notes": dict(objective.notes),
        "settings": dict(settings),
    }


class Job(NamedTuple):
    """An open job.

    Attributes:
        folder: where it lies.
        plan: that all its processes follow.
        rates: what the trial measured that chose the plan.
        finished: whether its landscape is there already.
    """

    folder: Path
    plan: Plan
    rates: list[dict[str, Any]]
    finished: bool


def begin(
    path: str | os.PathLike[str],
    identity: Mapping[str, Any],
    settle: Callable[[], tuple[Plan, list[dict[str, Any]]]],
) -> Job:
    """Opens the folder of a job, or makes it one.

    Args:
        path: of the folder; it is made if need be.
        identity: by :func:`identity`.
        settle: decides on a plan; called only by the first process that comes.

    Raises:
        ValueError: the folder holds another job, and what differs is named; or it can't be written.
    """
    folder = store.writable_directory("store", path)
    manifest = folder / "manifest.json"
    with FileLock(folder / "manifest.lock"):
        if manifest.exists():
            known = json.loads(manifest.read_text())
            _check_same(folder, known, identity)
            finished = (folder / "landscape.npz").exists()
            return Job(folder, Plan(**known["plan"]), known["rates"], finished)
        if any((folder / "chunks").glob("*.npz")):
            raise ValueError(
                f"store={str(folder)!r} has chunks but no manifest; choose another folder, or empty it"
            )
        plan, rates = settle()
        (folder / "chunks").mkdir(exist_ok=True)
        (folder / "locks").mkdir(exist_ok=True)
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        content = {
            "format": FORMAT,
            "job": identity,
            "plan": plan._asdict(),
            "rates": rates,
            "versions": versions,
        }
        store.save_json(manifest, content)
        return Job(folder, plan, rates, finished=False)


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
    with FileLock(folder / "directions.lock"):
        if not path.exists():
            store.save_arrays(path, directions=directions)
            return directions
    kept = torch.from_numpy(store.load_arrays(path)["directions"]).to(directions)
    if kept.shape != directions.shape or not (_cosines(kept, directions) > 0.99).all():
        raise ValueError(
            f"store={str(folder)!r} was begun with other directions; choose another folder for this job"
        )
    return kept


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
        finished: set[int] = set()

        def look() -> list[int]:
            """Finds out what is finished, and returns what isn't."""
            new = [i for i in range(len(pieces)) if i not in finished and paths[i].exists()]
            finished.update(new)
            advance(sum(len(pieces[i]) for i in new))
            return [i for i in range(len(pieces)) if i not in finished]

        while pending := look():
            idle = True
            for i in pending:
                if paths[i].exists():
                    continue
                try:
                    with FileLock(folder / "locks" / f"{paths[i].stem}.lock", timeout=0):
                        if not paths[i].exists():
                            store.save_arrays(paths[i], losses=losses_at(pieces[i]))
                            idle = False
                            look()
                except Timeout:  # another process is at it
                    continue
            if idle:
                time.sleep(POLL_SECONDS)
        parts = [torch.from_numpy(store.load_arrays(path)["losses"]) for path in paths]
        for part, piece, path in zip(parts, pieces, paths, strict=True):
            if len(part) != len(piece):
                raise ValueError(
                    f"{str(path)!r} has {len(part)} losses instead of {len(piece)}; delete it and go on"
                )
        return torch.cat(parts)

    return losses


def finish(job: Job, landscape: Landscape) -> None:
    """Writes the complete landscape, once."""
    folder = job.folder
    with FileLock(folder / "manifest.lock"):
        if not (folder / "landscape.npz").exists():
            store.save_landscapes(
                folder / "landscape.npz", [landscape], [landscape.chart.get("kind", "landscape")]
            )


def load_landscape(folder: str | Path) -> Landscape:
    """The landscape of a finished job; neither the model nor the data are needed.

    Raises:
        ValueError: there is no job in the folder, or it isn't finished.
    """
    folder = Path(folder)
    if not (folder / "manifest.json").exists():
        raise ValueError(f"{str(folder)!r} is not the store of a job: it has no manifest.json")
    if not (folder / "landscape.npz").exists():
        done = sum(len(store.load_arrays(path)["losses"]) for path in (folder / "chunks").glob("*.npz"))
        raise ValueError(
            f"the job in {str(folder)!r} isn't finished, {done} losses are there; repeat the call that began it"
        )
    (landscape,), _ = store.load_landscapes(folder / "landscape.npz")
    return landscape


def _check_same(folder: Path, known: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    """Raises if the folder holds another job."""
    if known.get("format") != FORMAT:
        raise ValueError(
            f"store={str(folder)!r} was written by another version of lla_func; choose another folder"
        )
    before, now = known["job"], json.loads(json.dumps(job))
    differ = [key for key in now if key not in ("loss", "settings", "notes") and before.get(key) != now[key]]
    for group in ("settings", "notes"):
        keys = {**before[group], **now[group]}
        differ += [
            f"{key} ({before[group].get(key)!r} there, {now[group].get(key)!r} now)"
            for key in keys
            if before[group].get(key) != now[group].get(key)
        ]
    bound = tolerance(torch.float32)  # the loss at the center may differ by rounding, from machine to machine
    there, here = float(before["loss"]), float(now["loss"])
    same = math.isclose(there, here, rel_tol=bound) or (math.isnan(there) and math.isnan(here))
    if not same and not differ:
        differ.append(f"the loss at the center ({before['loss']!r} there, {now['loss']!r} now)")
    if differ:
        raise ValueError(
            f"store={str(folder)!r} holds another job; what differs: {', '.join(differ)}. Choose another folder for "
            "this one, or repeat the call that began the other"
        )
