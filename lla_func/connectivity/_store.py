"""A fit on disk: which one a folder holds, and how far it is; written anew after each step."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lla_func import files
from lla_func.connectivity._fit import State

FORMAT = 1
MANIFEST, STATE = "connection.json", "state.pt"
NEAR = 1e-4
"""Losses of one model on one batch may differ by rounding, from machine to machine."""


class DamagedStateWarning(RuntimeWarning):
    """The state of a fit cannot be read; the fit begins anew, and its result is right all the same."""


def open_folder(path: str | os.PathLike[str], job: Mapping[str, Any]) -> Path:
    """The folder of this fit; it is made if need be.

    Args:
        path: of the folder.
        job: what makes the fit this one and no other, in JSON's types: ``loss`` a number that may differ by rounding,
            ``settings`` a mapping, anything else to be equal.

    Raises:
        ValueError: the folder cannot be written, or holds another fit (what differs is named), or is damaged.
    """
    folder = files.writable_directory("store", path)
    manifest = folder / MANIFEST
    files.sweep(folder)
    now = json.loads(json.dumps(files.plain(job)))
    if not manifest.exists():
        if (folder / STATE).exists():
            raise ValueError(
                f"store={str(folder)!r} has a state but no {MANIFEST}; choose another folder, or empty it"
            )
        files.save_json(manifest, {"format": FORMAT, "job": now})
        return folder
    try:
        known = json.loads(manifest.read_text(encoding="utf-8"))
        version, before = known["format"], known["job"]
        differ = [key for key in now if key not in ("loss", "settings") and before[key] != now[key]]
        settings = {**before["settings"], **now["settings"]}
        differ += [
            f"{key} ({before['settings'].get(key)!r} there, {now['settings'].get(key)!r} now)"
            for key in settings
            if before["settings"].get(key) != now["settings"].get(key)
        ]
        there, here = float(before["loss"]), float(now["loss"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{str(manifest)!r} is damaged ({' '.join(str(error).split())}); put back a copy, or delete its folder"
        ) from error
    if version != FORMAT:
        raise ValueError(f"{str(manifest)!r} has format {version!r}, this version of lla_func reads {FORMAT}")
    if not differ and not math.isclose(there, here, rel_tol=NEAR):
        differ = [f"the loss at the first end ({there!r} there, {here!r} now)"]
    if differ:
        raise ValueError(
            f"store={str(folder)!r} holds another fit; what differs: {', '.join(differ)}. Choose another folder for "
            "this one, or repeat the call that began the other"
        )
    return folder


def save(folder: Path, state: State) -> None:
    """Writes how far a fit is. The file survives that the process is killed, not that the machine loses its power."""
    content = state._asdict() | {"losses": state.losses[: state.step]}
    with files.replacing(folder / STATE, sync=False) as file:
        torch.save(content, file)


def load(folder: Path, device: torch.device) -> State | None:
    """How far a fit is, or None where it has not begun, or where what is there cannot be read: then with a warning."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        return State(**torch.load(path, map_location=device, weights_only=True))
    except Exception as error:  # torch raises errors of many types here
        warnings.warn(
            f"{str(path)!r} is damaged ({type(error).__name__}); the fit begins anew",
            DamagedStateWarning,
            stacklevel=4,
        )
        return None
