"""The head of a result file: JSON text beside the arrays, with the format that the file has and its version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from lla_func.files._paths import PathLike


def read_head(path: PathLike, arrays: Mapping[str, np.ndarray], otherwise: str) -> dict[str, Any]:
    """The head of a file whose arrays are known; ``format`` and ``version`` are in it.

    Args:
        path: of the file, for messages.
        arrays: of the file; the head is the text called ``head``.
        otherwise: what to say of a file without a head, such as "is no topology".

    Raises:
        ValueError: there is none.

    Example:
        >>> read_head("a.npz", {"head": np.array('{"format": "curve", "version": 1}')}, "is no curve")
        {'format': 'curve', 'version': 1}
    """
    try:
        head: dict[str, Any] = json.loads(str(arrays["head"]))
        head["format"], head["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} {otherwise} ({error})") from error
    return head


def check_head(path: PathLike, head: Mapping[str, Any], kind: str, version: int) -> None:
    """Raises a ValueError unless a head is of this format and version.

    Example:
        >>> check_head("a.npz", {"format": "curve", "version": 9}, "curve", 1)
        Traceback (most recent call last):
        ...
        ValueError: 'a.npz' holds a 'curve' of version 9; this program reads 'curve' of version 1
    """
    if (head["format"], head["version"]) != (kind, version):
        raise ValueError(
            f"{str(path)!r} holds a {head['format']!r} of version {head['version']}; this program reads {kind!r} of "
            f"version {version}"
        )
