"""The barrier: closed forms, refined between the points; zero on what is convex; no number where losses are NaN."""

from __future__ import annotations

import math

import pytest
import torch

from lla_func import barrier, chart, from_loss
from lla_func.landscape._evaluate import evaluate


def along(function, *, dtype=torch.float64):
    """A loss that is this function of t on a line, with the line from 0 to 1."""
    ends = torch.zeros(2, dtype=dtype), torch.tensor([1.0, 3.0], dtype=dtype)
    return from_loss(lambda theta, _: function(theta[0]), ends[0]), chart.linear_interpolation(*ends)


def well(t, tilt=0.0):
    """Minima at 0 and 1, the second lower by the tilt, with a barrier of 1 at 1/2 where nothing is tilted."""
    return 16 * t**2 * (1 - t) ** 2 - tilt * t


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e8])
@pytest.mark.parametrize("steps", [4, 10, 41])
def test_the_barrier_of_a_double_well_is_known_whatever_the_points(steps, scale):
    found = barrier(*along(lambda t: scale * well(t)), steps=steps)
    assert found.estimate.value == pytest.approx(scale, rel=1e-6)
    assert abs(found.estimate.value - scale) <= 2 * found.estimate.error + 1e-12 * scale
    assert found.at == pytest.approx(0.5, abs=1e-3)
    assert found.estimate.converged


def test_the_chord_is_taken_off_a_tilted_double_well():
    found = barrier(*along(lambda t: well(t, tilt=0.7)), steps=8)
    assert found.estimate.value == pytest.approx(1, rel=1e-6)
    assert found.ends == pytest.approx((0, -0.7))


def test_a_kink_between_two_points_is_found():
    found = barrier(*along(lambda t: -(t - 0.3 * math.sqrt(2)).abs()), steps=11)
    top = 0.3 * math.sqrt(2)
    assert found.at == pytest.approx(top, abs=1e-4)
    expected = (1 - top) * top + top * (1 - top)
    assert found.estimate.value == pytest.approx(expected, rel=1e-4)
    assert abs(found.estimate.value - expected) <= 2 * found.estimate.error + 1e-12


def test_the_highest_of_several_maxima_counts_also_if_another_point_is_higher():
    # the peak at 0.23 is higher, but points of the mesh see more of the broad one
    peaks = lambda t: 2 * torch.exp(-(((t - 0.23) / 0.03) ** 2)) + 1.2 * torch.exp(-(((t - 0.7) / 0.1) ** 2))  # noqa: E731
    found = barrier(*along(peaks), steps=11)
    assert found.at == pytest.approx(0.23, abs=1e-2)
    assert found.estimate.value == pytest.approx(2, rel=1e-2)


@pytest.mark.parametrize("function", [lambda t: (t - 0.4) ** 2, lambda t: 0 * t + 3, lambda t: 5 - 2 * t])
def test_there_is_no_barrier_where_the_loss_is_convex(function):
    found = barrier(*along(function))
    assert 0 <= found.estimate.value <= 1e-14
    assert found.estimate.note == "no barrier"
    assert found.estimate.error >= torch.finfo(torch.float64).eps * max(map(abs, found.ends))


def test_rounding_of_float32_is_part_of_the_error():
    found = barrier(*along(lambda t: 1000 + well(t), dtype=torch.float32))
    assert found.estimate.value == pytest.approx(1, abs=2 * found.estimate.error)
    assert 1e-5 < found.estimate.error < 1e-2


def test_points_that_were_evaluated_are_used_again():
    calls = 0

    def counted(t):
        nonlocal calls
        calls += 1
        return well(t)

    objective, line = along(counted)
    coords = torch.linspace(-0.5, 1.5, 81, dtype=torch.float64)[:, None]
    landscape = evaluate(objective, line, coords, engine="loop")
    calls = 0
    found = barrier(objective, line, landscape)
    assert found.estimate.value == pytest.approx(1, rel=1e-6)
    assert calls < 30


def test_a_piece_of_a_chain_has_its_own_barrier():
    thetas = [torch.tensor([float(i)], dtype=torch.float64) for i in range(3)]
    objective = from_loss(lambda theta, _: well(theta[0] % 1) * (1 + theta[0].floor()), thetas[0])
    chain = chart.polygonal_chain(*thetas)
    heights = [barrier(objective, chain, between=(i, i + 1)).estimate.value for i in range(2)]
    assert heights == pytest.approx([1, 2], rel=1e-6)


def test_the_chord_is_that_of_the_two_points_however_far_they_are_apart():
    found = barrier(*along(lambda t: well((t + 1) / 3, tilt=0.7)), between=(-1, 2), steps=8)
    assert found.estimate.value == pytest.approx(1, rel=1e-6)
    assert found.at == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(("value", "expected"), [(math.inf, math.inf), (math.nan, math.nan)])
def test_losses_that_are_not_finite_are_no_barrier_of_some_height(value, expected):
    found = barrier(*along(lambda t: torch.where((t > 0.4) & (t < 0.6), value, t)), steps=11)
    assert found.estimate.value == pytest.approx(expected, nan_ok=True)
    assert not found.estimate.converged
    assert "not finite" in found.estimate.note


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"between": (1.0, 0.0)}, "is no interval"),
        ({"between": (0.0, math.inf)}, r"between\[1\]=inf"),
        ({"steps": 1}, "steps=1 is too small"),
        ({"engine": "rope"}, "engine='rope' is not one of"),
    ],
)
def test_what_is_no_line_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        barrier(*along(well), **given)


def test_a_plane_has_no_barrier():
    e = torch.eye(3, dtype=torch.float64)
    objective = from_loss(lambda theta, _: theta.sum(), e[0])
    with pytest.raises(ValueError, match="chart has 2 coordinates"):
        barrier(objective, chart.planar_interpolation(*e))
