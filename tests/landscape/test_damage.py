"""A damaged store gives the right losses or says which file is damaged and what to do; it never gives wrong ones."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from lla_func import store
from lla_func.landscape import _chunks, _directions
from lla_func.landscape import _manifest as manifest
from lla_func.landscape._job import StoreWarning, load_landscape
from lla_func.objective._objective import from_loss
from tests.jobs import COORDS, EXPECTED, job, unfinished


def corrupted(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(content)


def swap(path: Path, other: Path) -> None:
    first, second = path.read_bytes(), other.read_bytes()
    path.write_bytes(second)
    other.write_bytes(first)


CHUNK_DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "a byte": corrupted,
    "text": lambda path: path.write_text("nothing to do with it"),
    "pickled": lambda path: np.savez(path, losses=np.array([object()])),
    "other names": lambda path: store.save_arrays(path, values=torch.zeros(1)),
    "other count": lambda path: store.save_arrays(path, losses=torch.zeros(2, dtype=torch.float64)),
    "other type": lambda path: store.save_arrays(path, losses=torch.zeros(1, dtype=torch.int32)),
    "other values": lambda path: store.save_arrays(
        path, losses=torch.zeros(1).double(), checksum=store.load_arrays(path)["checksum"]
    ),
    "no checksum": lambda path: store.save_arrays(path, losses=store.load_arrays(path)["losses"]),
    "another chunk's": lambda path: shutil.copy(path.with_name("000-00001.npz"), path),
}


@pytest.mark.parametrize("damage", CHUNK_DAMAGE.values(), ids=CHUNK_DAMAGE)
def test_a_damaged_chunk_is_said_and_computed_again(tmp_path, damage):
    path = unfinished(tmp_path)[3]
    damage(path)
    with pytest.warns(StoreWarning, match=rf"chunks.{path.name}.*computed again") as said:
        again = job(tmp_path)
    assert len(said) == 1
    assert torch.equal(again.losses, EXPECTED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (tmp_path / "landscape.npz").unlink()
        assert torch.equal(job(tmp_path).losses, EXPECTED)
    assert torch.equal(load_landscape(tmp_path).losses, EXPECTED)


def test_a_chunk_of_another_job_is_computed_again(tmp_path):
    job(tmp_path / "other", tilt=1.0)
    paths = unfinished(tmp_path / "this")
    shutil.copy(tmp_path / "other" / "chunks" / paths[4].name, paths[4])
    with pytest.warns(StoreWarning, match="or of another job"):
        assert torch.equal(job(tmp_path / "this").losses, EXPECTED)


def test_no_flipped_bit_of_a_chunk_changes_a_loss_or_raises(tmp_path):
    path = unfinished(tmp_path)[2]
    known, content = manifest.read(tmp_path)["checksum"], path.read_bytes()
    kept = 0
    for place in range(len(content)):
        for mask in (0x01, 0xFF):
            damaged = bytearray(content)
            damaged[place] ^= mask
            path.write_bytes(damaged)
            try:
                losses = _chunks._chunk(path, known, 0, COORDS[2:3])
            except ValueError as error:
                assert path.name in str(error)  # noqa: PT017
                continue
            assert torch.equal(losses, EXPECTED[2:3])
            kept += 1
    assert kept < len(content)  # dates and the like of an npz file


LANDSCAPE_DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "a byte": corrupted,
    "other arrays": lambda path: store.save_arrays(path, losses=torch.zeros(9)),
    "no landscape": lambda path: store.save_landscapes(path, [], []),
    "no checksum": lambda path: store.save_landscapes(path, *store.load_landscapes(path)),
}


@pytest.mark.parametrize("damage", LANDSCAPE_DAMAGE.values(), ids=LANDSCAPE_DAMAGE)
def test_a_damaged_landscape_is_put_together_again_from_its_chunks(tmp_path, damage):
    job(tmp_path)
    damage(tmp_path / "landscape.npz")
    with pytest.raises(ValueError, match=r"landscape.npz.*Repeat the call that began the job"):
        load_landscape(tmp_path)
    with pytest.warns(StoreWarning, match=r"landscape.npz.* put together again"):
        assert torch.equal(job(tmp_path).losses, EXPECTED)
    assert torch.equal(load_landscape(tmp_path).losses, EXPECTED)


def test_the_landscape_of_another_job_is_not_taken_for_this_ones(tmp_path):
    job(tmp_path / "other", tilt=1.0)
    job(tmp_path / "this")
    shutil.copy(tmp_path / "other" / "landscape.npz", tmp_path / "this" / "landscape.npz")
    with pytest.raises(ValueError, match=r"landscape.npz' is damaged or of another job"):
        load_landscape(tmp_path / "this")
    with pytest.warns(StoreWarning, match="or of another job"):
        assert torch.equal(job(tmp_path / "this").losses, EXPECTED)


def edited(change, *, sealed=True):
    """Damages a manifest by a change of its content; with its checksum made to fit, or as it was."""

    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        content = change(content) or content
        if sealed and isinstance(content, dict) and "checksum" in content:
            content["checksum"] = manifest.checksum(content)
        path.write_text(json.dumps(content))

    return damage


def without(*keys):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return edited(change)


def having(value, *keys, sealed=True):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return edited(change, sealed=sealed)


MANIFEST_DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "half": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "binary": lambda path: path.write_bytes(b"\x80\x04\xff\xfe\x00"),
    "zeros": lambda path: path.write_bytes(bytes(300)),
    "deep": lambda path: path.write_text("[" * 100_000),
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "null": lambda path: path.write_text("null"),
    "a number": lambda path: path.write_text("3"),
    "a string": lambda path: path.write_text('"manifest"'),
    **{f"no {'.'.join(keys)}": without(*keys) for keys in (
        *(("format",), ("job",), ("plan",), ("rates",), ("checksum",)),
        *(("job", "settings"), ("job", "notes"), ("job", "loss"), ("plan", "engine")),
    )},
    **{f"{'.'.join(keys)} = {value!r}": having(value, *keys) for value, *keys in (
        *((None, "format"), ("2", "format"), (True, "format"), ([], "format"), (1, "format")),
        *((None, "job"), ([], "job"), ("x", "job"), (None, "job", "settings"), ([], "job", "notes")),
        *((None, "job", "loss"), ("much", "job", "loss"), ([], "job", "loss"), ({}, "job", "loss")),
        *((None, "plan"), ([], "plan"), ("loop", "plan"), ("rm", "plan", "engine"), (None, "plan", "engine")),
        *((0, "plan", "workers"), (1.5, "plan", "workers"), ("1", "plan", "points_per_pass")),
        *((10**12, "plan", "points_per_pass"), (-1, "plan", "chunk"), (5, "plan", "color")),
        *(("yes", "plan", "keep"), (-1, "plan", "samples_per_tile")),
        *((None, "rates"), (3, "rates"), ([3], "rates"), ("x", "rates")),
    )},
    **{f"{'.'.join(keys)} = {value!r}, checksum as it was": having(value, *keys, sealed=False)
       for value, *keys in ((2, "plan", "workers"), ("0" * 16, "job", "theta"), (0, "checksum"))},
}  # fmt: skip


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("damage", MANIFEST_DAMAGE.values(), ids=MANIFEST_DAMAGE)
def test_a_damaged_manifest_is_named_together_with_the_way_out(tmp_path, damage, finished):
    job(tmp_path) if finished else unfinished(tmp_path)
    damage(tmp_path / "manifest.json")
    for call in (job, load_landscape):
        with pytest.raises(
            ValueError, match=r"manifest.json' is damaged \(.+\)\. Put back a copy of it, or delete"
        ):
            call(tmp_path)


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_store_of_another_version_is_refused_by_its_number(tmp_path, number):
    job(tmp_path)
    having(number, "format")(tmp_path / "manifest.json")
    with pytest.raises(
        ValueError, match=rf"another version of lla_func \(format {number}, this one reads 1 and 2"
    ):
        job(tmp_path)


def of_format_1(folder):
    """What a store looked like before there were checksums."""
    content = json.loads((folder / "manifest.json").read_text())
    content.pop("checksum", None)
    store.save_json(folder / "manifest.json", {**content, "format": 1})
    for path in (folder / "chunks").glob("*.npz"):
        store.save_arrays(path, losses=store.load_arrays(path)["losses"])
    if (folder / "landscape.npz").exists():
        store.save_landscapes(folder / "landscape.npz", *store.load_landscapes(folder / "landscape.npz"))


def test_stores_without_checksums_are_still_read_and_gone_on_with(tmp_path):
    job(tmp_path)
    of_format_1(tmp_path)
    assert torch.equal(load_landscape(tmp_path).losses, EXPECTED)
    assert torch.equal(job(tmp_path).losses, EXPECTED)
    paths = unfinished(tmp_path)
    of_format_1(tmp_path)
    paths[0].unlink()
    corrupted(paths[5])
    with pytest.warns(StoreWarning, match=paths[5].name):
        assert torch.equal(job(tmp_path).losses, EXPECTED)
    assert torch.equal(load_landscape(tmp_path).losses, EXPECTED)


def test_damaged_directions_are_made_anew(tmp_path):
    directions = torch.eye(3)[:2]
    _directions.directions_of(tmp_path, directions)
    corrupted(tmp_path / "directions.npz")
    with pytest.warns(StoreWarning, match="directions.npz"):
        assert torch.equal(_directions.directions_of(tmp_path, directions), directions)
    assert torch.equal(_directions.directions_of(tmp_path, directions), directions)


def test_viz_lla_finds_a_damaged_manifest_before_the_hessian_work(tmp_path, monkeypatch):
    from lla_func import viz_lla
    from lla_func.facades import _landscape as landscape

    objective = from_loss(lambda theta, batch: (theta**4).sum() + theta[0] * theta[1], torch.ones(4).double())
    options = {"axes": "hessian", "steps": 3, "seed": 0, "to_save": False, "store": tmp_path}
    viz_lla(objective, **options)
    (path,) = tmp_path.glob("*/manifest.json")
    corrupted(path)

    def work(*_, **__):
        raise AssertionError("work began before the store was looked at")

    monkeypatch.setattr(landscape, "analyse", work)
    with pytest.raises(ValueError, match=r"manifest.json' is damaged"):
        viz_lla(objective, **options)
