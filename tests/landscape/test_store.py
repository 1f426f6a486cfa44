"""Landscapes come back exactly from disk, and other files are refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from lla_func import chart, store
from lla_func.landscape._landscape import Landscape

DATA = Path(__file__).parents[1] / "data"


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


def test_metrics_and_errors_come_back_by_name(tmp_path):
    generator = torch.Generator().manual_seed(0)
    named = {
        "accuracy": torch.rand(7, generator=generator),
        "top_k_1": torch.rand(7, 3, generator=generator, dtype=torch.float64),
    }
    errors = {"loss": torch.rand(7, generator=generator, dtype=torch.float64)}
    originals = [landscape(2), landscape(1)._replace(metrics=named, errors=errors)]
    found, _ = store.load_landscapes(store.save_landscapes(tmp_path / "x.npz", originals, ["a", "b"]))
    assert [list(one.values) for one in found] == [["loss"], ["loss", "accuracy", "top_k_1"]]
    assert all(torch.equal(found[1].values[name], values) for name, values in named.items())
    assert (dict(found[0].errors), list(found[1].errors)) == ({}, ["loss"])
    assert torch.equal(found[1].errors["loss"], errors["loss"])
    assert found[1].values["loss"] is found[1].losses


def test_files_from_before_there_were_metrics_are_read():
    (parabola, hole), titles = store.load_landscapes(DATA / "landscapes_without_metrics.npz")
    assert titles == ["a parabola", "a hole"]
    assert parabola.values["loss"].tolist() == [31.25, 1.25, 21.25]
    assert parabola.coords.tolist() == [[-1.0], [0.0], [1.0]]
    assert parabola.chart["norms"] == [5.0]
    assert parabola.diagnostics["plan"]["engine"] == "loop"
    assert parabola.center == 1.25
    assert hole.losses.isnan().all()
    assert math.isnan(hole.center)
    assert not parabola.metrics
    assert not parabola.errors


def test_no_landscapes_come_back_as_none(tmp_path):
    assert store.load_landscapes(store.save_landscapes(tmp_path / "none.npz", [], [])) == ([], [])


def test_each_landscape_needs_a_title(tmp_path):
    with pytest.raises(ValueError, match="1 titles for 2 landscapes"):
        store.save_landscapes(tmp_path / "x.npz", [landscape(1)] * 2, ["one"])
    assert not any(tmp_path.iterdir())


def test_equal_results_are_equal_files(tmp_path):
    files = [store.save_landscapes(tmp_path / name, [landscape(2)], ["t"]) for name in ("a.npz", "b.npz")]
    assert files[0].read_bytes() == files[1].read_bytes()


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
