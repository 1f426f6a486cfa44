"""JSON that every parser accepts, of anything that is plain data at heart."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lla_func.files._arrays import as_array
from lla_func.files._atomic import replacing
from lla_func.files._paths import PathLike


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
    return _finite(json_types(mapping, ""))


def json_types(value: Any, where: str) -> Any:
    """The value in JSON's own types, with NaN and infinity still floats; ``where`` names it in errors."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):  # also subclasses such as NumPy's float64, and enumerations of numbers
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, np.generic | np.ndarray | Tensor):
        return json_types(as_array(value).tolist(), where)
    if isinstance(value, torch.dtype | torch.device | os.PathLike):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): json_types(item, f"{where}.{key}".lstrip(".")) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes):
        return [json_types(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(
        f"{where or 'value'} is a {type(value).__name__}, which JSON cannot hold; pass numbers, strings, "
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
