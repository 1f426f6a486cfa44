"""JSON files are valid everywhere, and say where something is that they cannot hold."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from lla_func import files


class Point(NamedTuple):
    x: float
    y: torch.Tensor


@dataclass
class Setting:
    dtype: torch.dtype
    path: Path


def test_json_is_valid_everywhere_and_keeps_what_it_can(tmp_path):
    mapping = {
        "bad": [math.nan, math.inf, -math.inf],
        "tensor": torch.tensor([[1.5, math.nan]]),
        "array": np.array([1, 2]),
        "numbers": [np.float32(0.5), np.int64(3), np.bool_(True), True, None, 1 / 3],
        "point": Point(1.0, torch.tensor(2.0)),
        "setting": Setting(torch.float64, Path("a") / "b"),
        "device": torch.device("cpu"),
        "tuple": (1, "two"),
        3: {"nested": math.nan},
        "text": "\u00fc",
    }
    path = files.save_json(tmp_path / "settings.json", mapping)

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert found == {
        "bad": ["NaN", "Infinity", "-Infinity"],
        "tensor": [[1.5, "NaN"]],
        "array": [1, 2],
        "numbers": [0.5, 3, True, True, None, 1 / 3],
        "point": {"x": 1.0, "y": 2.0},
        "setting": {"dtype": "torch.float64", "path": str(Path("a") / "b")},
        "device": "cpu",
        "tuple": [1, "two"],
        "3": {"nested": "NaN"},
        "text": "\u00fc",
    }
    assert [float(text) for text in found["bad"][1:]] == [math.inf, -math.inf]
    assert math.isnan(float(found["bad"][0]))


def test_json_names_where_the_misfit_lies(tmp_path):
    with pytest.raises(TypeError, match=r"settings.optimizers\[1\] is a object, which JSON cannot hold"):
        files.save_json(tmp_path / "x.json", {"settings": {"optimizers": [None, object()]}})
    assert not any(tmp_path.iterdir())
