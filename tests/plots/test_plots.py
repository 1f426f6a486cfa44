"""Pictures say what the numbers say, and leave everybody else's figures alone."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from lla_func import chart, plots
from lla_func.landscape._landscape import Landscape
from lla_func.plots import _surface as plots_surface
from lla_func.plots._scale import CAPPED, MARK, scale_of


def landscape_of(loss, *axes, center=(), **summary):
    coords = chart.mesh(*(torch.as_tensor(axis) for axis in axes))
    center = list(center) or [0.0] * len(axes)
    at_center = float(loss(*torch.tensor(center, dtype=torch.float64)))
    return Landscape(coords, loss(*coords.T), {"center": center, **summary}, {}, center=at_center)


X, Y = torch.linspace(-2.0, 1.0, 13), torch.linspace(5.0, 9.0, 9)
BOWL = landscape_of(lambda a, b: 1 + a**2 + 3 * (b - 7) ** 2, X, Y, center=(-0.5, 7.0), labels=["a", "b"])
LINE = landscape_of(lambda a: 1 + a**2, X, labels=["a"])
CUBE = landscape_of(lambda a, b, c: 1 + a**2 + b**2 + c**2, *[torch.linspace(-1, 1, 5)] * 3)
DRAWN = [(plots.surface3d, BOWL), (plots.contour, BOWL), (plots.profile, LINE)]


def with_losses(landscape, **losses):
    changed = landscape.losses.clone()
    for index, loss in losses.items():
        changed[int(index[1:])] = loss
    return landscape._replace(losses=changed)


def surface(landscape, **options):
    """The Axes of a surface, with its quadrilaterals [F, 4, 3] and their colors [F, 4]."""
    drawn, add = [], plots_surface._add_faces
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots_surface, "_add_faces", lambda *what: (drawn.extend(what), add(*what)))
        plots.surface3d(landscape, **options)
    return drawn


def marker(ax):
    """The data of the line that marks the center."""
    (line,) = [line for line in ax.lines if line.get_marker() == MARK["marker"]]
    return [
        float(np.asarray(data)[0]) for data in (line.get_data_3d() if ax.name == "3d" else line.get_data())
    ]


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()] if ax.get_legend() else []


def axes_for(draw):
    return Figure().add_subplot(projection="3d" if draw is plots.surface3d else None)


@pytest.mark.parametrize(("draw", "landscape"), DRAWN)
def test_the_axes_passed_in_are_drawn_in_and_returned(draw, landscape):
    ax = axes_for(draw)
    assert draw(landscape, ax, title="here") is ax
    assert ax.get_title() == "here"


def test_drawing_imports_matplotlib_late_and_pyplot_never_and_keeps_rc_params():
    code = """
import sys, torch
from lla_func import plots, chart
from lla_func.landscape._landscape import Landscape
assert "matplotlib" not in sys.modules
import matplotlib

def settings():  # past RcParams.__getitem__, which resolves the backend by importing pyplot
    return {key: dict.__getitem__(matplotlib.rcParams, key) for key in matplotlib.rcParams}

before = settings()
axis = torch.linspace(-1, 1, 5)
plane, line = chart.mesh(axis, axis), chart.mesh(axis)
plane = Landscape(plane, plane.square().sum(1), {"center": [0.0, 0.0]}, {}, 0.0)
line = Landscape(line, line.square().sum(1), {"center": [0.0]}, {}, 0.0)
for draw, landscape in ((plots.surface3d, plane), (plots.contour, plane), (plots.profile, line)):
    draw(landscape, cap=0.5).figure.draw_without_rendering()
plots.panel([plane, plane], ["one", "two"]).draw_without_rendering()
plots.density([0.0, 1.0], [1.0, 1.0], [[0.5]], [[1.0]]).figure.draw_without_rendering()
plots.save(plots.profile(line).figure, sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
assert settings() == before
"""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", code, f"{folder}/line.png"], check=True)


def test_figures_are_unknown_to_pyplot():
    from matplotlib import pyplot

    pyplot.close("all")
    pyplot.switch_backend("agg")
    mine = pyplot.figure()
    for draw, landscape in DRAWN:
        draw(landscape)
    assert pyplot.get_fignums() == [mine.number]
    assert pyplot.gcf() is mine
    assert matplotlib.get_backend().lower() == "agg"
    pyplot.close(mine)


def test_surface_lies_over_coordinates_at_the_height_of_the_losses():
    ax, corners, _ = surface(BOWL)
    points = corners[..., :3].reshape(-1, 3)
    assert (points.min(axis=0)[:2].tolist(), points.max(axis=0)[:2].tolist()) == ([-2, 5], [1, 9])
    for (a, b), loss in zip(BOWL.coords.tolist(), BOWL.losses.tolist(), strict=True):
        nearest = points[np.abs(points[:, :2] - [a, b]).sum(axis=1).argmin()]
        assert np.allclose(nearest, [a, b, loss], atol=1e-6)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")


def test_contour_puts_the_first_coordinate_on_the_horizontal_axis():
    ax = plots.contour(BOWL)
    assert ax.get_xlim() == (-2, 1)
    assert ax.get_ylim() == (5, 9)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "b")
    only_a = plots.contour(landscape_of(lambda a, b: a + 0 * b, X, Y))
    lines = only_a.collections[1]
    for level, path in zip(lines.levels, lines.get_paths(), strict=True):
        assert np.allclose(path.vertices[:, 0], level)  # equal loss is equal a


@pytest.mark.parametrize(
    ("draw", "landscape", "where"),
    [
        (plots.surface3d, BOWL, [-0.5, 7.0, 1.25]),
        (plots.contour, BOWL, [-0.5, 7.0]),
        (plots.profile, LINE, [0.0, 1.0]),
    ],
)
def test_the_center_is_marked_at_its_coordinates(draw, landscape, where):
    assert marker(draw(landscape)) == where
    assert any("center, loss" in text for text in legend_texts(draw(landscape)))


def test_a_center_that_was_not_evaluated_is_taken_from_the_mesh_or_left_out():
    unknown = BOWL._replace(center=math.nan)
    assert marker(plots.surface3d(unknown)) == [-0.5, 7.0, 1.25]
    off_mesh = unknown._replace(chart={**BOWL.chart, "center": [0.123, 7.0]})
    assert not plots.surface3d(off_mesh).lines
    assert marker(plots.contour(off_mesh)) == [0.123, 7.0]
    assert len(plots.profile(LINE._replace(center=math.inf)).lines) == len(plots.profile(LINE).lines) - 1


def test_capped_surface_is_flat_gray_and_named():
    ax, corners, colors = surface(BOWL, cap=6.0)
    heights = corners[..., 2]
    gray = np.isclose(colors, to_rgba(CAPPED)).all(axis=1)
    assert heights.max() == 6.0
    assert gray.any()
    assert np.allclose(heights[gray], 6.0)
    assert (heights[~gray].min(axis=1) < 6.0).all()
    assert "capped: loss above 6" in legend_texts(ax)
    assert ax.get_zlim()[1] >= 6.0


def test_capped_contour_is_gray_beyond_the_cap_and_its_color_bar_has_a_tip():
    ax = plots.contour(BOWL, cap=6.0)
    assert np.allclose(ax.collections[0].cmap.get_over(), to_rgba(CAPPED))
    assert ax.collections[0].levels[-1] == pytest.approx(6.0, abs=1e-6)
    assert "capped: loss above 6" in legend_texts(ax)
    (bar,) = ax.child_axes
    assert bar._colorbar.extend == "max"


def test_capped_profile_is_a_flat_line_at_the_cap():
    ax = plots.profile(LINE, cap=2.0)
    flat, measured = (np.asarray(line.get_ydata()) for line in ax.lines[:2])
    assert set(flat[np.isfinite(flat)]) == {2.0}
    assert np.nanmax(measured) <= 2.0
    assert (np.isfinite(flat) ^ np.isfinite(measured)).all()
    assert "capped: loss above 2" in legend_texts(ax)


@pytest.mark.parametrize(("draw", "landscape"), DRAWN)
def test_losses_above_given_limits_are_capped_too(draw, landscape):
    assert "capped: loss above 3" in legend_texts(draw(landscape, limits=(0.5, 3.0), cap=4.0))
    assert "capped: loss above 3" in legend_texts(draw(landscape, limits=(0.5, 4.0), cap=3.0))


@pytest.mark.parametrize(("draw", "landscape"), DRAWN)
def test_a_cap_above_all_losses_changes_nothing(draw, landscape):
    assert not any("capped" in text for text in legend_texts(draw(landscape, cap=1e9)))
    assert scale_of(landscape, cap=1e9) == scale_of(landscape)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_losses_that_are_not_finite_are_holes_and_counted(bad):
    broken = with_losses(BOWL, _40=bad, _41=bad)
    ax, corners, _ = surface(broken, cap=20.0)
    middles = corners[..., :2].mean(axis=1)
    near = np.abs(middles - BOWL.coords[40].numpy()) < [0.25, 0.5]  # the cells around the point
    assert not near.all(axis=1).any()
    assert len(middles) > 1000
    assert "not finite: 2 points" in legend_texts(ax)
    flat = plots.contour(broken)
    assert "not finite: 2 points" in legend_texts(flat)
    assert any(patch.get_hatch() for patch in flat.patches)
    line = plots.profile(with_losses(LINE, _3=bad))
    assert "not finite: 1 point" in legend_texts(line)
    assert np.isnan(line.lines[0].get_ydata()[np.isclose(line.lines[0].get_xdata(), X[3])]).all()


@pytest.mark.parametrize(("draw", "landscape"), DRAWN)
def test_a_landscape_without_any_finite_loss_is_all_hole(draw, landscape):
    empty = landscape._replace(losses=torch.full_like(landscape.losses, math.nan), center=math.nan)
    assert f"not finite: {len(empty.losses)} points" in legend_texts(draw(empty))


@pytest.mark.parametrize(("draw", "landscape"), DRAWN)
@pytest.mark.parametrize("factor", [1e-30, 1e-6, 0.0, 1e6, 1e30])
def test_losses_of_any_size_can_be_drawn(draw, landscape, factor):
    ax = draw(landscape._replace(losses=landscape.losses * factor, center=landscape.center * factor))
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(("draw", "landscape"), DRAWN)
def test_losses_that_are_not_positive_are_holes_on_a_log_scale(draw, landscape):
    ax = draw(with_losses(landscape, _2=0.0, _3=-1.0), log=True)
    assert "not finite or not positive: 2 points" in legend_texts(ax)


def test_log_surface_has_log_heights_labeled_with_losses():
    steep = landscape_of(lambda a, b: 10.0 ** (2 * a + b - 7), X, Y)
    ax, corners, _ = surface(steep, log=True)
    assert corners[..., 2].max() == pytest.approx(4.0)
    assert (
        dict(zip(ax.get_zticks(), [t.get_text() for t in ax.get_zticklabels()], strict=True))[0] == "$10^{0}$"
    )


def test_small_and_large_linear_losses_leave_their_power_to_the_label():
    scale = scale_of(BOWL._replace(losses=BOWL.losses * 1e6, center=math.nan))
    ticks, labels = scale.ticks()
    assert scale.label == r"loss ($\times10^{7}$)"
    assert np.allclose([float(label) * 1e7 for label in labels], ticks)


def test_panel_shares_one_scale():
    higher = BOWL._replace(losses=BOWL.losses + 50, center=BOWL.center + 50)
    figure = plots.panel([BOWL, higher], ["low", "high"], columns=2)
    first, second, bar = figure.axes
    assert [first.get_title(), second.get_title()] == ["low", "high"]
    assert first.get_zlim() == second.get_zlim()
    assert bar.get_ylim() == (1.0, float(higher.losses.max()))
    greens = [ax.collections[0].get_facecolor()[:, 1] for ax in (first, second)]  # grows along viridis
    assert greens[0].max() < greens[1].min()
    separate = plots.panel([BOWL, higher], ["low", "high"], shared=False, style="contour").axes
    bars = [ax.child_axes[0].get_ylim() for ax in separate[:2]]
    assert bars[0] != bars[1]


@pytest.mark.parametrize("style", ["surface3d", "contour"])
def test_panel_fills_rows_and_names_what_is_special_once(style):
    broken = with_losses(BOWL, _0=math.nan)
    figure = plots.panel([BOWL, broken, BOWL], ["1", "2", "3"], columns=2, style=style, cap=6.0, title="all")
    pictures = [ax for ax in figure.axes if ax.get_title()]
    assert len(pictures) == 3
    assert not any(ax.get_legend() for ax in pictures)
    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["center, loss 1.25", "capped: loss above 6", "not finite: 1 point"]


def test_slices_are_the_planes_of_a_volume():
    planes, titles = plots.slices(CUBE, count=3)
    assert titles == ["coordinate 3 = -1", "coordinate 3 = 0", "coordinate 3 = 1"]
    for plane, c in zip(planes, (-1.0, 0.0, 1.0), strict=True):
        assert torch.equal(plane.losses, 1 + plane.coords.square().sum(dim=1) + c**2)
    assert [plane.chart["center"] for plane in planes] == [None, [0.0, 0.0], None]
    figure = plots.panel(planes, titles, style="contour", columns=3)
    assert [len(ax.lines) for ax in figure.axes[:3]] == [0, 1, 0]


def test_quadratic_prediction_coincides_with_a_quadratic_loss():
    axis = torch.linspace(-1, 1, 201, dtype=torch.float64)
    bowl = landscape_of(lambda a, b: 0.5 + 0.5 * (4 * a**2 - 3 * b**2), axis, axis)
    ax = plots.contour(bowl, legend=False)
    count = len(ax.collections)
    plots.quadratic_overlay(ax, bowl, [4.0, -3.0])
    measured, predicted = ax.collections[1], ax.collections[count]
    assert np.array_equal(measured.levels, predicted.levels)
    for one, other in zip(measured.get_paths(), predicted.get_paths(), strict=True):
        assert np.allclose(one.vertices, other.vertices, atol=1e-9)
    assert legend_texts(ax) == ["quadratic prediction"]


def test_quadratic_prediction_counts_from_the_center_in_units_of_the_directions():
    parabola = landscape_of(lambda a: 2 + 0.5 * 3 * (5 * (a - 0.25)) ** 2, X, center=(0.25,), norms=[5.0])
    ax = plots.quadratic_overlay(plots.profile(parabola), parabola, [3.0])
    x, y = (np.asarray(data) for data in ax.lines[-1].get_data())
    assert np.allclose(y, 2 + 37.5 * (x - 0.25) ** 2)
    assert legend_texts(ax) == ["center, loss 2", "quadratic prediction"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: plots.surface3d(LINE),
            "surface3d needs a landscape with 2 coordinates, this one has 1; use profile",
        ),
        (lambda: plots.contour(CUBE), "this one has 3; use slices and panel"),
        (lambda: plots.profile(BOWL), "use surface3d or contour"),
        (lambda: plots.slices(BOWL), "slices needs a landscape with 3"),
        (lambda: plots.surface3d(BOWL, Figure().add_subplot()), "projection='3d'"),
        (lambda: plots.contour(BOWL, cap=math.nan), "cap=nan is not allowed"),
        (lambda: plots.contour(BOWL, cap=-1.0, log=True), "cap=-1.0 is not allowed"),
        (lambda: plots.contour(BOWL, limits=(2, 1)), "not in order"),
        (
            lambda: plots.contour(landscape_of(lambda a, b: a + b, [1.0], Y)),
            "two values or more along each axis",
        ),
        (lambda: plots.contour(BOWL._replace(coords=torch.rand(117, 2).double())), "not a mesh"),
        (lambda: plots.panel([BOWL], []), "0 titles for 1 landscapes"),
        (lambda: plots.panel([], []), "0 titles for 0 landscapes"),
        (lambda: plots.panel([BOWL], ["x"], style="surface"), "did you mean 'surface3d'"),
        (lambda: plots.panel([BOWL], ["x"], columns=0), "columns=0"),
        (
            lambda: plots.quadratic_overlay(Figure().add_subplot(), BOWL, [1.0]),
            r"eigenvalues has shape \[1\]",
        ),
        (
            lambda: plots.quadratic_overlay(Figure().add_subplot(), BOWL._replace(center=math.inf), [1, 1]),
            "center",
        ),
    ],
)
def test_what_can_not_be_drawn_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
