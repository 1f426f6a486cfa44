"""Trajectories on disk: what is read is what was written, in pieces, and damage is named."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import pytest
import torch

from lla_func import Layout, Trajectory
from lla_func.geometry import _trajectory as stored

DATA = Path(__file__).parents[1] / "data"
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


def bits(tensor):
    return tensor.contiguous().view(torch.uint8).tolist()


def random(count=7, width=11, dtype=torch.float64):
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).to(
        dtype
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_thetas_come_back_bit_for_bit(tmp_path, dtype):
    thetas = random(dtype=dtype)
    thetas[2, :3] = torch.tensor([float("nan"), float("inf"), -0.0])
    Trajectory.of(thetas, folder=tmp_path / "run")
    path = Trajectory.open(tmp_path / "run")
    assert path.dtype == dtype
    assert [bits(path.theta(t)) for t in range(len(path))] == [bits(theta) for theta in thetas]
    assert torch.equal(path.columns(3, 6)[3:], thetas[3:, 3:6].double())


def test_the_layout_and_the_steps_come_back(tmp_path):
    layout = Layout.of({"weight": torch.ones(3, 2), "bias": torch.ones(5)}, filter_axes={"weight": 1})
    Trajectory.of(random(), steps=[0, 1, 4, 9, 16, 25, 36], layout=layout, folder=tmp_path)
    path = Trajectory.open(tmp_path)
    assert path.layout == layout
    assert path.steps.tolist() == [0, 1, 4, 9, 16, 25, 36]


def test_a_slice_is_a_shorter_trajectory():
    thetas = random()
    path = Trajectory.of(thetas)
    assert path[1:6:2].steps.tolist() == [1, 3, 5]
    assert torch.equal(path[1:6:2].theta(-1), thetas[5])
    assert torch.equal(path[1:6:2].columns(0, 11), thetas[1:6:2])
    assert len(path[3:3]) == 0


def test_thetas_are_taken_one_after_another():
    refs, most = [], 0

    def training():
        nonlocal most
        for t in range(20):
            theta = torch.full((1000,), float(t))
            refs.append(weakref.ref(theta))
            yield theta
            most = max(most, sum(ref() is not None for ref in refs))
            del theta

    assert Trajectory.of(training()).theta(19)[0] == 19
    assert most <= 2


def test_a_temporary_folder_goes_with_its_trajectory():
    path = Trajectory.of(random())
    part, folder = path[2:], path.folder
    del path
    gc.collect()
    assert part.theta(0).shape == (11,)
    del part
    gc.collect()
    assert not folder.exists()


def test_there_is_an_error_where_there_is_no_trajectory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no trajectory in .*nowhere"):
        Trajectory.open(tmp_path / "nowhere")
    with pytest.raises(TypeError, match="folder"):
        Trajectory.open(3)


@pytest.mark.parametrize("t", [7, -8])
def test_a_checkpoint_that_is_not_there_is_named(t):
    with pytest.raises(IndexError, match=f"t={t} is not one of the 7 checkpoints"):
        Trajectory.of(random()).theta(t)


@pytest.mark.parametrize("t", [1.0, True, "last", None])
def test_the_number_of_a_checkpoint_is_whole(t):
    with pytest.raises(TypeError, match="number of a checkpoint"):
        Trajectory.of(random()).theta(t)


def test_an_index_instead_of_a_slice_says_what_to_use():
    with pytest.raises(TypeError, match=r"path\.theta\(t\)"):
        Trajectory.of(random())[0]


@pytest.mark.parametrize(
    ("thetas", "options", "message"),
    [
        ([], {}, "thetas is empty"),
        ([torch.ones(2), torch.ones(3)], {}, r"thetas\[1\] has shape \[3\]; pass \[2\]"),
        ([torch.ones(2, 2)], {}, r"thetas\[0\] has shape \[2, 2\]"),
        ([torch.ones(2), torch.ones(2).double()], {}, r"thetas\[1\] has dtype torch\.float64"),
        ([torch.ones(2), torch.ones(2)], {"steps": [1]}, "steps has 1 numbers, thetas has more"),
        ([torch.ones(2)], {"steps": [1, 2]}, "steps has 2 numbers, thetas has 1"),
        ([torch.ones(2), torch.ones(2)], {"steps": [2, 2]}, "step=2 is not after"),
        ([torch.ones(2)], {"steps": [-1]}, "step=-1 is too small"),
    ],
)
def test_wrong_thetas_are_refused(thetas, options, message):
    with pytest.raises(ValueError, match=message):
        Trajectory.of(thetas, **options)


@pytest.mark.parametrize(
    "thetas", [3, [1.0], [torch.ones(2, dtype=torch.int64)], [torch.ones(2, dtype=torch.cfloat)]]
)
def test_thetas_of_another_kind_are_refused(thetas):
    with pytest.raises(TypeError, match=r"theta"):
        Trajectory.of(thetas)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", "something else"),
        ("version", "one"),
        ("dtype", "int64"),
        ("dtype", "nonsense"),
        ("layout", {}),
        ("fingerprint", "0" * 16),
        ("buffers", [[1]]),
        ("projection", 3),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path, key, value):
    Trajectory.of(random(), folder=tmp_path)
    manifest = tmp_path / stored.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=r"trajectory\.json.*damaged"):
        Trajectory.open(tmp_path)


def test_a_newer_format_says_so(tmp_path):
    Trajectory.of(random(), folder=tmp_path)
    manifest = tmp_path / stored.MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 99}))
    with pytest.raises(ValueError, match="format version 99.*update lla_func"):
        Trajectory.open(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "not json\n", '{"stride": 1}\n[1, 2]\n', '{"stride": 1}\n[5, 0, 0]\n[4, 1, 1]\n', "{}\n"]
)
def test_a_damaged_index_is_named(tmp_path, text):
    Trajectory.of(random(), folder=tmp_path)
    (tmp_path / stored.INDEX).write_text(text)
    with pytest.raises(ValueError, match=r"index\.jsonl.*damaged"):
        Trajectory.open(tmp_path)


def test_a_line_that_was_cut_short_does_not_count(tmp_path):
    Trajectory.of(random(), folder=tmp_path)
    with open(tmp_path / stored.INDEX, "a") as file:
        file.write("[7, 7")
    assert len(Trajectory.open(tmp_path)) == 7


def test_a_trajectory_of_the_first_format_is_still_read():
    path = Trajectory.open(DATA / "trajectory_1")
    assert path.steps.tolist() == [0, 10, 20]
    assert path.layout.names == ("0.weight", "0.bias", "1.weight", "1.bias")
    assert path.theta(2).tolist() == [0.5 * i for i in range(10)]
    assert path.buffer(2)["1.num_batches_tracked"].item() == 20
