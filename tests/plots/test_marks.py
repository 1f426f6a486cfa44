"""Pictures of paths: every loss has its line and band, models stand at their places, barriers reach from the chord."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from lla_func import Landscape, plots, variation, viz_path
from lla_func.facades._path_writing import figures
from tests.cases import objective

T = torch.linspace(0, 1, 11, dtype=torch.float64)
LINE = Landscape(T[:, None], 1 + T * (1 - T), {"points": {"start": [0.0], "end": [1.0]}, "labels": ["t"]}, {})


def texts(ax):
    return [text.get_text() for text in ax.texts]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_each_loss_has_a_line_of_its_own_color_and_a_name():
    ax = plots.profiles({"train": LINE, "test": LINE._replace(losses=2 * LINE.losses)})
    assert legend(ax) == ["train", "test"]
    wide = [line for line in ax.lines if line.get_linewidth() == 1.8]
    assert len({line.get_color() for line in wide}) == 2
    assert max(wide[1].get_ydata()) == pytest.approx(2.5)


def test_models_are_marked_by_name_at_their_losses():
    ax = plots.profiles({"train": LINE})
    assert texts(ax) == ["start", "end"]
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines if line.get_marker() == "o"]
    assert marks == [(0, 1), (1, 1)]


def test_errors_over_data_are_a_band():
    ax = plots.profiles({"train": LINE._replace(errors={"loss": torch.full((11,), 0.25).double()})})
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() == pytest.approx(0.75)
    assert heights.max() == pytest.approx(1.25 + 0.25)
    assert ax.get_ylim()[0] < 0.75
    assert legend(ax) == ["train", "standard error over data"]


@pytest.mark.parametrize("options", [{"log": True}, {"cap": 1.1}, {"log": True, "cap": 1.1}])
def test_scales_and_caps_do_with_bands_and_marks(options):
    error = {"loss": torch.full((11,), 2.0).double()}
    ax = plots.profiles({"train": LINE._replace(errors=error)}, **options)
    plots.mark_barrier(ax, 0.5, ((0, 1), (1, 1)), 0.25, "barrier")
    ax.figure.canvas.draw()


def test_a_barrier_reaches_from_the_chord_to_the_loss():
    ax = plots.profiles({"train": LINE})
    plots.mark_barrier(ax, 0.5, ((0, 1), (1, 2)), 0.25, "barrier 0.25")
    arrow = next(text for text in ax.texts if getattr(text, "arrow_patch", None) is not None)
    assert (arrow.xy, arrow.xyann) == ((0.5, 1.75), (0.5, 1.5))
    assert "barrier 0.25" in texts(ax)


@pytest.mark.parametrize("height", [0, math.inf, math.nan])
def test_no_barrier_has_no_arrow(height):
    ax = plots.profiles({"train": LINE})
    plots.mark_barrier(ax, 0.5, ((0, 1), (1, 1)), height, "barrier")
    assert texts(ax) == ["start", "end"]


@pytest.mark.parametrize("losses", [torch.full((11,), math.nan), torch.where(T > 0.5, math.inf, T)])
def test_losses_that_are_not_finite_are_named_and_not_drawn(losses):
    ax = plots.profiles({"train": LINE._replace(losses=losses.double(), errors={"loss": losses.double()})})
    ax.figure.canvas.draw()
    assert any("not finite" in label for label in legend(ax))


def test_nothing_is_no_picture():
    with pytest.raises(ValueError, match="landscapes is empty"):
        plots.profiles({})


def paths(count, **options):
    start = objective("mlp")
    generator = torch.Generator().manual_seed(0)
    thetas = [
        start.theta + 0.3 * torch.randn(start.theta.shape, generator=generator).double() for _ in range(count)
    ]
    return viz_path(thetas, start, also={"again": start}, steps=5, to_save=False, **options)


def test_planes_have_contours_and_surfaces_with_the_models_marked():
    drawn = figures(paths(3))
    assert set(drawn) == {"contour", "surface"}
    for figure in drawn.values():
        figure.canvas.draw()
        assert [text for text in texts(figure.axes[0]) if text] == ["a", "b", "c"]


def test_slices_of_a_volume_mark_a_model_where_it_is():
    drawn = figures(paths(4, kind="volume"), slices=2)
    assert set(drawn) == {"slices", "slices_again"}
    first, last = drawn["slices"].axes[:2]
    assert (texts(first), texts(last)) == (["a", "b", "c"], ["d"])


def test_models_off_a_slice_are_hollow_and_say_how_far():
    drawn = figures(replace(paths(4, kind="volume")), slices=1)
    marked = texts(drawn["slices"].axes[0])
    assert marked[:3] == ["a", "b", "c"]


def test_variation_is_drawn_as_a_band_or_as_two_panels():
    start = objective("mlp")
    line = plots.spread(variation(start, count=3, steps=5, seed=0))
    assert legend(line.axes[0])[:2] == ["mean of 3 random lines", "standard deviation"]
    plane = plots.spread(variation(start, count=2, dim=2, steps=4, seed=0), cap=3.0)
    assert [ax.get_title() for ax in plane.axes[:2]] == ["mean of 2 random planes", "standard deviation"]
    plane.canvas.draw()
    with pytest.raises(ValueError, match="the landscape has no spread"):
        plots.spread(LINE)
