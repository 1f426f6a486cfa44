"""Rows of numbers on disk, any number of them: npy files of a fixed size that can be mapped into memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import numpy as np

from lla_func.files._atomic import naming, replacing

SHARD_BYTES = 2**26
"""About how large a file becomes; a single row may be larger."""

SHARD_ROWS = 1024

TOGETHER = 1000
"""Parts that go into one call; systems take 1024."""


class Shards:
    """A growing table of rows [width] of one dtype, in files ``NAME_00000.npy``, ``NAME_00001.npy``, ... [rows, width].

    Each is an ordinary npy file (``np.load(path, mmap_mode="r")``) that says its full size from the beginning; what
    was not written yet takes no room on the disk. Which rows count is somebody else's to say: a row is there once
    :meth:`write` has returned.

    Args:
        folder: where the files are.
        name: what they are called.
        width: numbers in a row.
        dtype: of the numbers, as NumPy names it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     table = Shards(Path(folder), "rows", 3, "<f4")
        ...     table.write(5, np.arange(3, dtype="<f4"))
        ...     table.read(5, 1, 3)
        array([1., 2.], dtype=float32)
        >>> table.close()
    """

    def __init__(self, folder: Path, name: str, width: int, dtype: str) -> None:
        self._open: tuple[int, IO[bytes], int] | None = None
        self.folder, self.name, self.width, self.dtype = folder, name, width, np.dtype(dtype)
        self.rows = min(max(SHARD_BYTES // max(width * self.dtype.itemsize, 1), 1), SHARD_ROWS)

    def path(self, slot: int) -> Path:
        """The file that holds a row."""
        return self.folder / f"{self.name}_{slot // self.rows:05d}.npy"

    def write(self, slot: int, *parts: np.ndarray) -> None:
        """Writes one row, in one or more parts; a full disk is an OSError that names the file."""
        file, start = self._shard(slot)
        place = start + (slot % self.rows) * self.width * self.dtype.itemsize
        with naming(self.path(slot)):
            # All parts by one call of the system, where it has that and takes them.
            if 1 < len(parts) <= TOGETHER and hasattr(os, "pwritev"):
                views: Any = [part.reshape(-1) for part in parts]
                if os.pwritev(file.fileno(), views, place) == self.width * self.dtype.itemsize:
                    return
            file.seek(place)
            for part in parts:
                rest = memoryview(part.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
                while rest:  # the system may take a part only; what is wrong then comes with the next part
                    rest = rest[file.write(rest) :]

    def flush(self) -> None:
        """Waits until the disk has what was written to the last file."""
        if self._open is not None:
            os.fsync(self._open[1].fileno())

    def close(self) -> None:
        """Closes the file that is being written."""
        if self._open is not None:
            self._open[1].close()
            self._open = None

    def __del__(self) -> None:
        self.close()

    def mapped(self, slot: int) -> np.ndarray:
        """The file that holds a row, mapped into memory, [rows, width].

        Raises:
            ValueError: it is missing or damaged.
        """
        path = self.path(slot)
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"{str(path)!r} is missing or damaged: {error}") from error
        if found.shape != (self.rows, self.width) or found.dtype != self.dtype:
            raise ValueError(
                f"{str(path)!r} holds {found.dtype} {list(found.shape)}, {self.dtype} "
                f"{[self.rows, self.width]} is needed; it is damaged or another run's"
            )
        return found

    def read(self, slot: int, start: int = 0, stop: int | None = None) -> np.ndarray:
        """A copy of a row, or of a part of it."""
        return np.array(self.mapped(slot)[slot % self.rows, start:stop])

    def _shard(self, slot: int) -> tuple[IO[bytes], int]:
        """The open file that holds a row, and where its numbers begin; made if it is not there."""
        number = slot // self.rows
        if self._open is None or self._open[0] != number:
            self.close()
            path = self.path(slot)
            if not path.exists():
                with replacing(path, sync=False) as new:
                    shape = (self.rows, self.width)
                    header = {
                        "descr": np.lib.format.dtype_to_descr(self.dtype),
                        "fortran_order": False,
                        "shape": shape,
                    }
                    np.lib.format.write_array_header_1_0(new, header)
                    new.truncate(new.tell() + self.rows * self.width * self.dtype.itemsize)
            offset = self.mapped(slot).offset  # type: ignore[attr-defined]
            self._open = (number, open(path, "r+b", buffering=0), offset)  # noqa: SIM115
        return self._open[1], self._open[2]
