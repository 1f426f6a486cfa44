"""Landscapes to and from disk; beside them the functions of :mod:`lla_func.files`, so that ``store`` has them all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lla_func.files import (
    PathLike,
    append_line,
    file_name,
    json_types,
    load_arrays,
    plain,
    replacing,
    save_arrays,
    save_json,
    sweep,
    writable_directory,
)
from lla_func.landscape._landscape import Landscape

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

FORMAT = 2
"""Of the files; format 1 did not say it, and had no metrics and errors in the beginning."""

NAMED = ("metrics", "errors")
"""The fields of a landscape that hold tensors by name; files of before have none."""


def save_landscapes(
    path: PathLike, landscapes: Sequence[Landscape], titles: Sequence[str], **more: Any
) -> Path:
    """Writes landscapes and their titles to one npz file; :func:`load_landscapes` is the exact inverse.

    Coordinates, losses, metrics and errors are arrays; the rest is JSON text inside the file, so what a summary or
    diagnostics hold must be plain data (see :func:`save_json`; tuples come back as lists, dtypes and devices
    as strings). Further arrays (``more``) are kept beside them; :func:`load_arrays` finds them.

    Example:
        >>> line = torch.linspace(-1, 1, 5, dtype=torch.float64)
        >>> parabola = Landscape(line[:, None], line**2, {"kind": "line"}, {"engine": "loop"}, center=0.0)
        >>> import os, tempfile
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
        note = {
            "title": title,
            "center": float(landscape.center),
            "chart": landscape.chart,
            "diagnostics": landscape.diagnostics,
        }
        for kind in NAMED:
            if named := getattr(landscape, kind):
                arrays |= {f"{kind}_{name}_{index}": tensor for name, tensor in named.items()}
                note[kind] = list(named)
        notes.append(note)
    # Python's JSON writes NaN and infinity as such and reads them back; nothing else reads this text
    text = np.array(json.dumps(json_types(notes, "landscapes")))
    return save_arrays(path, format=np.array(FORMAT), **arrays, notes=text, **more)


def load_landscapes(path: PathLike) -> tuple[list[Landscape], list[str]]:
    """Reads the landscapes, and their titles, that :func:`save_landscapes` wrote.

    Raises:
        ValueError: the file was not written by it.
        OSError: the file cannot be read.
    """
    arrays = load_arrays(path)
    if (known := int(arrays.get("format", 1))) > FORMAT:
        raise ValueError(
            f"{str(path)!r} was written by another version of lla_func (format {known}, this one reads up to {FORMAT})"
        )
    try:
        notes = json.loads(str(arrays["notes"]))
        landscapes = [
            Landscape(
                torch.from_numpy(arrays[f"coords_{index}"]),
                torch.from_numpy(arrays[f"losses_{index}"]),
                note["chart"],
                note["diagnostics"],
                note["center"],
                *(
                    {name: torch.from_numpy(arrays[f"{kind}_{name}_{index}"]) for name in note.get(kind, [])}
                    for kind in NAMED
                ),
            )
            for index, note in enumerate(notes)
        ]
        return landscapes, [note["title"] for note in notes]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} has no landscapes written by save_landscapes ({error})") from error
