"""Claims about curves: their ends, the points that they go through, what engines make of them, and their plane."""

from __future__ import annotations

import pytest
import torch

from lla_func.geometry import CURVES, bezier, chain, chart, plane_of
from lla_func.landscape._evaluate import evaluate
from lla_func.objective._objective import risk
from tests.cases import objective
from tests.engines import every_engine


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("kind", CURVES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_ends_of_a_curve_are_the_given_points_bit_for_bit(kind, dtype, count):
    points = (draw(count, 50) * 10 ** draw(count, 50, seed=1)).to(dtype)
    found = chart.point(CURVES[kind](points), torch.tensor([[0.0], [1.0]], dtype=torch.float64))
    assert torch.equal(found, points[[0, -1]])


@pytest.mark.parametrize("count", [2, 3, 4, 7])
def test_a_bezier_curve_is_that_of_de_casteljau(count):
    points, t = draw(count, 5), torch.rand(9, generator=torch.Generator().manual_seed(1)).double()
    expected = []
    for at in t:
        level = points
        while len(level) > 1:
            level = (1 - at) * level[:-1] + at * level[1:]
        expected.append(level[0])
    torch.testing.assert_close(chart.point(bezier(points), t[:, None]), torch.stack(expected))


@pytest.mark.parametrize("count", [2, 3, 6])
def test_a_chain_goes_through_its_pivots_and_straight_between_and_beyond_them(count):
    points, curve = draw(count, 4), chain(draw(count, 4))
    t = torch.linspace(0, 1, count, dtype=torch.float64)
    torch.testing.assert_close(chart.point(curve, t[:, None]), points)
    step = 1 / (count - 1)
    halves = chart.point(curve, (t[:-1] + step / 2)[:, None])
    torch.testing.assert_close(halves, (points[:-1] + points[1:]) / 2)
    beyond = chart.point(curve, torch.tensor([[-step], [1 + step]], dtype=torch.float64))
    torch.testing.assert_close(beyond, torch.stack([2 * points[0] - points[1], 2 * points[-1] - points[-2]]))


@every_engine()
@pytest.mark.parametrize("kind", CURVES)
def test_every_engine_gives_the_losses_of_the_points_on_a_curve(kind, engine):
    asked = objective("cnn")
    points = asked.theta + 0.1 * draw(4, len(asked.theta))
    curve, t = CURVES[kind](points), torch.tensor([[0.0], [0.2], [0.7], [1.0]], dtype=torch.float64)
    losses = evaluate(asked, curve, t, engine=engine).losses
    expected = torch.stack([risk(asked, theta) for theta in chart.point(curve, t)])
    torch.testing.assert_close(losses, expected)


def test_the_plane_of_three_points_holds_the_whole_curve():
    points = draw(3, 40)
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    found = plane_of(bezier(points), t)
    length = float((points[-1] - points[0]).norm())
    assert float(found.distances.max()) < 1e-12 * length
    torch.testing.assert_close(found.marks[[0, 2]], torch.tensor([[0.0, 0.0], [1.0, 0.0]]).double())
    torch.testing.assert_close(chart.point(found.chart, found.marks), points)
    torch.testing.assert_close(chart.point(found.chart, found.path), chart.point(bezier(points), t[:, None]))
    axes = found.chart.basis
    torch.testing.assert_close(axes @ axes.T, length**2 * torch.eye(2).double())


def test_of_more_points_the_plane_says_how_far_the_curve_leaves_it():
    points = torch.zeros(4, 6, dtype=torch.float64)
    points[1], points[2], points[3] = (torch.eye(6).double()[i] for i in (1, 2, 0))
    points[1] *= 3
    found = plane_of(chain(points), torch.tensor([1 / 3, 2 / 3]).double())
    offsets = chart.point(chain(points), torch.tensor([[1 / 3], [2 / 3]]).double())
    expected = (offsets - chart.point(found.chart, found.path)).norm(dim=1)
    torch.testing.assert_close(found.distances, expected)
    assert float(found.distances[0]) < 0.2 < 0.9 < float(found.distances[1])


@pytest.mark.parametrize(
    "points", [torch.tensor([[0.0, 0], [1, 1], [2, 2]]), torch.tensor([[1.0, 0], [0, 5], [1, 0]])]
)
def test_a_straight_or_closed_curve_has_no_plane(points):
    with pytest.raises(ValueError, match="straight|ends where it begins"):
        plane_of(bezier(points), torch.zeros(1))


@pytest.mark.parametrize("kind", CURVES)
@pytest.mark.parametrize(
    ("points", "says"),
    [
        (torch.ones(1, 3), "at least two points"),
        (torch.ones(3), r"pass \[K, P\]"),
        (torch.tensor([[1.0], [float("nan")]]), "NaN"),
        ([[1.0], [2.0]], "pass a tensor"),
    ],
)
def test_points_that_make_no_curve_are_refused(kind, points, says):
    with pytest.raises((ValueError, TypeError), match=f"points .*{says}"):
        CURVES[kind](points)
