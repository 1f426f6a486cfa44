"""Arrays come back exactly from npz files, which hold no Python objects."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lla_func import files


def test_arrays_come_back_exactly(tmp_path):
    originals = {
        "file": np.arange(6).reshape(2, 3),  # names that a careless call of numpy.savez trips over
        "path": torch.tensor([1.0, math.nan], requires_grad=True),
        "self": np.array("text"),
        "half": torch.tensor([1.5, -0.0], dtype=torch.bfloat16),
        "empty": torch.empty(0, 3, dtype=torch.float64),
        "number": 2.5,
        "mask": torch.tensor([True, False]),
    }
    found = files.load_arrays(files.save_arrays(tmp_path / "arrays.npz", **originals))
    assert list(found) == list(originals)
    assert found["half"].dtype == found["path"].dtype == np.float32
    assert found["empty"].shape == (0, 3)
    assert found["self"] == "text"
    for name in ("file", "path", "number", "mask"):
        expected = torch.as_tensor(originals[name]).detach().numpy()
        assert np.array_equal(found[name], expected, equal_nan=name != "mask")
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as archive:  # an ordinary npz
        assert set(archive.files) == set(originals)


def test_python_objects_are_neither_written_nor_read(tmp_path):
    with pytest.raises(TypeError, match="thing is a object of Python objects"):
        files.save_arrays(tmp_path / "bad.npz", good=1, thing=object())
    assert not any(tmp_path.iterdir())
    np.savez(tmp_path / "pickled.npz", thing=np.array([object()]))
    with pytest.raises(ValueError, match=r"pickled.npz' is not an npz file of plain numbers"):
        files.load_arrays(tmp_path / "pickled.npz")
