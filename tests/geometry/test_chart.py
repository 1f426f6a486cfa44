"""Charts: points are formed from the coordinates alone, and summaries tell norms and angles."""

from __future__ import annotations

import pytest
import torch

from lla_func import chart


def vector(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_a_plane_passes_through_origin_plus_each_direction():
    plane = chart.plane(vector(1, 1, 1), vector(1, 0, 0), vector(0, 2, 0))
    points = chart.point(plane, vector(0, 0, 1, 0, 0, 1, -2, 3).reshape(4, 2))
    assert points.tolist() == [[1, 1, 1], [2, 1, 1], [1, 3, 1], [-1, 7, 1]]


def test_a_volume_and_a_line_have_their_dimensions():
    e = torch.eye(3, dtype=torch.float64)
    assert chart.volume(e[0], *e).dim == 3
    assert chart.line(e[0], e[1]).dim == 1
    assert chart.point(chart.volume(torch.zeros_like(e[0]), *e), vector(1, 2, 3)[None]).tolist() == [
        [1, 2, 3]
    ]


def test_adameq_depends_on_a_over_root_b_only():
    step = vector(0.5, -1.0)
    update = chart.adameq(vector(1, 1), step)
    points = chart.point(update, vector(1, 1, 2, 4, 0, 0.3).reshape(3, 2))
    torch.testing.assert_close(points[0], vector(1, 1) + step)
    torch.testing.assert_close(points[1], points[0])
    assert torch.equal(points[2], vector(1, 1))
    linear = chart.adameq(vector(1, 1), step, b_sqrt=False)
    torch.testing.assert_close(chart.point(linear, vector(4, 2)[None])[0], vector(1, 1) + 2 * step)


def test_adameq_refuses_a_second_coordinate_that_is_not_positive():
    update = chart.adameq(vector(1, 1), vector(1, 0))
    with pytest.raises(ValueError, match=r"adameq needs b > 0 .* the smallest b is 0"):
        chart.point(update, vector(1, 0)[None])


def test_the_center_of_every_chart_is_its_origin():
    e = torch.eye(3, dtype=torch.float64)
    for drawn in (chart.line(e[0], e[1]), chart.plane(e[0], e[1], e[2]), chart.adameq(e[0], e[1])):
        assert torch.equal(chart.point(drawn, vector(*drawn.center)[None])[0], e[0])


def test_summary_gives_norms_and_angles():
    drawn = chart.plane(vector(0, 0), vector(2, 0), vector(3, 3))
    summary = chart.summary(drawn)
    assert summary["norms"] == pytest.approx([2, 18**0.5])
    assert summary["angles"] == pytest.approx([45])
    assert summary["labels"] == ["direction 1", "direction 2"]


def test_summary_of_a_large_basis_equals_that_of_the_whole():
    basis = torch.randn(2, (1 << 20) + 17, generator=torch.Generator().manual_seed(0))
    angle = chart.summary(chart.plane(torch.zeros_like(basis[0]), *basis))["angles"][0]
    cosine = torch.nn.functional.cosine_similarity(basis[0].double(), basis[1].double(), dim=0)
    assert angle == pytest.approx(float(cosine.arccos().rad2deg()), abs=1e-9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: chart.line(vector(1, 2), vector(1)), r"direction 1 has shape torch.Size\(\[1\]\)"),
        (lambda: chart.plane(vector(1), vector(1), torch.ones(1)), "direction 2 has dtype torch.float32"),
        (lambda: chart.line(vector(1), vector(float("inf"))), "direction 1 has NaN or infinite values"),
        (lambda: chart.span(vector(1)), "directions is empty"),
    ],
)
def test_bad_directions_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
