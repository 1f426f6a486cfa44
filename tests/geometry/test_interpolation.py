"""Charts through models give these exactly, with orthonormal axes; what is no line, plane or volume is refused."""

from __future__ import annotations

import pytest
import torch

from lla_func import chart
from tests.cases import DTYPES


def models(count, dtype=torch.float64, *, size=50, scale=1.0):
    generator = torch.Generator().manual_seed(count)
    return [scale * torch.randn(size, generator=generator, dtype=dtype) for _ in range(count)]


def places(through):
    return torch.tensor(list(through.points.values()), dtype=torch.float64)


MAKERS = {
    "line": (chart.linear_interpolation, 2),
    "chain": (chart.polygonal_chain, 5),
    "plane": (chart.planar_interpolation, 3),
    "volume": (chart.spatial_interpolation, 4),
}


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e8])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.bfloat16])
@pytest.mark.parametrize("kind", MAKERS)
def test_every_chart_gives_its_models_bit_for_bit(kind, dtype, scale):
    make, count = MAKERS[kind]
    thetas = models(count, dtype, scale=scale)
    through = make(*thetas)
    assert torch.equal(chart.point(through, places(through)), torch.stack(thetas))


def test_a_line_that_starts_at_one_end_would_miss_the_other():
    a, b = models(2, torch.float32)
    assert not torch.equal(a + 1.0 * (b - a), b)


def test_a_line_is_the_weighted_mean_of_its_ends_and_goes_on_beyond_them():
    a, b = models(2)
    found = chart.point(chart.linear_interpolation(a, b), torch.tensor([[0.25], [-1.0], [3.0]]))
    torch.testing.assert_close(found, torch.stack([0.75 * a + 0.25 * b, 2 * a - b, 3 * b - 2 * a]))


def test_a_chain_goes_straight_from_each_model_to_the_next():
    thetas = models(3)
    found = chart.point(chart.polygonal_chain(*thetas), torch.tensor([[0.5], [1.75], [2.5]]))
    expected = [
        (thetas[0] + thetas[1]) / 2,
        0.25 * thetas[1] + 0.75 * thetas[2],
        1.5 * thetas[2] - 0.5 * thetas[1],
    ]
    torch.testing.assert_close(found, torch.stack(expected))


@pytest.mark.parametrize("kind", ["plane", "volume"])
def test_distances_on_a_plane_or_in_a_volume_are_those_in_weight_space(kind):
    make, count = MAKERS[kind]
    through = make(*models(count))
    coords = torch.randn(6, count - 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(torch.pdist(chart.point(through, coords)), torch.pdist(coords))


def test_axes_of_nearly_collinear_models_are_orthonormal_too():
    a, b = models(2)
    c = a + 0.3 * (b - a) + 1e-3 * models(3)[2]
    coords = torch.eye(2, dtype=torch.float64)
    origin, first, second = chart.point(
        chart.planar_interpolation(a, b, c), torch.cat([0 * coords[:1], coords])
    )
    gram = torch.stack([first - origin, second - origin])
    torch.testing.assert_close(gram @ gram.T, coords, rtol=0, atol=1e-9)


def test_the_first_axis_goes_from_the_first_model_to_the_second():
    through = chart.planar_interpolation(*models(3), labels=("x", "y", "z"))
    assert list(through.points) == ["x", "y", "z"]
    assert through.points["x"] == (0.0, 0.0)
    assert through.points["y"][1] == 0.0
    assert min(through.points["y"][0], through.points["z"][1]) > 0


def test_summaries_keep_the_models_and_know_no_center():
    summary = chart.summary(chart.linear_interpolation(*models(2)))
    assert summary["points"] == {"a": [0.0], "b": [1.0]}
    assert summary["center"] is None


A, B, C = models(3)


@pytest.mark.parametrize(
    ("make", "given", "words"),
    [
        (chart.linear_interpolation, (A, A), "'a' and 'b' are equal"),
        (chart.linear_interpolation, (A, B[:3]), "b has shape .*, a has"),
        (chart.linear_interpolation, (A, B.float()), "b has dtype torch.float32, a has torch.float64"),
        (chart.linear_interpolation, (A, B / 0), "b has NaN or infinite"),
        (chart.linear_interpolation, (A[None], B[None]), r"a has shape \[1, 50\]; pass \[P\]"),
        (chart.polygonal_chain, (A,), "there are 1 models; pass two or more"),
        (chart.polygonal_chain, (A, B, B), "'b' and 'c' are equal"),
        (chart.planar_interpolation, (A, A, B), "'a' and 'b' are equal"),
        (chart.planar_interpolation, (A, B, A), "'c' lies on the line through 'a', 'b'"),
        (chart.planar_interpolation, (A, B, 3 * A - 2 * B), "'c' lies on the line .* polygonal chain"),
        (chart.spatial_interpolation, (A, B, C, A + B - C), "'d' lies in the plane through 'a', 'b', 'c'"),
    ],
)
def test_what_spans_no_chart_is_refused_with_the_models_names(make, given, words):
    with pytest.raises(ValueError, match=words):
        make(*given)


@pytest.mark.parametrize("labels", [("a",), ("a", "a"), ()])
def test_labels_name_each_model_once(labels):
    with pytest.raises(ValueError, match="labels"):
        chart.linear_interpolation(A, B, labels=labels)


def test_what_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="b is of type list; pass a tensor"):
        chart.linear_interpolation(A, [1.0])
