"""Results to and from disk: npz for numbers, JSON for settings, each written whole or not at all."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import secrets
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from lla_func.landscape._landscape import Landscape

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = [
    "append_line",
    "file_name",
    "load_arrays",
    "load_landscapes",
    "plain",
    "replacing",
    "save_arrays",
    "save_json",
    "save_landscapes",
    "sweep",
    "writable_directory",
]

PathLike = str | os.PathLike[str]


def writable_directory(name: str, path: PathLike) -> Path:
    """Makes a directory, and proves that files can be written there, before any work starts.

    Permission bits alone do not tell (root, read-only and network file systems, quotas), so a temporary file
    is really written and removed.

    Args:
        name: the argument that the path came from, for the error message.
        path: the directory; parents are made as needed and a leading ``~`` is the home directory.

    Raises:
        ValueError: the directory can not be made or written; the argument, the path and the reason are named.
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
        ValueError: name='lenet/run' can not be a file name because of '/'; folders belong into the directory
    """
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} is not a str")
    for character in value:
        if character in '/\\<>:"|?*' or not character.isprintable():
            raise ValueError(
                f"{name}={value!r} can not be a file name because of {character!r}; "
                "folders belong into the directory"
            )
    if not value.strip(". "):
        raise ValueError(f"{name}={value!r} can not be a file name; use letters and digits")
    if len(value.encode()) > 150:
        raise ValueError(
            f"{name} has {len(value.encode())} bytes, which is too long for a file name; use 150 at most"
        )
    return value


@contextmanager
def replacing(path: PathLike) -> Iterator[IO[bytes]]:
    """A binary file that takes its place at ``path`` only once it is complete.

    It is written under a temporary name in the same folder and renamed at the end of the ``with`` block.
    Whatever interrupts the block, an exception or Ctrl-C, leaves an earlier file at ``path`` as it was and no
    other file behind.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(os.path.join(folder, "log.txt")) as file:
        ...         _ = file.write(b"complete")
        ...     os.listdir(folder)
        ['log.txt']
    """
    target = Path(path).resolve()  # through a symbolic link, which is then kept
    with _naming(target):
        temporary, file = _temporary(target.parent)
        try:
            with file:
                yield file
                file.flush()
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
def _naming(target: Path) -> Iterator[None]:
    """Errors of the system name the file that was to be written, a full disk's too, which name none."""
    try:
        yield
    except OSError as error:
        temporary = str(error.filename or "").endswith(".tmp")
        if error.errno is None or not (error.filename is None or temporary):
            raise
        raise OSError(error.errno, error.strerror, str(target)) from error


def save_arrays(path: PathLike, /, **arrays: Any) -> Path:
    """Writes arrays to an npz file that needs no pickle to be read.

    Args:
        path: where to write.
        arrays: tensors (of any device; bfloat16, unknown to NumPy, is kept as float32), arrays or numbers, by
            name.

    Raises:
        TypeError: a value is an array of Python objects; it is named.
    """
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        for name, value in arrays.items():
            array = _array(value)
            if array.dtype.hasobject:
                raise TypeError(f"{name} is a {type(value).__name__} of Python objects; pass numbers")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return Path(path)


def load_arrays(path: PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of an npz file, by name; never unpickles anything.

    Raises:
        ValueError: the file is no npz file, or has Python objects in it.
        OSError: the file can not be read.
    """
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file):
                file.seek(0)
                with np.load(file, allow_pickle=False) as archive:
                    return {name: archive[name] for name in archive.files}
        except (
            Exception
        ) as error:  # a damaged file may say anything of its own contents, and so may its errors
            raise ValueError(f"{str(path)!r} is not an npz file of plain numbers: {error}") from error


def save_landscapes(
    path: PathLike, landscapes: Sequence[Landscape], titles: Sequence[str], **more: Any
) -> Path:
    """Writes landscapes and their titles to one npz file; :func:`load_landscapes` is the exact inverse.

    Coordinates and losses are arrays; the rest is JSON text inside the file, so what a chart summary or
    diagnostics hold must be plain data (see :func:`save_json`; tuples come back as lists, dtypes and devices
    as strings). Further arrays (``more``) are kept beside them; :func:`load_arrays` finds them.

    Example:
        >>> line = torch.linspace(-1, 1, 5, dtype=torch.float64)
        >>> parabola = Landscape(line[:, None], line**2, {"kind": "line"}, {"engine": "loop"}, center=0.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_landscapes(os.path.join(folder, "parabola.npz"), [parabola], ["a parabola"])
        ...     landscapes, titles = load_landscapes(path)
        >>> torch.equal(landscapes[0].losses, line**2), titles
        (True, ['a parabola'])
    """
    if len(landscapes) != len(titles):
        raise ValueError(f"there are {len(titles)} titles for {len(landscapes)} landscapes")
    arrays: dict[str, Any] = {}
    notes = []
    for index, (landscape, title) in enumerate(zip(landscapes, titles, strict=True)):
        arrays[f"coords_{index}"], arrays[f"losses_{index}"] = landscape.coords, landscape.losses
        notes.append(
            {
                "title": title,
                "center": float(landscape.center),
                "chart": landscape.chart,
                "diagnostics": landscape.diagnostics,
            }
        )
    # Python's JSON writes NaN and infinity as such and reads them back; nothing else reads this text
    return save_arrays(path, **arrays, notes=np.array(json.dumps(_plain(notes, "landscapes"))), **more)


def load_landscapes(path: PathLike) -> tuple[list[Landscape], list[str]]:
    """Reads the landscapes, and their titles, that :func:`save_landscapes` wrote.

    Raises:
        ValueError: the file was not written by it.
        OSError: the file can not be read.
    """
    arrays = load_arrays(path)
    try:
        notes = json.loads(str(arrays["notes"]))
        landscapes = [
            Landscape(
                torch.from_numpy(arrays[f"coords_{index}"]),
                torch.from_numpy(arrays[f"losses_{index}"]),
                note["chart"],
                note["diagnostics"],
                note["center"],
            )
            for index, note in enumerate(notes)
        ]
        return landscapes, [note["title"] for note in notes]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} has no landscapes written by save_landscapes ({error})") from error


def save_json(path: PathLike, mapping: Mapping[str, Any]) -> Path:
    """Writes settings or a summary as JSON that every parser accepts, in the mapping's order.

    JSON knows no NaN and no infinity: they become the strings ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``,
    which ``float`` (and JavaScript's ``Number``) turn back into numbers. Tensors and arrays become nested
    lists, named tuples and dataclasses become objects, paths, torch dtypes and devices become strings.

    Raises:
        TypeError: a value is none of these; where it lies is named.
    """
    text = json.dumps(plain(mapping), indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as file:
        file.write(text.encode() + b"\n")
    return Path(path)


def plain(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """What :func:`save_json` writes of a mapping, and what reading that gives."""
    return _finite(_plain(mapping, ""))


def append_line(path: PathLike, text: str) -> Path:
    """Adds one line to a log file, in a single write, so that concurrent runs do not mix within a line."""
    if "\n" in text or "\r" in text:
        raise ValueError(f"text={text!r} has a line break; pass one line")
    with _naming(Path(path)), open(path, "ab", buffering=0) as file:
        content = text.encode() + b"\n"
        if (written := file.write(content)) < len(
            content
        ):  # the disk is full, which only the next write says
            file.write(content[written:])
    return Path(path)


def _array(value: Any) -> np.ndarray:
    """The array of a tensor, array or number."""
    if isinstance(value, Tensor):
        value = value.detach().to("cpu")
        return (value.float() if value.dtype is torch.bfloat16 else value).numpy()
    return np.asarray(value)


def _plain(value: Any, where: str) -> Any:
    """The value in JSON's own types, with NaN and infinity still floats; ``where`` names it in errors."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):  # also subclasses such as NumPy's float64, and enumerations of numbers
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return _plain(_array(value).tolist(), where)
    if isinstance(value, torch.dtype | torch.device | os.PathLike):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(
        f"{where or 'value'} is a {type(value).__name__}, which JSON can not hold; pass numbers, strings, "
        "lists, mappings or tensors"
    )


def _finite(value: Any) -> Any:
    """Plain data with NaN and infinity as strings."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
