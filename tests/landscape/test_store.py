"""What is written is read back exactly, or was not written at all."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from lla_func import chart, store
from lla_func.landscape._landscape import Landscape


def landscape(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randn(7, count, dtype=torch.float64, generator=generator)
    losses = torch.randn(7, dtype=torch.float64, generator=generator)
    losses[:3] = torch.tensor([math.nan, math.inf, -math.inf], dtype=torch.float64)
    axes = torch.randn(count, 5, generator=generator)
    summary = chart.summary(chart.span(torch.zeros(5), *axes))
    diagnostics = {"engine": "loop", "seconds": 0.1, "nonfinite": 3, "fallback": None, "batchnorm": "eval"}
    return Landscape(coords, losses, summary, diagnostics, center=1 / 3)


def same(one, other):
    return (
        torch.equal(one.coords, other.coords)
        and torch.equal(one.losses.view(torch.int64), other.losses.view(torch.int64))  # NaN too, bit for bit
        and repr((one.chart, one.diagnostics, one.center))
        == repr((other.chart, other.diagnostics, other.center))
    )


def test_landscapes_come_back_exactly(tmp_path):
    originals = [landscape(2), landscape(1, seed=1)._replace(center=math.nan), landscape(3, seed=2)]
    originals[1].chart["angles"] = [math.nan, math.inf]
    titles = ["random axes", "", 'quoted "and" umlaut \u00fc']
    path = store.save_landscapes(tmp_path / "landscapes.npz", originals, titles)
    found, found_titles = store.load_landscapes(path)
    assert found_titles == titles
    assert all(map(same, originals, found))
    assert found[0].coords.dtype is found[0].losses.dtype is torch.float64


def test_no_landscapes_come_back_as_none(tmp_path):
    assert store.load_landscapes(store.save_landscapes(tmp_path / "none.npz", [], [])) == ([], [])


def test_each_landscape_needs_a_title(tmp_path):
    with pytest.raises(ValueError, match="1 titles for 2 landscapes"):
        store.save_landscapes(tmp_path / "x.npz", [landscape(1)] * 2, ["one"])
    assert not any(tmp_path.iterdir())


def test_equal_results_are_equal_files(tmp_path):
    files = [store.save_landscapes(tmp_path / name, [landscape(2)], ["t"]) for name in ("a.npz", "b.npz")]
    assert files[0].read_bytes() == files[1].read_bytes()


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
    found = store.load_arrays(store.save_arrays(tmp_path / "arrays.npz", **originals))
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
        store.save_arrays(tmp_path / "bad.npz", good=1, thing=object())
    assert not any(tmp_path.iterdir())
    np.savez(tmp_path / "pickled.npz", thing=np.array([object()]))
    with pytest.raises(ValueError, match=r"pickled.npz' is not an npz file of plain numbers"):
        store.load_arrays(tmp_path / "pickled.npz")


@pytest.mark.parametrize("content", [b"", b"\x80\x04N.", b"PK\x03\x04 cut off", b"plain text"])
def test_other_files_are_refused_by_name(tmp_path, content):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other.npz' is not an npz file"):
        store.load_landscapes(path)


def test_an_npz_of_something_else_has_no_landscapes(tmp_path):
    path = store.save_arrays(tmp_path / "x.npz", coords=1)
    with pytest.raises(ValueError, match="has no landscapes"):
        store.load_landscapes(path)
    with pytest.raises(FileNotFoundError):
        store.load_landscapes(tmp_path / "missing.npz")


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
    path = store.save_json(tmp_path / "settings.json", mapping)

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
    with pytest.raises(TypeError, match=r"settings.optimizers\[1\] is a object, which JSON can not hold"):
        store.save_json(tmp_path / "x.json", {"settings": {"optimizers": [None, object()]}})
    assert not any(tmp_path.iterdir())


class Interrupted(BaseException):
    """As KeyboardInterrupt, which would end the test run."""


def interrupted_block(path):
    with store.replacing(path) as file:
        file.write(b"half of the n")
        raise Interrupted


def interrupted_rename(path):
    with pytest.MonkeyPatch.context() as patch:

        def fail(*_):
            raise Interrupted

        patch.setattr(os, "replace", fail)
        store.save_json(path, {"new": 1})


@pytest.mark.parametrize("interrupt", [interrupted_block, interrupted_rename])
@pytest.mark.parametrize("old", [b"old content", None])
def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path, interrupt, old):
    path = tmp_path / "result.json"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(Interrupted):
        interrupt(path)
    assert [file.name for file in tmp_path.iterdir()] == (["result.json"] if old else [])
    assert old is None or path.read_bytes() == old


def test_the_old_file_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "result.json"
    path.write_bytes(b"old content")
    with store.replacing(path) as file:
        file.write(b"new content")
        file.flush()
        assert path.read_bytes() == b"old content"  # what would be left if the process were killed here
    assert path.read_bytes() == b"new content"


def test_files_follow_the_umask_and_symbolic_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "elsewhere" / "real.json")
    before = os.umask(0o027)
    try:
        store.save_json(link, {})
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "real.json").stat().st_mode & 0o777 == 0o640


def test_lines_are_added_whole(tmp_path):
    path = tmp_path / "log.txt"
    for line in ("first", "zweite \u00fc"):
        assert store.append_line(path, line) == path
    assert path.read_text(encoding="utf-8") == "first\nzweite \u00fc\n"
    with pytest.raises(ValueError, match="line break"):
        store.append_line(path, "two\nlines")


def test_a_writable_directory_is_made_with_its_parents_and_left_empty(tmp_path):
    made = store.writable_directory("viz_dir", tmp_path / "a" / "b")
    assert made == store.writable_directory("viz_dir", str(made))
    assert made.is_dir()
    assert not any(made.iterdir())


def test_the_home_directory_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.writable_directory("viz_dir", "~/results") == tmp_path / "results"


@pytest.mark.parametrize("under", ["", "deeper"])
def test_a_directory_that_can_not_be_is_refused_by_argument_path_and_reason(tmp_path, under):
    (tmp_path / "file").write_text("not a directory")
    with pytest.raises(ValueError, match=r"viz_dir='.*file.*' is not a directory that can be written \(.+\)"):
        store.writable_directory("viz_dir", tmp_path / "file" / under)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a directory that refuses files")
def test_a_directory_in_which_no_file_can_be_made_is_refused():
    # even root can make no file there
    with pytest.raises(ValueError, match=r"res_dir='/proc/self' .*\(.+\)"):
        store.writable_directory("res_dir", "/proc/self")


@pytest.mark.parametrize("bad", [None, 3, b"bytes"])
def test_only_paths_are_paths(bad):
    with pytest.raises(TypeError, match=r"viz_dir=.* is not a path"):
        store.writable_directory("viz_dir", bad)


@pytest.mark.parametrize("good", ["default", "lenet_filter-2.1", "\u00fcbung 3", "a" * 150])
def test_ordinary_names_are_kept(good):
    assert store.file_name("cur_name", good) == good


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("a/b", "because of '/'"),
        ("..\\x", r"because of '\\\\'"),
        ("tab\there", r"because of '\\t'"),
        ("nul\0", r"because of '\\x00'"),
        ("what?", "because of"),
        ("", "letters and digits"),
        ("..", "letters and digits"),
        ("\u00fc" * 76, "152 bytes"),
    ],
)
def test_names_that_are_no_file_names_are_refused(bad, words):
    with pytest.raises(ValueError, match=f"cur_name.*{words}"):
        store.file_name("cur_name", bad)


def test_a_name_is_a_string():
    with pytest.raises(TypeError, match=r"cur_name=3 is not a str"):
        store.file_name("cur_name", 3)
