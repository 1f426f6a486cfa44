"""Along what viz_lla moves: random, Adam's and given directions, and what is said where nothing changes along them."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from bridges import metrics
from lla_func import directions, from_loss, risk, store, viz_lla


def trained(model, metric, kind=torch.optim.Adam, steps=3):
    optimizer = kind(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        metric(None, model=model, use_wrapper=False, return_pred=True)[0].backward()
        optimizer.step()
    optimizer.zero_grad()
    return optimizer


def test_all_modes_of_the_random_axes_differ_in_normalization_only(run):
    result = run(viz_dev=True, to_save=True)
    assert result.paths["surface"].name == "default_all_modes.png"
    assert result.titles == (
        "random axes, no norm",
        "random axes, weight norm",
        "random axes, filter L1 norm",
        "random axes, filter L2 norm",
    )
    assert len({tuple(landscape.losses.tolist()) for landscape in result.landscapes}) == 4


def test_all_modes_of_adam_are_ten_panels(run, model, metric):
    result = run(viz_dev=True, axes="adam", optimizer=trained(model, metric))
    assert len(result.landscapes) == 10
    assert [landscape.chart["kind"] for landscape in result.landscapes] == ["plane"] * 8 + ["adameq"] * 2


def test_adam_axes_are_the_moments(run, model, metric):
    optimizer = trained(model, metric)
    moments = metric.moments(model, optimizer)
    adam = run(axes="adam", optimizer=optimizer).landscapes[0]
    given = run(axes=torch.stack([moments.first, moments.second])).landscapes[0]
    assert torch.equal(adam.losses, given.losses)


def test_adameq_moves_along_adams_last_step(run, model, metric):
    optimizer = trained(model, metric)
    objective, moments = metric.objective(model), metric.moments(model, optimizer)
    step = directions.adam_step(moments.first, moments.second, lr=moments.lr, eps=moments.eps)
    landscape = run(axes="adam", mode="adameq", optimizer=optimizer, steps=3, b_sqrt=False).landscapes[0]
    a, b = landscape.coords.T
    expected = [float(risk(objective, objective.theta + float(k) * step)) for k in a / b]
    assert landscape.losses.tolist() == pytest.approx(expected, rel=1e-5)
    assert landscape.chart["center"] == [0, 1]


def test_adameq_shows_dist_adam_steps_to_both_sides(run, model, metric):
    options = {"axes": "adam", "mode": "adameq", "optimizer": trained(model, metric)}
    for dist in (1.0, 2.5):
        a, b = run(dist=dist, **options).landscapes[0].coords.T
        assert (float(a.min()), float(a.max())) == (-dist, dist)
        assert (float(b.min()), float(b.max())) == pytest.approx((0.1, 2.1))


def test_fixed_directions_are_saved_so_that_the_run_can_be_repeated(run, model, metric):
    given = torch.randn(2, 39, generator=torch.Generator().manual_seed(5))
    first = run(axes=given, to_save=True)
    assert json.loads(first.paths["settings"].read_text())["axes"] == "given"
    saved = torch.as_tensor(store.load_arrays(first.paths["directions"])["directions"])
    assert torch.equal(saved, given)
    assert torch.equal(run(axes=saved).landscapes[0].losses, first.landscapes[0].losses)
    adam = run(axes="adam", optimizer=trained(model, metric), mode="adameq")
    assert adam.directions.shape == (2, 39)
    assert run(num_plots=1).directions is None


@pytest.mark.parametrize("options", [{"freeze": "2.bias"}, {"ignore": "bias_norm"}])
@pytest.mark.parametrize("normalization", [None, "filter", "layer", "model", "weight"])
def test_freezing_a_single_number_does_not_tilt_the_axes(options, normalization):
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    metric = metrics.Loss(nn.MSELoss(), torch.randn(9, 4), torch.randn(9, 1))
    result = viz_lla(
        model, metric, normalization=normalization, steps=2, num_plots=3, seed=0, to_save=False, **options
    )
    for landscape in result.landscapes:
        assert landscape.chart["angles"][0] == pytest.approx(90, abs=1e-3)


def test_directions_along_which_nothing_moves_are_refused(metric):
    model = nn.Sequential(nn.Linear(5, 3))
    nn.init.zeros_(model[0].weight)
    nn.init.zeros_(model[0].bias)
    with pytest.raises(ValueError, match=r"nothing moves along .*normalization='filter'"):
        viz_lla(model, metric, normalization="filter", steps=2, to_save=False)


class Adapted(nn.Module):
    """A frozen layer with a low-rank adapter, fresh: its second factor is zero."""

    def __init__(self, head=False):
        super().__init__()
        self.base = nn.Linear(5, 3).requires_grad_(False)
        self.lora_A, self.lora_B = nn.Linear(5, 2, bias=False), nn.Linear(2, 3, bias=False)
        nn.init.zeros_(self.lora_B.weight)
        self.head = nn.Linear(3, 3) if head else nn.Identity()

    def forward(self, x):
        return self.head(self.base(x) + self.lora_B(self.lora_A(x)))


class Dead(nn.Module):
    """Hidden units that no input wakes, so that the weights before them do nothing."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 4), nn.Linear(4, 3, bias=False).requires_grad_(False)
        nn.init.constant_(self.first.bias, -1e4)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Pruned(nn.Module):
    """One unit, whose outgoing weights are pruned but for a class that scales away."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(5, 2, bias=False), nn.Linear(2, 3, bias=False)
        nn.init.zeros_(self.second.weight)
        self.second.weight.data[0] = 1.0

    def forward(self, x):
        return self.second(self.first(x))[:, 1:].repeat(1, 2)[:, :3]


class Sparse(nn.Module):
    """Every second weight of the first layer is zero, and it reads the inputs that aren't there."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 2, bias=False), nn.Linear(2, 3, bias=False)
        self.first.weight.data[:, ::2] = 0.0

    def forward(self, x):
        return self.second(self.first(0.0 * x[:, 1:]))


FLAT = {  # model, options: what is said
    "a fresh adapter": (
        lambda: Adapted(),
        {"normalization": "filter"},
        r"random plane 1, random plane 2: the surface is flat: every loss is .* to rounding, so what moves "
        r"\(lora_A.weight\) has no effect .*At rest: lora_B.weight; the weights there are zero.*normalization=None",
    ),
    "a fresh adapter beside a head": (
        lambda: Adapted(head=True),
        {"normalization": "filter"},
        "of lora_B.weight nothing is shown: the weights there are zero, and directions are scaled to the weights",
    ),
    "a fresh adapter scaled element by element": (
        lambda: Adapted(),
        {"normalization": "weight", "engine": "loop"},
        "surface is flat.* At rest: lora_B.weight",
    ),
    "zero filters": (
        lambda: Pruned(),
        {"normalization": "filter"},
        "is flat.* At rest: 2 of 5 filters; the weights",
    ),
    "zeros without a zero filter": (
        lambda: Sparse(),
        {"normalization": "weight"},
        r"is flat: .*what moves \(first.weight, second.weight\) has no effect .*Look for units",
    ),
    "dead units": (
        lambda: Dead(),
        {},
        r"flat.*what moves \(first.weight, first.bias\) has no effect .*Look for units that are dead or saturated",
    ),
    "too small a distance": (lambda: nn.Linear(5, 3), {"dist": 1e-12}, "a dist too small to change the loss"),
}


@pytest.mark.parametrize("name", FLAT)
def test_a_flat_surface_comes_with_the_reason(metric, name):
    make, options, words = FLAT[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
    with pytest.warns(UserWarning, match=words) as caught:
        viz_lla(model, metric, num_plots=2, steps=3, seed=0, to_save=False, **options)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_surfaces_that_are_not_flat_come_without_a_warning(metric):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        models = Adapted(), Adapted(head=True), nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3))
    bowl = from_loss(lambda theta, _: theta.square().sum(), torch.zeros(2))
    viz_lla(
        bowl, axes=torch.eye(2), steps=2, to_save=False
    )  # equal at all four corners, but not at the center
    viz_lla(models[0], metric, num_plots=1, steps=3, seed=0, to_save=False)
    frozen = {"freeze": "lora_B.*", "normalization": "filter"}
    viz_lla(models[1], metric, num_plots=1, steps=3, seed=0, to_save=False, **frozen)
    viz_lla(models[2], metric, num_plots=1, steps=3, seed=0, to_save=False, normalization="filter")


def test_an_optimizer_that_is_not_adam_like_or_has_not_stepped_is_refused(run, model, metric):
    with pytest.raises((ValueError, TypeError), match="SGD"):
        run(axes="adam", optimizer=trained(model, metric, torch.optim.SGD))
    with pytest.raises(ValueError, match="step"):
        run(axes="adam", optimizer=torch.optim.Adam(model.parameters()))


def test_a_learning_rate_that_is_given_scales_adams_step(run, model, metric):
    options = {"axes": "adam", "mode": "adameq", "optimizer": trained(model, metric), "steps": 3}
    own, same, tenfold = (
        run(adam_lr=lr, **options).landscapes[0].chart["norms"][0] for lr in (None, 0.01, 0.1)
    )
    assert same == pytest.approx(own)
    assert tenfold == pytest.approx(10 * own)
