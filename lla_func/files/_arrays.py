"""Arrays to and from npz files, never by pickle."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lla_func.files._atomic import replacing
from lla_func.files._paths import PathLike


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
            array = as_array(value)
            if array.dtype.hasobject:
                raise TypeError(f"{name} is a {type(value).__name__} of Python objects; pass numbers")
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return Path(path)


def load_arrays(path: PathLike) -> dict[str, np.ndarray]:
    """Reads the arrays of an npz file, by name; never unpickles anything.

    Raises:
        ValueError: the file is no npz file, or has Python objects in it.
        OSError: the file cannot be read.
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


def as_array(value: Any) -> np.ndarray:
    """The array of a tensor, array or number."""
    if isinstance(value, Tensor):
        value = value.detach().to("cpu")
        return (value.float() if value.dtype is torch.bfloat16 else value).numpy()
    return np.asarray(value)
