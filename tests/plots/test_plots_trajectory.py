"""Pictures of trainings: paths where their coordinates are, marked ends, and animations whole or not there."""

from __future__ import annotations

import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from lla_func import Landscape, chart, plots

AXIS = torch.linspace(-1, 1, 9, dtype=torch.float64)
COORDS = chart.mesh(AXIS, AXIS)
BOWL = Landscape(COORDS, COORDS.square().sum(1), {"center": None, "labels": ["one", "two"]}, {})
TURN = torch.linspace(0, 6, 40, dtype=torch.float64)
SPIRAL = (1 - TURN / 7)[:, None] * torch.stack([TURN.cos(), TURN.sin()], 1)


def lines(ax):
    return {line.get_label(): line.get_xydata() for line in ax.lines if line.get_linestyle() == "-"}


def test_paths_lie_at_their_coordinates_with_their_ends_marked():
    ax = plots.path(BOWL, [SPIRAL, -SPIRAL], names=["sgd", "adam"])
    assert np.allclose(lines(ax)["sgd"], SPIRAL)
    assert np.allclose(lines(ax)["adam"], -SPIRAL)
    marks = {line.get_marker(): line.get_xydata() for line in ax.lines if line.get_linestyle() == "None"}
    assert np.allclose(marks["o"], -SPIRAL[:1])
    assert np.allclose(marks["*"], -SPIRAL[-1:])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["sgd", "adam"]


def test_one_run_needs_no_legend_and_runs_have_different_colors():
    assert plots.path(BOWL, [SPIRAL]).get_legend() is None
    ax = plots.path(BOWL, [SPIRAL] * 5)
    assert len({line.get_color() for line in ax.lines if line.get_linestyle() == "-"}) == 5


def test_what_is_off_the_plane_is_drawn_against_the_steps():
    steps = torch.arange(40)
    figure = plots.off_plane([steps], [TURN], [TURN + 1], [TURN + 2])
    upper, lower = figure.axes
    assert np.allclose(lower.lines[0].get_xydata(), torch.stack([steps.double(), TURN], 1))
    assert np.allclose(upper.lines[1].get_ydata(), TURN + 2)


def test_losses_that_are_not_positive_are_not_drawn_on_a_logarithmic_scale():
    steps = [torch.arange(40)]
    assert plots.off_plane(steps, [TURN], [TURN + 1], [TURN + 2], log=True).axes[0].get_yscale() == "log"
    assert plots.off_plane(steps, [TURN], [TURN - 1], [TURN + 2], log=True).axes[0].get_yscale() == "linear"
    holes = torch.full((40,), float("nan"))
    assert plots.off_plane(steps, [TURN], [holes], [holes], log=True).axes[0].get_yscale() == "linear"


def test_an_animation_shows_the_path_grow(tmp_path):
    path = plots.animation(BOWL, [SPIRAL, SPIRAL[:7]], tmp_path / "new" / "run.gif", frames=10, fps=5, dpi=40)
    assert [each.name for each in path.parent.iterdir()] == ["run.gif"]
    with Image.open(path) as gif:
        assert 10 <= gif.n_frames <= 15
        pictures = []
        for number in range(10):
            gif.seek(number)
            pictures.append(np.asarray(gif.convert("RGB"), dtype=int))
    changed = [(np.abs(a - pictures[-1]).sum(2) > 60).sum() for a in pictures]
    assert all(a >= b for a, b in pairwise(changed))
    assert changed[0] > changed[4] > 0


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_an_animation_may_be_an_mp4(tmp_path):
    assert plots.animation(BOWL, [SPIRAL], tmp_path / "run.mp4", frames=5, dpi=40).stat().st_size > 0


def test_an_interrupted_animation_leaves_what_was_there(tmp_path, monkeypatch):
    from matplotlib.animation import PillowWriter

    (tmp_path / "run.gif").write_text("before")

    def interrupted(self, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(PillowWriter, "grab_frame", interrupted)
    with pytest.raises(KeyboardInterrupt):
        plots.animation(BOWL, [SPIRAL], tmp_path / "run.gif", frames=5, dpi=40)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("run.gif", "before")]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.path(BOWL, []), "coordinates is empty"),
        (lambda: plots.path(BOWL, [SPIRAL], names=["a", "b"]), "2 names for 1 runs"),
        (lambda: plots.path(BOWL, [SPIRAL[:, :1]]), r"coordinates\[0\] has shape \[40, 1\]; pass \[T, 2\]"),
        (
            lambda: plots.animation(BOWL, [SPIRAL], "run.avi"),
            r"'run\.avi' is no animation; name it \.gif, or \.mp4",
        ),
        (lambda: plots.animation(BOWL, [SPIRAL], "run.gif", frames=1), "frames=1"),
        (lambda: plots.animation(BOWL, [SPIRAL], "run.gif", fps=0), "fps=0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_without_ffmpeg_an_mp4_is_refused_with_the_way_out(monkeypatch):
    from matplotlib.animation import FFMpegWriter

    monkeypatch.setattr(FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(ValueError, match=r"needs ffmpeg, which is not installed; name it \.gif"):
        plots.animation(BOWL, [SPIRAL], "run.mp4")
