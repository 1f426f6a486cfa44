"""Trajectory: the checkpoints of a training, kept on disk and read in pieces."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lla_func.errors import instance, positive_int, shown
from lla_func.files import PathLike, Shards, fingerprint
from lla_func.geometry._sketch import Projection
from lla_func.objective import Layout

FORMAT = "lla_func trajectory"
VERSION = 1
MANIFEST, INDEX = "trajectory.json", "index.jsonl"

STORED = {torch.float32: "<f4", torch.float64: "<f8", torch.float16: "<f2", torch.bfloat16: "<u2"}
"""How NumPy stores the dtypes of theta; it has no bfloat16, whose bits it keeps as whole numbers."""


class Entry(NamedTuple):
    """A checkpoint: the step of training, the row that holds it, and its number among those that were due."""

    step: int
    slot: int
    number: int


class Kept(NamedTuple):
    """A buffer that is kept beside theta."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """How many it takes."""
        return int(np.prod(self.shape, dtype=np.int64)) * getattr(torch, self.dtype).itemsize


@dataclass(frozen=True)
class Trajectory:
    """The checkpoints of one training, thetas [T, P] on disk, of which only what is asked for is read.

    Made by :meth:`open`, by :meth:`of`, or by ``bridges.trajectories`` from a model in training or from checkpoints.
    ``path[10:]``, ``path[::2]`` and the like are shorter trajectories over the same files.

    Attributes:
        folder: the files: ``trajectory.json``, ``index.jsonl`` and npy shards, which ``np.load(..., mmap_mode="r")``
            maps.
        layout: how parameters lie in a theta.
        dtype: of the thetas.
        entries: steps, and where the rows lie.
        projection: K and seed where random projections [T, K] are kept in place of thetas, else None.
        buffers: what is kept beside theta.
        like: the model that it is of, if it came with one.

    Example:
        >>> path = Trajectory.of([torch.zeros(3), torch.ones(3)], steps=[0, 10])
        >>> len(path), path.steps.tolist(), path.theta(-1)
        (2, [0, 10], tensor([1., 1., 1.]))
    """

    folder: Path
    layout: Layout
    dtype: torch.dtype
    entries: tuple[Entry, ...]
    projection: Projection | None = None
    buffers: tuple[Kept, ...] = ()
    like: Any = field(default=None, compare=False, repr=False)
    held: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def open(cls, folder: PathLike) -> Trajectory:
        """The trajectory in a folder, as far as it has been recorded.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, or of a newer format.
        """
        found = read_manifest(folder)
        entries, _ = read_index(Path(folder).expanduser())
        return cls(Path(folder).expanduser(), entries=entries, **found)

    @classmethod
    def of(
        cls,
        thetas: Iterable[Tensor],
        *,
        steps: Sequence[int] | None = None,
        layout: Layout | None = None,
        folder: PathLike | None = None,
    ) -> Trajectory:
        """The trajectory of vectors [P], which are taken one after another and written to disk.

        Args:
            thetas: any iterable of vectors [P] of one length and dtype, or a tensor [T, P].
            steps: a whole number for each, increasing; 0, 1, 2, ... by default.
            layout: of theta; by default one tensor called ``theta``.
            folder: where to keep it; by default a temporary folder that goes with the trajectory.
        """
        from lla_func.geometry._recording import written

        return written(thetas, steps=steps, layout=layout, folder=folder)

    def __len__(self) -> int:
        """T, the number of checkpoints."""
        return len(self.entries)

    def __getitem__(self, chosen: slice) -> Trajectory:
        """A part of the trajectory."""
        if not isinstance(chosen, slice):
            raise TypeError(
                f"path[{shown(chosen)}] is no part of a trajectory; pass a slice, or take path.theta(t)"
            )
        return replace(self, entries=self.entries[chosen])

    def __repr__(self) -> str:
        """What it holds, in one line."""
        steps = f", steps {self.entries[0].step} to {self.entries[-1].step}" if self.entries else ""
        what = f"P={self.layout.numel}" if self.projection is None else f"projections to K={self.width}"
        return f"Trajectory({str(self.folder)!r}: {len(self)} checkpoints of {what}{steps})"

    @property
    def steps(self) -> Tensor:
        """The step of training of each checkpoint, [T] int64."""
        return torch.tensor([entry.step for entry in self.entries], dtype=torch.int64)

    @property
    def width(self) -> int:
        """The length of what is kept of each checkpoint: P, or K of a projection."""
        return self.layout.numel if self.projection is None else self.projection.dim

    def theta(self, t: int) -> Tensor:
        """Checkpoint ``t`` as a vector [P] on the CPU, bit for bit as it was recorded; negative t count from the end.

        Raises:
            IndexError: there is no such checkpoint.
            ValueError: only random projections were kept.
        """
        if self.projection is not None:
            raise ValueError(
                f"{self!r} keeps random projections, from which theta cannot be had; record without project="
            )
        return tensor_of(shards_of(self).read(self._entry(t).slot), self.dtype)

    def buffer(self, t: int) -> dict[str, Tensor]:
        """The buffers that were kept at checkpoint ``t``, by name."""
        entry = self._entry(t)
        if not self.buffers:
            return {}
        row, start, found = torch.from_numpy(buffers_of(self).read(entry.slot)), 0, {}
        for kept in self.buffers:
            piece = row[start : start + kept.bytes].clone()  # so that it is aligned for its dtype
            found[kept.name] = piece.view(getattr(torch, kept.dtype)).reshape(kept.shape)
            start += kept.bytes
        return found

    def columns(self, start: int, stop: int, chosen: Sequence[int] | None = None) -> Tensor:
        """Elements ``start`` to ``stop`` of what was kept, of all checkpoints or of some, [T, stop - start] float64."""
        entries = self.entries if chosen is None else [self.entries[t] for t in chosen]
        shards = shards_of(self)
        found = torch.empty(len(entries), max(min(stop, self.width) - start, 0), dtype=torch.float64)
        numbers, at = found.numpy(), 0
        while at < len(entries):  # rows that follow one another are taken at once
            first, end = entries[at].slot, at + 1
            last = first - first % shards.rows + shards.rows
            while end < len(entries) and entries[end].slot == first + end - at < last:
                end += 1
            here = first % shards.rows
            rows = shards.mapped(first)[here : here + end - at, start:stop]  # let go with its pages after use
            if self._dtype is torch.bfloat16:
                found[at:end].copy_(tensor_of(np.array(rows), self._dtype))
            else:
                np.copyto(numbers[at:end], rows)
            at = end
        return found

    @property
    def _dtype(self) -> torch.dtype:
        return self.dtype if self.projection is None else torch.float64

    def _entry(self, t: int) -> Entry:
        count = len(self.entries)
        if isinstance(t, bool) or not hasattr(t, "__index__"):
            raise TypeError(f"t={shown(t)} is not the number of a checkpoint; pass an int")
        if not -count <= int(t) < count:
            raise IndexError(f"t={int(t)} is not one of the {count} checkpoints of {self.folder}")
        return self.entries[t]


def same_layout(first: Trajectory, other: Trajectory | Layout, what: str) -> None:
    """Raises a ValueError that names what differs unless two are of one architecture, by names and shapes."""
    layout = other if isinstance(other, Layout) else other.layout
    mine, theirs = (dict(zip(x.names, x.shapes, strict=True)) for x in (first.layout, layout))
    for name in [*mine, *theirs]:
        if mine.get(name) != theirs.get(name):
            has = [f"shape {list(x[name])}" if name in x else "no such parameter" for x in (mine, theirs)]
            raise ValueError(
                f"{what} is of another model: {name!r} has {has[1]} there, {has[0]} in {first!r}"
            )
    if list(mine) != list(theirs):
        raise ValueError(f"{what} has its parameters in another order than {first!r}")


# ---- files ---------------------------------------------------------------------------------------------------------


def tensor_of(row: np.ndarray, dtype: torch.dtype) -> Tensor:
    """A row from disk as a tensor of its dtype."""
    tensor = torch.from_numpy(row)
    return tensor.view(torch.int16).view(dtype) if dtype is torch.bfloat16 else tensor


def shards_of(path: Trajectory) -> Shards:
    """The rows of thetas, or of projections."""
    stored = STORED[path.dtype] if path.projection is None else "<f8"
    return Shards(path.folder, "thetas", path.width, stored)


def buffers_of(path: Trajectory) -> Shards:
    """The rows of buffers, as bytes."""
    return Shards(path.folder, "buffers", sum(kept.bytes for kept in path.buffers), "|u1")


def manifest_of(path: Trajectory, rules: Mapping[str, Any]) -> dict[str, Any]:
    """What the manifest says: the format, what is kept, and the rules of thinning."""
    layout = path.layout
    fields = {
        "names": list(layout.names),
        "shapes": [list(shape) for shape in layout.shapes],
        "roles": list(layout.roles),
        "filter_axes": list(layout.filter_axes),
    }
    return {
        "format": FORMAT,
        "version": VERSION,
        "dtype": str(path.dtype).removeprefix("torch."),
        "projection": None if path.projection is None else path.projection._asdict(),
        "rules": dict(rules),
        "buffers": [[kept.name, list(kept.shape), kept.dtype] for kept in path.buffers],
        "layout": fields,
        "fingerprint": fingerprint(fields),
    }


def read_manifest(folder: PathLike) -> dict[str, Any]:
    """The fields of the trajectory in a folder, but for its entries."""
    instance("folder", folder, (str, os.PathLike), "the folder of a trajectory")
    path = Path(folder).expanduser() / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(f"there is no trajectory in {str(folder)!r}: it has no {MANIFEST}")
    try:
        found = json.loads(path.read_text())
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}")
        version = positive_int("version", found["version"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{str(path)!r} is damaged, or no trajectory's: {error}") from error
    if version > VERSION:
        raise ValueError(
            f"{str(path)!r} has format version {version}, this lla_func reads up to {VERSION}; update lla_func"
        )
    try:
        fields = found["layout"]
        layout = Layout(
            tuple(fields["names"]),
            tuple(tuple(shape) for shape in fields["shapes"]),
            tuple(fields["roles"]),
            tuple(fields["filter_axes"]),
        )
        if found["fingerprint"] != fingerprint(fields):
            raise ValueError("the layout does not fit its fingerprint")
        dtype = getattr(torch, found["dtype"])
        STORED[dtype]
        projection = found["projection"]
        return {
            "layout": layout,
            "dtype": dtype,
            "projection": None if projection is None else Projection(**projection),
            "buffers": tuple(Kept(name, tuple(shape), kind) for name, shape, kind in found["buffers"]),
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}") from error


def read_index(folder: Path) -> tuple[tuple[Entry, ...], int]:
    """The checkpoints that count, and the stride of thinning.

    A last line that a kill cut short is of a checkpoint that was in work, which does not count.
    """
    path = folder / INDEX
    try:
        whole = path.read_bytes().rpartition(b"\n")[0]
        head, *lines = [json.loads(line) for line in whole.splitlines()]
        entries = tuple(Entry(*map(int, line)) for line in lines)
        stride = positive_int("stride", head["stride"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{str(path)!r} is missing or damaged: {error}") from error
    if any(later.step <= earlier.step for earlier, later in pairwise(entries)):
        raise ValueError(f"{str(path)!r} is damaged: its steps do not increase")
    return entries, stride
