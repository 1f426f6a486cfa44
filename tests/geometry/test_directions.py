"""Directions: orthogonal where they can be, scaled to the weights by real norms, exactly zero where frozen."""

from __future__ import annotations

import pytest
import torch

from lla_func import chart, directions
from lla_func.objective._layout import Layout

SHAPES = {
    "conv.weight": (6, 3, 3, 3),
    "conv.bias": (6,),
    "norm.weight": (6,),
    "up.weight": (4, 5, 2, 2),
    "narrow.weight": (7, 1),
    "linear.weight": (10, 12),
    "linear.bias": (10,),
}


@pytest.fixture
def layout():
    tensors = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    return Layout.of(tensors, roles={"norm.weight": "norm"}, filter_axes={"up.weight": 1})


def draw(layout, seed=0, count=2, **options):
    options = {"dtype": torch.float64, **options}
    return directions.random(layout, count, generator=torch.Generator().manual_seed(seed), **options)


def weights(layout, seed=9):
    return torch.randn(layout.numel, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(basis):
    return float(basis[0] @ basis[1] / (basis[0].norm() * basis[1].norm()))


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_directions_are_orthogonal_to_rounding(layout, distribution, dtype):
    basis = draw(layout, distribution=distribution, dtype=dtype)
    assert abs(cosine(basis.double())) < 2 * torch.finfo(dtype).eps


def test_three_directions_are_mutually_orthogonal(layout):
    basis = draw(layout, count=3)
    gram = basis @ basis.T
    assert (gram - gram.diag().diag()).abs().max() < 1e-12


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("kind", [None, "layer", "model", "filter"])
def test_normalized_directions_stay_orthogonal_where_filters_allow_it(layout, kind, order):
    tensors = {name: torch.zeros(shape) for name, shape in SHAPES.items() if name != "narrow.weight"}
    layout = Layout.of(tensors, filter_axes={"up.weight": 1})
    basis = directions.normalize(draw(layout), weights(layout), layout, kind=kind, order=order)
    assert abs(cosine(basis)) < 1e-14


def test_single_element_filters_tilt_the_axes_and_the_summary_reports_the_angle(layout):
    basis = directions.normalize(draw(layout), weights(layout), layout, kind="filter")
    angle = chart.summary(chart.plane(weights(layout), *basis))["angles"][0]
    assert 60 < angle < 120
    assert angle != pytest.approx(90, abs=1e-6)
    assert torch.cos(torch.deg2rad(torch.tensor(angle, dtype=torch.float64))) == pytest.approx(
        cosine(basis), abs=1e-12
    )


@pytest.mark.parametrize("order", [1, 2])
def test_filter_normalization_gives_every_filter_the_norm_of_the_weights(layout, order):
    theta = weights(layout)
    basis = directions.normalize(draw(layout), theta, layout, kind="filter", order=order)
    for name, axis in zip(layout.names, layout.filter_axes, strict=True):
        for direction in basis:
            d, w = layout.unravel(direction)[name], layout.unravel(theta)[name]
            if axis is None:
                d, w = d[None], w[None]
            else:
                d, w = d.movedim(axis, 0), w.movedim(axis, 0)
            for filter_d, filter_w in zip(d, w, strict=True):
                expected = filter_w.abs().sum() if order == 1 else filter_w.square().sum().sqrt()
                actual = filter_d.abs().sum() if order == 1 else filter_d.square().sum().sqrt()
                torch.testing.assert_close(actual, expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("order", [1, 2])
def test_layer_and_model_normalization_match_their_norms(layout, order):
    theta = weights(layout)
    layer = directions.normalize(draw(layout), theta, layout, kind="layer", order=order)
    for name in layout.names:
        actual = layout.unravel(layer[0])[name].flatten().norm(p=order)
        torch.testing.assert_close(
            actual, layout.unravel(theta)[name].flatten().norm(p=order), rtol=1e-12, atol=0
        )
    model = directions.normalize(draw(layout), theta, layout, kind="model", order=order)
    torch.testing.assert_close(model[1].norm(p=order), theta.norm(p=order), rtol=1e-12, atol=0)


def test_weight_normalization_multiplies_element_by_element(layout):
    theta, basis = weights(layout), draw(layout)
    assert torch.equal(directions.normalize(basis, theta, layout, kind="weight"), basis * theta)


def test_normalization_leaves_its_argument_alone_and_takes_the_dtype_of_theta(layout):
    basis = draw(layout)
    before = basis.clone()
    result = directions.normalize(basis, weights(layout).float(), layout, kind="filter", ignore="bias_norm")
    assert torch.equal(basis, before)
    assert result.dtype == torch.float32


def test_zero_weights_and_zero_directions_stay_zero_instead_of_nan(layout):
    theta, basis = weights(layout), draw(layout)
    theta[layout.slices[1]] = 0
    basis[:, layout.slices[5]] = 0
    for kind in directions.KINDS[1:]:
        result = directions.normalize(basis, theta, layout, kind=kind, order=1)
        assert torch.isfinite(result).all()
        assert result[:, layout.slices[5]].eq(0).all()
        if kind != "model":
            assert result[:, layout.slices[1]].eq(0).all()


def test_ignoring_bias_and_norm_moves_weights_only(layout):
    basis = directions.normalize(draw(layout), weights(layout), layout, kind="filter", ignore="bias_norm")
    moved = {name: bool(part.ne(0).any()) for name, part in layout.unravel(basis).items()}
    assert moved == {name: name.endswith("weight") and not name.startswith("norm") for name in SHAPES}


@pytest.mark.parametrize(
    ("rule", "moving"), [(2, [0, 1]), (-2, [2, 3, 4, 5, 6]), ("conv.*", [2, 3, 4, 5, 6])]
)
def test_frozen_parameters_stay_exactly_at_the_trained_values(layout, rule, moving):
    theta = weights(layout)
    plane = chart.plane(theta, *directions.freeze(draw(layout), layout, rule))
    moved = chart.point(plane, torch.tensor([[0.3, -7.1]], dtype=torch.float64))[0]
    for index, piece in enumerate(layout.slices):
        assert torch.equal(moved[piece], theta[piece]) == (index not in moving)


def test_same_seed_same_directions_and_another_seed_others(layout):
    assert torch.equal(draw(layout, seed=3), draw(layout, seed=3))
    assert not torch.equal(draw(layout, seed=3), draw(layout, seed=4))


def test_the_global_random_state_is_neither_read_nor_moved(layout):
    before = torch.get_rng_state()
    draw(layout)
    assert torch.equal(torch.get_rng_state(), before)


def test_uniform_directions_are_symmetric_about_zero():
    layout = Layout.of({"w": torch.zeros(100, 100)})
    drawn = draw(layout, count=1, distribution="uniform", orthogonal=False)
    assert drawn.abs().max() <= 1
    assert drawn.min() < -0.99
    assert abs(float(drawn.mean())) < 0.02


def test_adam_step_is_adams_own_update():
    weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64))
    optimizer = torch.optim.Adam([weight], lr=0.01, betas=(0.8, 0.95), eps=1e-3)
    for gradient in ([1.0, -3.0, 1e-4, 0.0], [0.5, 2.0, -1e-3, 0.0]):
        before = weight.detach().clone()
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    state = optimizer.state[weight]
    first = state["exp_avg"] / (1 - 0.8**2)
    second = state["exp_avg_sq"] / (1 - 0.95**2)
    step = directions.adam_step(first, second, lr=0.01, eps=1e-3)
    torch.testing.assert_close(step, weight.detach() - before, rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda layout: draw(layout, count=0), "count=0 is too small"),
        (
            lambda layout: draw(layout, distribution="gauss"),
            "distribution='gauss' is not one of 'normal', 'uniform'",
        ),
        (
            lambda layout: directions.normalize(draw(layout), weights(layout), layout, kind="filt"),
            "did you mean 'filter'",
        ),
        (
            lambda layout: directions.normalize(
                draw(layout), weights(layout), layout, kind="filter", order=3
            ),
            "order=3 is not one of 1, 2",
        ),
        (
            lambda layout: directions.normalize(torch.zeros(2, 5), weights(layout), layout, kind=None),
            r"basis has shape \[2, 5\]",
        ),
        (
            lambda layout: directions.freeze(draw(layout), layout, 7),
            "freeze=7 is out of range; the model has 7 parameter tensors",
        ),
        (lambda layout: directions.freeze(draw(layout), layout, 0), "freeze=0 is out of range"),
        (lambda layout: directions.freeze(draw(layout), layout, "*"), "matches all 7 parameters"),
        (
            lambda layout: directions.freeze(draw(layout), layout, "feature*"),
            "'feature\\*' matches no parameter",
        ),
        (lambda layout: directions.orthogonalize(torch.ones(2, layout.numel), layout), "linearly dependent"),
        (
            lambda layout: directions.adam_step(torch.ones(2), -torch.ones(2), lr=1, eps=0),
            "second moment is negative",
        ),
    ],
)
def test_bad_input_is_named(layout, call, words):
    with pytest.raises(ValueError, match=words):
        call(layout)


def test_a_missing_generator_is_named(layout):
    with pytest.raises(TypeError, match=r"generator=None is not a torch\.Generator"):
        directions.random(layout, 2, generator=None)


@pytest.mark.parametrize("apart", [1e-2, 1e-5])
def test_nearly_parallel_directions_become_orthogonal_within_every_filter(apart):
    layout = Layout.of({"weight": torch.zeros(5, 8)})
    first = weights(layout)
    basis = directions.orthogonalize(torch.stack([first, first + apart * weights(layout, 1)]), layout)
    one, other = (row.view(5, 8) for row in basis)
    cosines = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    assert cosines.abs().max() < 1e-15
