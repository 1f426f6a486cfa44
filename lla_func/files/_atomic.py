"""Atomic files: written whole under a temporary name and renamed, or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import IO

from lla_func.files._paths import PathLike

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None


@contextmanager
def replacing(path: PathLike, *, sync: bool = True) -> Iterator[IO[bytes]]:
    """A binary file that takes its place at ``path`` only once it is complete.

    It is written under a temporary name in the same folder and renamed at the end of the ``with`` block.
    Whatever interrupts the block, an exception or Ctrl-C, leaves an earlier file at ``path`` as it was and no
    other file behind. Without ``sync``, which waits for the disk, that may not be so where the machine loses its power.

    Example:
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(os.path.join(folder, "log.txt")) as file:
        ...         _ = file.write(b"complete")
        ...     os.listdir(folder)
        ['log.txt']
    """
    target = Path(path).resolve()  # through a symbolic link, which is then kept
    with naming(target):
        temporary, file = _temporary(target.parent)
        try:
            with file:
                yield file
                file.flush()
                if sync:
                    os.fsync(file.fileno())
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def sweep(directory: PathLike) -> None:
    """Removes what killed writes (:func:`replacing`) left in a directory; a file that is being written stays.

    Whoever writes holds a lock on the file, which the system releases when the process ends, however it ends.
    """
    for path in Path(directory).glob(".*.tmp"):
        if re.fullmatch(r"\.[0-9a-f]+\.tmp", path.name):
            with suppress(OSError):  # it is being written, or somebody else has removed it
                with open(path, "r+b") as file:
                    _hold(file)
                path.unlink()


def append_line(path: PathLike, text: str) -> Path:
    """Adds one line to a log file, in a single write, so that concurrent runs do not mix within a line."""
    if "\n" in text or "\r" in text:
        raise ValueError(f"text={text!r} has a line break; pass one line")
    with naming(Path(path)), open(path, "ab", buffering=0) as file:
        content = text.encode() + b"\n"
        if (written := file.write(content)) < len(
            content
        ):  # the disk is full, which only the next write says
            file.write(content[written:])
    return Path(path)


def _temporary(directory: Path) -> tuple[Path, IO[bytes]]:
    """A new file for writing that :func:`sweep` leaves alone.

    Not one of tempfile's: those are private to the user, these follow the umask as any other result does.
    """
    while True:
        path = directory / f".{secrets.token_hex(8)}.tmp"
        file = open(path, "xb")  # noqa: SIM115 (the caller closes it)
        with suppress(OSError):  # where a file system has no locks, nothing is swept either
            _hold(file)
        if path.exists():  # it was not swept before it was held
            return path, file
        file.close()


def _hold(file: IO[bytes]) -> None:
    """Locks an open file, or raises an OSError because another process has. Windows removes no open file anyway."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """Errors of the system name the file that was to be written, a full disk's too, which name none."""
    try:
        yield
    except OSError as error:
        temporary = str(error.filename or "").endswith(".tmp")
        if error.errno is None or not (error.filename is None or temporary):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error
