"""Folders that can be written, and names that every file system takes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

PathLike = str | os.PathLike[str]


def writable_directory(name: str, path: PathLike) -> Path:
    """Makes a directory, and proves that files can be written there, before any work starts.

    Permission bits alone do not tell (root, read-only and network file systems, quotas), so a temporary file
    is really written and removed.

    Args:
        name: the argument that the path came from, for the error message.
        path: the directory; parents are made as needed and a leading ``~`` is the home directory.

    Raises:
        ValueError: the directory cannot be made or written; the argument, the path and the reason are named.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name}={path!r} is not a path; pass a str or a pathlib.Path")
    if not str(path).strip():
        raise ValueError(f"{name}={str(path)!r} is empty; name a directory ('.' is the current one)")
    try:
        directory = Path(path).expanduser()
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as probe:
            probe.write(b"probe")
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"{name}={str(path)!r} is not a directory that can be written ({reason}); choose another"
        ) from error
    return directory


def file_name(name: str, value: str) -> str:
    """Returns ``value`` if it can be the name of a file on every system, or raises.

    Names are refused rather than cleaned, so that two experiments never end up in the same file unnoticed.

    Example:
        >>> file_name("cur_name", "lenet_filter-2")
        'lenet_filter-2'
        >>> file_name("name", "lenet/run")
        Traceback (most recent call last):
        ...
        ValueError: name='lenet/run' cannot be a file name because of '/'; folders belong in the directory
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} is not a str")
    for character in value:
        if character in '/\\<>:"|?*' or not character.isprintable():
            raise ValueError(
                f"{name}={value!r} cannot be a file name because of {character!r}; "
                "folders belong in the directory"
            )
    if not value.strip(". "):
        raise ValueError(f"{name}={value!r} cannot be a file name; use letters and digits")
    if len(value.encode()) > 150:
        raise ValueError(
            f"{name} has {len(value.encode())} bytes, which is too long for a file name; use 150 at most"
        )
    return value
