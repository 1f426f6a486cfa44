"""Where sharpness meets its limits: losses that are not finite, flat or coarse, and models with BatchNorm."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bridges.metrics import Loss
from lla_func import from_loss, sharpness
from lla_func.assessment import SHARPNESS, options_of
from lla_func.assessment._crossing import BISECTIONS, DOUBLINGS, crossing
from tests.cases import build
from tests.state import unchanged

GRADIENTS = ("sam", "sam_max", "asam", "asam_max", "critical_lr")
FEW = {"draws": 4, "steps": 2, "restarts": 2}


def few(kind, **more):
    return {name: value for name, value in {**FEW, **more}.items() if name in options_of(kind)}


@pytest.mark.parametrize("beyond", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_basin_and_no_loop(beyond):
    def loss(t, _):
        return torch.where(t.norm() > 2.0, beyond, t.square().sum())

    objective = from_loss(loss, torch.tensor([1.0, 0.5], dtype=torch.float64))
    radius = sharpness(objective, kind="basin", rise=1e9, draws=6, tol=1e-6)
    for distance, seed in zip(radius.samples[:1].tolist(), [0], strict=True):
        d = torch.randn(2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        assert float((objective.theta + distance * d / d.norm() * objective.theta.norm()).norm()) == (
            pytest.approx(2.0, rel=1e-5)
        )
    assert math.isfinite(sharpness(objective, kind="critical_lr").value)
    assert math.isfinite(sharpness(objective, kind="pac_bayes", rise=1e9, draws=4).value)


@pytest.mark.parametrize("kind", ["sam", "asam", "average"])
def test_a_step_into_nan_is_said_and_not_hidden(kind):
    def loss(t, _):
        return torch.where(t.norm() > 2.0, math.nan, t.square().sum())

    found = sharpness(from_loss(loss, torch.tensor([1.0, 0.5]).double()), kind=kind, rho=50.0)
    assert math.isnan(found.value)
    assert not found.converged
    assert "not finite" in found.note


def test_an_ascent_keeps_away_from_nan():
    def loss(t, _):
        return torch.where(t[0] > 1.5, math.nan, t.square().sum())

    objective = from_loss(loss, torch.tensor([1.0, 0.1]).double())
    found = sharpness(objective, kind="sam_max", rho=1.0, restarts=8, predict=False)
    assert math.isfinite(found.value)
    assert found.value > 0


@pytest.mark.parametrize(
    "function",
    [
        lambda x: math.nan,
        lambda x: -1.0,
        lambda x: 1.0,
        lambda x: math.inf if x > 1e-300 else math.nan,
        lambda x: math.sin(1e6 * x),
    ],
    ids=["nan", "below", "above", "inf", "wild"],
)
def test_a_bracket_ends_whatever_the_function_gives(function):
    found = crossing(function, 0.0, start=0.01)
    assert found.evaluations <= DOUBLINGS + BISECTIONS + 1
    assert found.low < found.high


def test_a_loss_that_never_rises_has_an_infinite_basin_and_says_so():
    flat = from_loss(lambda t, _: t.square().sum().tanh(), torch.tensor([0.1, 0.2]).double())
    for kind in ("basin", "pac_bayes"):
        found = sharpness(flat, kind=kind, rise=2.0, draws=4)
        assert found.value == math.inf
        assert not found.converged
        assert "rise" in found.note or "raises" in found.note


def test_a_slope_without_end_has_no_critical_learning_rate():
    found = sharpness(from_loss(lambda t, _: t.sum(), torch.ones(3).double()), kind="critical_lr")
    assert found.value == math.inf
    assert "no step up to a learning rate" in found.note


def test_a_vanishing_gradient_is_said():
    flat = from_loss(lambda t, _: t.square().sum() + 1, torch.zeros(3).double())
    found = sharpness(flat, kind="sam")
    assert (found.value, found.converged) == (0.0, False)
    assert "the gradient vanishes" in found.note
    with pytest.raises(ValueError, match="the gradient vanishes at theta"):
        sharpness(flat, kind="critical_lr")


def test_a_rise_within_rounding_is_not_called_converged():
    objective = from_loss(lambda t, _: 1e8 + t.square().sum(), torch.ones(3))
    for kind in ("sam", "average"):
        found = sharpness(objective, kind=kind, rho=1e-3)
        assert not found.converged
        assert "rounding" in found.note
        assert abs(found.value) <= found.error


@pytest.mark.parametrize("kind", ["basin", "pac_bayes"])
def test_a_rise_to_reach_within_rounding_is_not_called_converged(kind):
    objective = from_loss(lambda t, _: 1e8 + t.square().sum(), torch.ones(3))
    found = sharpness(objective, kind=kind, rise=1.0, draws=4)
    assert not found.converged
    assert "rounding of float32 losses" in found.note


def test_weights_in_bfloat16_cannot_hold_small_steps_and_a_copy_in_float32_can():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4))
        x, y = torch.randn(32, 20), torch.randint(4, (32,))
    low = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4))
    low.load_state_dict(model.state_dict())
    low.bfloat16()
    metric = Loss(nn.CrossEntropyLoss(), x, y)
    coarse = sharpness(low, Loss(nn.CrossEntropyLoss(), x.bfloat16(), y), kind="sam", rho=0.01)
    assert not coarse.converged
    assert "bfloat16 rounds" in coarse.note
    rounded = model
    rounded.load_state_dict({name: value.float() for name, value in low.state_dict().items()})
    copied = sharpness(
        low, Loss(nn.CrossEntropyLoss(), x.bfloat16(), y), kind="sam", rho=0.01, dtype="float32"
    )
    exact = sharpness(rounded, metric, kind="sam", rho=0.01)
    assert copied.converged
    assert copied.value == pytest.approx(exact.value, rel=0.02)  # the data are rounded, too


@pytest.mark.parametrize("kind", [kind for kind in SHARPNESS if kind != "critical_lr"])  # which goes far
def test_every_kind_says_where_bfloat16_is_too_coarse_for_it(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 4)).bfloat16()
        x, y = torch.randn(32, 20).bfloat16(), torch.randint(4, (32,))
    options = {"rho": 0.01} if "rho" in options_of(kind) else {"rise": 1e-3}
    metric = Loss(nn.CrossEntropyLoss(), x, y)
    options |= few(kind, tol=1e-2)
    coarse = sharpness(model, metric, kind=kind, **options)
    assert not coarse.converged
    assert "bfloat16" in coarse.note
    copy = sharpness(model, metric, kind=kind, dtype="float64", **options)
    assert "bfloat16" not in (copy.note or "")


@pytest.mark.parametrize("kind", SHARPNESS)
@pytest.mark.parametrize("batchnorm", ["eval", "batch"])
def test_a_model_with_batchnorm_is_left_as_it_was(kind, batchnorm):
    case = build("resnet", torch.float64)
    with unchanged(case.model):
        found = sharpness(case.model, case.metric, kind=kind, batchnorm=batchnorm, **few(kind))
    assert math.isfinite(found.value)
    assert found.data_error is None or batchnorm == "eval"


@pytest.mark.parametrize("kind", SHARPNESS)
def test_recalibrated_batchnorm_is_for_kinds_without_gradient(kind):
    case = build("resnet", torch.float64)
    if kind in GRADIENTS:
        with pytest.raises(ValueError, match="recalibrated BatchNorm"):
            sharpness(case.model, case.metric, kind=kind, batchnorm="recalibrate")
    else:
        found = sharpness(case.model, case.metric, kind=kind, batchnorm="recalibrate", **few(kind))
        assert math.isfinite(found.value)


@pytest.mark.parametrize("kind", SHARPNESS)
def test_a_failing_loss_leaves_the_model_as_it_was(kind):
    case, calls = build("mlp", torch.float64), []

    def criterion(prediction, targets):
        calls.append(None)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return case.criterion(prediction, targets)

    metric = Loss(criterion, case.inputs, case.targets, reduction="mean")
    with unchanged(case.model), pytest.raises(KeyboardInterrupt):
        sharpness(case.model, metric, kind=kind, **few(kind))


class Writing(nn.Module):
    """A model that writes into its inputs."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x.mul_(2.0))


@pytest.mark.parametrize("kind", SHARPNESS)
def test_a_model_that_writes_into_its_inputs_finds_them_as_they_were(kind):
    model, x = Writing().double(), torch.randn(6, 3).double()
    y, kept = torch.tensor([0, 1, 0, 1, 1, 0]), x.clone()
    with pytest.warns(RuntimeWarning, match="writes into its data"):
        found = sharpness(model, Loss(nn.CrossEntropyLoss(), x, y), kind=kind, **few(kind))
    plain = nn.Linear(3, 2).double()
    plain.load_state_dict(model.layer.state_dict())
    expected = sharpness(plain, Loss(nn.CrossEntropyLoss(), 2 * x, y), kind=kind, **few(kind))
    assert torch.equal(x, kept)
    assert found.value == pytest.approx(expected.value, rel=1e-9)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "sma"}, "kind='sma' is not one of 'sam'.*did you mean 'sam'"),
        ({"kind": None}, "kind=None is not one of"),
        ({"kind": "sam", "eta": 0.1}, "kind='sam' takes no option 'eta'; it takes rho, over_data"),
        ({"kind": "average", "draw": 4}, "takes no option 'draw'.*did you mean 'draws'"),
        ({"rho": 0.0}, "rho=0.0 is not allowed.*greater than 0"),
        ({"rho": math.nan}, "rho=nan is not allowed"),
        ({"rho": "big"}, "rho='big' is not a number"),
        ({"kind": "asam", "eta": -1}, "eta=-1 is not allowed.*at least 0"),
        ({"kind": "sam_max", "steps": 0}, "steps=0 is too small"),
        ({"kind": "sam_max", "restarts": 1.5}, "restarts=1.5 is not a whole number"),
        ({"kind": "sam_max", "seed": -1}, "seed=-1 is too small"),
        ({"kind": "average", "draws": 3}, "draws=3 is too small"),
        ({"kind": "average", "relative": "no"}, "relative='no' is neither True nor False"),
        ({"over_data": 1}, "over_data=1 is neither True nor False"),
        ({"kind": "basin", "rise": -1.0}, "rise=-1.0 is not allowed"),
        ({"kind": "basin", "quantile": 1.0}, "quantile=1 is not allowed; pass a number between 0 and 1"),
        ({"kind": "critical_lr", "tol": 0}, "tol=0 is not allowed"),
        ({"batchnorm": "train"}, "batchnorm='train' is not one of"),
        ({"dtype": "float32"}, "cannot change an Objective"),
    ],
)
def test_a_bad_option_is_refused_with_what_is_allowed(options, said):
    objective = from_loss(lambda t, _: t.square().sum(), torch.ones(3).double())
    with pytest.raises((ValueError, TypeError), match=said):
        sharpness(objective, **options)


@pytest.mark.parametrize(
    ("loss", "kind", "said"),
    [
        (lambda t, _: t.sum() * math.nan, "average", "the loss at theta is nan"),
        (lambda t, _: t.detach().sum(), "sam", "not a scalar that can be differentiated"),
        (lambda t, _: 0 * t.sum(), "basin", "the loss at theta is zero, so it cannot double; pass rise="),
    ],
)
def test_a_loss_without_this_sharpness_is_refused(loss, kind, said):
    with pytest.raises(ValueError, match=said):
        sharpness(from_loss(loss, torch.ones(3).double()), kind=kind)


def test_what_is_no_objective_is_refused():
    with pytest.raises(TypeError, match="pass an Objective"):
        SHARPNESS["sam"]("a model")
    with pytest.raises(TypeError, match=r"has no objective\(model\) method"):
        sharpness(nn.Linear(2, 1), None)
