"""Figures reach files and screens whole, or not at all."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from lla_func import chart, plots
from lla_func.landscape._landscape import Landscape

COORDS = chart.mesh(torch.linspace(-2.0, 1.0, 13))
LINE = Landscape(COORDS, 1 + COORDS[:, 0] ** 2, {"center": [0.0]}, {}, center=1.0)


def test_saved_pictures_are_the_same_bytes_and_leave_no_other_file(tmp_path):
    paths = [plots.save(plots.profile(LINE).figure, tmp_path / name, dpi=60) for name in ("a.png", "b")]
    assert [path.name for path in paths] == ["a.png", "b.png"]
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert b"Software" not in first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize(("suffix", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml")])
def test_the_suffix_says_the_format(tmp_path, suffix, start):
    path = plots.save(plots.profile(LINE).figure, tmp_path / f"line.{suffix}")
    assert path.read_bytes().startswith(start)
    assert b"Date" not in path.read_bytes()


def test_a_picture_that_fails_leaves_the_old_one(tmp_path):
    path = plots.save(plots.profile(LINE).figure, tmp_path / "line.png", dpi=40)
    before = path.read_bytes()
    broken = plots.profile(LINE)
    broken.set_title("$\\nonsense$")
    with pytest.raises(ValueError, match="nonsense"):
        plots.save(broken.figure, path)
    with pytest.raises(ValueError, match="abc"):
        plots.save(plots.profile(LINE).figure, tmp_path / "line.abc")
    assert [p.name for p in tmp_path.iterdir()] == ["line.png"]
    assert path.read_bytes() == before


def test_without_a_display_show_warns_what_to_do(monkeypatch):
    from matplotlib import pyplot

    monkeypatch.setattr(pyplot, "get_backend", lambda: "agg")
    before = pyplot.get_fignums()
    with pytest.warns(UserWarning, match="no display .* save it"):
        assert plots.show(plots.profile(LINE).figure) is False
    assert pyplot.get_fignums() == before


def test_with_a_window_show_hands_over_this_very_figure_and_closes_it(monkeypatch):
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    figure, shown = plots.profile(LINE).figure, []
    monkeypatch.setattr(pyplot, "get_backend", lambda: "qtagg")
    monkeypatch.setattr(pyplot, "show", lambda block: shown.append(pyplot.gcf()))
    assert plots.show(figure) is True
    assert shown == [figure]
    assert figure not in map(pyplot.figure, pyplot.get_fignums())


def test_in_a_notebook_show_displays_a_picture(monkeypatch):
    shown = []
    notebook = types.ModuleType("IPython")
    notebook.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    notebook.display = types.ModuleType("IPython.display")
    notebook.display.display, notebook.display.Image = shown.append, lambda data: data
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    monkeypatch.setitem(sys.modules, "IPython.display", notebook.display)
    assert plots.show(plots.profile(LINE).figure) is True
    assert shown[0].startswith(b"\x89PNG")
