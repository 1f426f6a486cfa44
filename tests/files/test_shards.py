"""Rows on disk: in npy files that anyone can map, whole or not there, and errors that name the file."""

from __future__ import annotations

import os

import numpy as np
import pytest

from lla_func.files import _shards as shards
from lla_func.files._shards import Shards


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 64)
    table = Shards(tmp_path, "rows", 3, "<f4")
    yield table
    table.close()


def test_rows_come_back_bit_for_bit_from_any_file(table):
    rows = np.random.default_rng(0).normal(size=(17, 3)).astype("<f4")
    rows[3] = [np.nan, np.inf, -0.0]
    for slot in np.random.default_rng(1).permutation(17):
        table.write(int(slot), rows[slot])
    assert table.rows == 5
    assert len(list(table.folder.glob("rows_*.npy"))) == 4
    for slot in range(17):
        assert table.read(slot).tobytes() == rows[slot].tobytes()
        assert table.read(slot, 1, 2).tobytes() == rows[slot, 1:2].tobytes()


def test_the_files_are_ordinary_npy_files_that_can_be_mapped(table):
    table.write(6, np.array([1, 2, 3], dtype="<f4"))
    mapped = np.load(table.path(6), mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert mapped.shape == (5, 3)
    assert mapped[1].tolist() == [1, 2, 3]


def test_a_row_may_be_larger_than_a_file_is_meant_to_be(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 64)
    table = Shards(tmp_path, "rows", 1000, "<f8")
    table.write(2, np.arange(1000.0))
    table.close()
    assert [path.name for path in tmp_path.iterdir()] == ["rows_00002.npy"]
    assert table.read(2)[-1] == 999


def test_what_was_not_written_takes_no_room(tmp_path):
    table = Shards(tmp_path, "rows", 50_000, "<f4")
    table.write(0, np.ones(50_000, dtype="<f4"))
    table.close()
    found = table.path(0).stat()
    assert found.st_size > 60 * 2**20
    assert found.st_blocks * 512 < 2**20


def test_a_write_that_is_cut_short_goes_on(table, monkeypatch):
    table.write(0, np.zeros(3, dtype="<f4"))
    real = table._open[1]

    class Slow:
        def __getattr__(self, name):
            return getattr(real, name)

        def write(self, data):
            return real.write(data[:5])

    table._open = (0, Slow(), table._open[2])
    table.write(1, np.array([1, 2, 3], dtype="<f4"))
    assert table.read(1).tolist() == [1, 2, 3]


@pytest.mark.skipif(not hasattr(os, "pwritev"), reason="the system has no call for several parts")
@pytest.mark.parametrize("taken", [0, 5, None])
def test_a_row_may_come_in_parts_of_which_the_system_takes_some(table, monkeypatch, taken):
    whole = os.pwritev

    def some(file, parts, place):
        return whole(file, parts, place) if taken is None else whole(file, [b"?" * taken], place)

    monkeypatch.setattr(os, "pwritev", some)
    table.write(4, np.array([[1]], dtype="<f4"), np.array([2, 3], dtype="<f4"))
    assert table.read(4).tolist() == [1, 2, 3]
    table.write(3, *np.array([[4], [5], [6]], dtype="<f4"))
    assert table.read(3).tolist() == [4, 5, 6]
    assert table.read(4).tolist() == [1, 2, 3]


def test_a_full_disk_is_an_error_that_names_the_file(table, monkeypatch):
    table.write(0, np.zeros(3, dtype="<f4"))
    real = table._open[1]

    class Full:
        def __getattr__(self, name):
            return getattr(real, name)

        def write(self, data):
            raise OSError(28, "No space left on device")

    table._open = (0, Full(), table._open[2])
    with pytest.raises(OSError, match=r"rows_00000\.npy"):
        table.write(1, np.zeros(3, dtype="<f4"))


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "text"])
def test_damaged_files_are_named(table, damage):
    table.write(0, np.zeros(3, dtype="<f4"))
    table.close()
    path = table.path(0)
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-4])
    elif damage == "other":
        with open(path, "wb") as file:
            np.save(file, np.zeros((5, 4), dtype="<f4"))
    else:
        path.write_text("no array")
    with pytest.raises(ValueError, match=r"rows_00000\.npy.*damaged"):
        table.read(0)
