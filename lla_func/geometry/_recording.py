"""Recording a trajectory: a row first, then the line that says it counts, so that a kill loses the step in work."""

from __future__ import annotations

import heapq
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor

from lla_func.errors import flag, instance, positive_int, seed_number, shown
from lla_func.files import PathLike, replacing, save_json, sweep, writable_directory
from lla_func.geometry import _trajectory as stored
from lla_func.geometry._sketch import Projection, sketch
from lla_func.geometry._trajectory import Entry, Kept, Trajectory
from lla_func.objective import Layout

PATIENCE = 10.0
"""Seconds to wait for another process to let go of a folder: children of a killed training may live a little longer."""


class Recording:
    """A trajectory that grows. A checkpoint counts from the moment that its line in the index is complete.

    Args:
        folder: where; it is made if need be.
        layout, dtype: of theta.
        buffers: what is kept beside it.
        every: steps that are multiples of it are due.
        keep: at most so many checkpoints: when there would be more, every second one is dropped and from then on
            every second one that is due is left out, again and again.
        projection: to keep random projections in place of thetas.
        resume: False for a new run; True to continue the one in the folder after its last checkpoint, or to begin it;
            a step to drop what was recorded from there on and to continue there.
        sync: whether each checkpoint waits until the disk has it, which protects it from a power failure as well.
        like: the model, for :attr:`trajectory`.

    Raises:
        ValueError: there is a run already, or another one; or the folder is being recorded to.
    """

    def __init__(
        self,
        folder: PathLike,
        layout: Layout,
        dtype: torch.dtype,
        *,
        buffers: Sequence[Kept] = (),
        every: int = 1,
        keep: int | None = None,
        projection: Projection | None = None,
        resume: bool | int = False,
        sync: bool = False,
        like: Any = None,
    ) -> None:
        self.every = positive_int("every", every)
        self.keep = None if keep is None else positive_int("keep", keep, least=2)
        if projection is not None:
            positive_int("project", projection.dim, least=2)
            seed_number("seed", projection.seed)
        again = resume if isinstance(resume, bool) else positive_int("resume", resume, least=0)
        self.sync = flag("sync", sync)
        if dtype not in stored.STORED:
            raise TypeError(f"theta has dtype {dtype}; {', '.join(map(str, stored.STORED))} can be recorded")
        place = writable_directory("folder", folder)
        self._made = Trajectory(place, layout, dtype, (), projection, tuple(buffers), like)
        self._lock = FileLock(place / "recording.lock", timeout=PATIENCE)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise ValueError(
                f"folder={str(place)!r} is being recorded to by another process; name another folder"
            ) from error
        try:
            self._begin(again)
        except BaseException:
            self._lock.release()
            raise

    @property
    def trajectory(self) -> Trajectory:
        """What has been recorded so far."""
        return Trajectory(
            *(self._made.folder, self._made.layout, self._made.dtype, tuple(self._entries)),
            *(self._made.projection, self._made.buffers, self._made.like),
        )

    @property
    def made(self) -> Trajectory:
        """What was to be recorded, without the checkpoints."""
        return self._made

    def finished(self, held: Any = None) -> Trajectory:
        """What has been recorded, of which ``held`` keeps the folder."""
        return replace(self.trajectory, held=held)

    def due(self, step: int) -> bool:
        """Whether a step is to be recorded, by its number and by the thinning so far; counts it if it is."""
        step = positive_int("step", step, least=0)
        if self._damaged:
            self._load()
        if self._entries and step <= self._entries[-1].step:
            raise ValueError(
                f"step={step} is not after the last recorded step, {self._entries[-1].step}; steps have to increase "
                f"(to go on from an earlier one, record with resume={step}, which drops what came later)"
            )
        if step % self.every:
            return False
        self._count += 1
        return (self._count - 1) % self._stride == 0

    def add(
        self, step: int, theta: Sequence[Tensor], buffers: Sequence[Tensor] = (), *, always: bool = False
    ) -> None:
        """Records a checkpoint: the parts of theta in the order of the layout, and the buffers.

        One that is recorded ``always`` stays at least until the next one that is due.
        """
        number = max(self._count - 1, 0)
        slot = self._free[0] if self._free else self._top
        self._damaged = True  # until it is whole: an interruption leaves what is on disk to be read again
        if self._made.projection is not None:
            self._rows.write(slot, sketch(theta, self._made.projection).numpy())
        else:
            self._rows.write(slot, *map(_array, theta))
        if self._beside is not None:
            parts = [x.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for x in buffers]
            self._beside.write(slot, torch.cat(parts).numpy())
        if self.sync:
            for shards in filter(None, (self._rows, self._beside)):
                shards.flush()
        self._append(Entry(step, slot, number))
        if self._free:
            heapq.heappop(self._free)
        else:
            self._top += 1
        self._damaged = False
        if self.keep is not None and len(self._entries) > self.keep and not always:
            self._thin()

    def close(self) -> None:
        """Ends the recording; the trajectory stays."""
        for name in ("_rows", "_beside", "_index"):
            if (file := getattr(self, name, None)) is not None:
                file.close()
        if (lock := getattr(self, "_lock", None)) is not None:
            lock.release()

    def __del__(self) -> None:
        self.close()

    def _begin(self, resume: bool | int) -> None:
        folder, made = self._made.folder, self._made
        sweep(folder)
        rules = {"every": self.every, "keep": self.keep}
        mine = stored.manifest_of(made, rules)
        if (folder / stored.MANIFEST).exists():
            found = Trajectory.open(folder)
            if resume is False:
                raise ValueError(
                    f"folder={str(folder)!r} holds a trajectory of {len(found)} checkpoints; pass resume=True to "
                    "continue it, or name another folder"
                )
            theirs = json.loads((folder / stored.MANIFEST).read_text())
            if differing := [key for key in mine if mine[key] != theirs.get(key)]:
                stored.same_layout(found, made, "model")
                key = differing[0]
                raise ValueError(
                    f"folder={str(folder)!r} cannot be continued: {key} was {shown(theirs.get(key))}, now it is "
                    f"{shown(mine[key])}; name another folder"
                )
        else:
            self._entries: list[Entry] = []
            self._stride = 1
            self._write_index()
            save_json(folder / stored.MANIFEST, mine)
        self._rows = stored.shards_of(made)
        self._beside = stored.buffers_of(made) if made.buffers else None
        self._load()
        if resume is not False and resume is not True:
            kept = [entry for entry in self._entries if entry.step < resume]
            if len(kept) < len(self._entries):
                self._entries = kept
                self._write_index()
                self._load()

    def _load(self) -> None:
        """Takes the state from the index, and cuts off a line that is not complete."""
        path = self._made.folder / stored.INDEX
        entries, self._stride = stored.read_index(self._made.folder)
        self._entries = list(entries)
        self._count = self._entries[-1].number + 1 if self._entries else 0
        used = {entry.slot for entry in self._entries}
        self._top = max(used, default=-1) + 1
        self._free = sorted(set(range(self._top)) - used)
        if hasattr(self, "_index"):
            self._index.close()
        self._index: IO[bytes] = open(path, "r+b", buffering=0)  # noqa: SIM115
        end = path.read_bytes().rfind(b"\n") + 1
        self._index.truncate(end)
        self._index.seek(end)
        self._damaged = False

    def _append(self, entry: Entry) -> None:
        line = json.dumps(list(entry)).encode() + b"\n"
        if self._index.write(line) != len(line):
            raise OSError(
                f"{stored.INDEX} of {str(self._made.folder)!r} could not be written: is the disk full?"
            )
        if self.sync:
            os.fsync(self._index.fileno())
        self._entries.append(entry)

    def _thin(self) -> None:
        """Drops every second checkpoint until there are no more than are to be kept."""
        self._damaged = True
        distinct: dict[int, Entry] = {}
        for entry in self._entries:  # one that was not due has the number of the one before
            distinct.setdefault(entry.number, entry)
        self._entries = list(distinct.values())
        while self.keep is not None and len(self._entries) > self.keep:
            self._stride *= 2
            self._entries = [entry for entry in self._entries if entry.number % self._stride == 0]
        count = self._count
        self._write_index()
        self._load()
        self._count = count

    def _write_index(self) -> None:
        lines = [json.dumps({"stride": self._stride}), *(json.dumps(list(entry)) for entry in self._entries)]
        if hasattr(self, "_index"):
            self._index.close()  # an open file cannot be replaced everywhere
        with replacing(self._made.folder / stored.INDEX, sync=self.sync) as file:
            file.write("".join(f"{line}\n" for line in lines).encode())


def written(
    thetas: Iterable[Tensor], *, steps: Sequence[int] | None, layout: Layout | None, folder: PathLike | None
) -> Trajectory:
    """The trajectory of vectors [P] (:meth:`Trajectory.of`)."""
    instance("thetas", thetas, Iterable, "vectors [P], or a tensor [T, P]")
    recording: Recording | None = None
    held = None
    numbers = None if steps is None else list(steps)
    count = 0
    try:
        for t, theta in enumerate(thetas):
            instance(f"thetas[{t}]", theta, Tensor, "a vector [P]")
            if theta.ndim != 1 or (layout is not None and len(theta) != layout.numel):
                wanted = "[P]" if layout is None else [layout.numel]
                raise ValueError(f"thetas[{t}] has shape {list(theta.shape)}; pass {wanted}")
            if numbers is not None and t >= len(numbers):
                raise ValueError(f"steps has {len(numbers)} numbers, thetas has more; pass one for each")
            if recording is None:
                layout = Layout.of({"theta": theta}) if layout is None else layout
                folder, held = (folder, None) if folder is not None else temporary()
                recording = Recording(folder, layout, theta.dtype)
            if theta.dtype != recording.trajectory.dtype:
                raise ValueError(
                    f"thetas[{t}] has dtype {theta.dtype}, the first has {recording.trajectory.dtype}"
                )
            recording.due(step := t if numbers is None else numbers[t])
            recording.add(step, [theta])
            count += 1
        if recording is None:
            raise ValueError("thetas is empty; pass at least one vector [P]")
        if numbers is not None and len(numbers) != count:
            raise ValueError(f"steps has {len(numbers)} numbers, thetas has {count}; pass one for each")
        return recording.finished(held)
    finally:
        if recording is not None:
            recording.close()


def _array(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor, where they are if that is possible; bfloat16 as its bits."""
    plain = tensor.detach().cpu().contiguous()
    return (plain.view(torch.int16) if plain.dtype is torch.bfloat16 else plain).numpy()


class Temporary:
    """Holds a temporary folder, which goes when nobody holds this any more."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="lla_func_"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)


def temporary() -> tuple[Path, Temporary]:
    """A temporary folder, and what keeps it there."""
    held = Temporary()
    return held.folder, held
