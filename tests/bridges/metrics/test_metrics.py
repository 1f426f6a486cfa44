"""Claims about metrics: the ways to write one and to call one, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import grad, vmap
from torch.nn import functional as F

from bridges.metrics import Loss, Metric
from bridges.models._wrapper import ModelWrapper, wrap_model
from lla_func.facades._landscape import viz_lla
from lla_func.objective._objective import risk, samples
from tests import loader_of_the_original
from tests.cases import build
from tests.state import unchanged

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(12) % 3
SOFT = torch.rand(12, 3, generator=torch.Generator().manual_seed(1))


def test_inputs_may_be_positional_or_keyword_arguments():
    case = build("two_inputs")
    a, b = case.inputs
    positional = case.metric.objective(case.model)
    named = Loss(case.criterion, {"b": b, "a": a, "scale": torch.ones(len(a)).double()}, case.targets)
    torch.testing.assert_close(risk(named.objective(case.model)), risk(positional))
    assert named.objective(case.model).separable


def test_calls_of_the_original_work():
    case = build("mlp")
    with unchanged(case.model):
        number = case.metric(ModelWrapper(case.model))
        loss, prediction = case.metric(None, model=case.model, use_wrapper=False, return_pred=True)
        few, _ = case.metric(
            None,
            model=case.model,
            batch=(case.inputs[:2], case.targets[:2]),
            use_wrapper=False,
            return_pred=True,
        )
    assert isinstance(number, float)
    assert number == pytest.approx(loss.item(), rel=1e-12)
    assert loss.requires_grad
    assert prediction.shape == (20, 3)
    torch.testing.assert_close(few, F.cross_entropy(case.model(case.inputs[:2]), case.targets[:2]))


def test_wrapping_a_model_does_not_freeze_it():
    model = build("transformer").model
    with unchanged(model):
        wrapper = wrap_model(model)
    assert wrap_model(wrapper) is wrapper
    assert wrapper.modules == [model]
    assert [p.shape for p in wrapper.parameters()] == [p.shape for p in model.parameters()]
    assert dict(wrapper.named_parameters()).keys() == dict(model.named_parameters()).keys()
    assert not wrapper.eval().model.training
    assert wrapper.train().model.training
    assert wrapper.forward(torch.ones(1, 2, 8, dtype=torch.float64), enc=True).shape == (1, 2, 8)


def test_a_loader_of_the_original_runs_with_only_its_imports_changed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = loader_of_the_original.ModelInit()
    inputs, target = next(iter(loader_of_the_original.CustomLoader()))
    metric = loader_of_the_original.CustomLoss(inputs, target, "cpu")
    with unchanged(model):
        objective = metric.objective(model)
        assert float(risk(objective)) == pytest.approx(metric(wrap_model(model)), rel=1e-6)
        assert grad(objective.loss)(objective.theta, objective.batches[0]).norm() > 0
        vmap(objective.loss, in_dims=(0, None))(objective.theta.expand(2, -1), objective.batches[0])
    assert objective.batches[0][1].dtype == torch.float32
    assert not objective.separable


def test_its_one_pass_loader_can_be_read_whole():
    model = loader_of_the_original.ModelInit()
    wrapped = loader_of_the_original.CustomLoader()
    metric = Loss.from_loader(lambda p, y: F.cross_entropy(p, y.long()), wrapped)
    assert [samples(batch) for batch in metric.objective(model).batches] == [8, 8, 4]
    assert metric(model) == metric(model)


class Whole(Metric):
    """A pipeline that takes only a model."""

    def __call__(self, model):
        return model(X).square().mean()


class WholeNumber(Metric):
    def __call__(self, model):
        return model(X).square().mean().item()


def test_a_metric_that_takes_only_a_model_has_one_empty_batch():
    model = nn.Linear(4, 3)
    objective = Whole().objective(model)
    assert objective.batches == [()]
    assert float(risk(objective)) == pytest.approx(model(X).square().mean().item(), rel=1e-6)
    assert grad(objective.loss)(objective.theta, ()).norm() > 0


def test_a_metric_that_returns_a_number_has_a_landscape_but_no_derivatives():
    model = nn.Linear(4, 3)
    objective = WholeNumber().objective(model)
    assert risk(objective) == risk(Whole().objective(model))
    with (
        unchanged(model),
        pytest.raises(TypeError, match=r"has no derivative; return the tensor, without .item"),
    ):
        grad(objective.loss)(objective.theta, ())


class Accuracy(Metric):
    """The share of samples that are told right."""

    def __call__(self, model):
        return float((model(X).argmax(1) == CLASSES).float().mean())


class CartPole(Metric):
    """How many of 30 steps a policy keeps the pole of Barto, Sutton and Anderson (1983) upright."""

    def __call__(self, model):
        position, velocity, angle, turning = 0.02, -0.01, 0.03, 0.02
        for steps in range(30):
            state = torch.tensor([position, velocity, angle, turning])
            force = 10.0 if int(model(state).argmax()) else -10.0
            push = (force + 0.05 * turning**2 * math.sin(angle)) / 1.1
            sway = 9.8 * math.sin(angle) - math.cos(angle) * push
            bend = sway / (0.5 * (4 / 3 - 0.1 * math.cos(angle) ** 2 / 1.1))
            speeding = push - 0.05 * bend * math.cos(angle) / 1.1
            position, velocity = position + 0.02 * velocity, velocity + 0.02 * speeding
            angle, turning = angle + 0.02 * turning, turning + 0.02 * bend
            if abs(position) > 2.4 or abs(angle) > 0.21:
                return steps
        return 30


@pytest.mark.parametrize("metric", [Accuracy(), CartPole()], ids=["accuracy", "return"])
def test_a_metric_that_returns_a_number_takes_the_loop_quietly(metric):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    with unchanged(model):
        result = viz_lla(model, metric, steps=6, num_plots=1, seed=0, to_save=False, to_viz=False)
    (landscape,) = result.landscapes
    assert landscape.diagnostics["engine"] == "loop"
    assert len(set(landscape.losses.tolist())) > 1
    assert landscape.center == metric(model)
    looped = viz_lla(model, metric, steps=6, num_plots=1, seed=0, to_save=False, to_viz=False, engine="loop")
    assert torch.equal(landscape.losses, looped.landscapes[0].losses)


@pytest.mark.parametrize("kind", [int, float, bool, np.float32, np.float64])
def test_a_number_of_any_kind_is_a_loss(kind):
    class One(Metric):
        def __call__(self, model):
            return kind(model(X).sum().item() > -1e9)

    assert risk(One().objective(nn.Linear(4, 3))) == 1


def test_a_metric_with_its_own_loss_can_be_called_like_any_other():
    class Size(Metric):
        def loss(self, model, batch):
            return model(batch[0]).abs().mean()

    model, metric = nn.Linear(4, 3), Size(X, CLASSES)
    assert metric(ModelWrapper(model)) == pytest.approx(model(X).abs().mean().item())
    loss, prediction = metric(None, model=model, use_wrapper=False, return_pred=True)
    assert loss.requires_grad
    assert prediction is None


def test_a_subclass_of_loss_keeps_its_own_call():
    class Doubled(Loss):
        def __call__(self, *args, return_pred=False, **options):
            loss, prediction = super().__call__(*args, return_pred=True, **options)
            return (2 * loss, prediction) if return_pred else 2 * loss.item()

    model = nn.Linear(4, 3)
    doubled = Doubled(nn.CrossEntropyLoss(), X, CLASSES).objective(model)
    torch.testing.assert_close(
        risk(doubled), 2 * risk(Loss(nn.CrossEntropyLoss(), X, CLASSES).objective(model))
    )
    assert not doubled.separable


BAD_CRITERIA = {
    "a name": ("mse", {}, TypeError, "criterion is of type str, which cannot be called"),
    "a class": (nn.MSELoss, {}, TypeError, r"criterion is the class MSELoss; pass an instance, MSELoss\(\)"),
    "none": (nn.MSELoss(reduction="none"), {}, ValueError, "criterion has reduction='none'"),
    "unknown": (
        F.mse_loss,
        {"reduction": "men"},
        ValueError,
        "reduction='men' is not one of .* did you mean 'mean'",
    ),
    "both": (
        nn.MSELoss(),
        {"reduction": "sum"},
        ValueError,
        "reduction='sum', but the criterion has .*'mean'",
    ),
}


@pytest.mark.parametrize("name", BAD_CRITERIA)
def test_a_criterion_that_gives_no_loss_is_refused_with_the_reason(name):
    criterion, options, error, message = BAD_CRITERIA[name]
    with pytest.raises(error, match=message):
        Loss(criterion, X, SOFT, **options)


BAD_LOSSES = {
    "vector": (
        lambda p, y: p.mean(1),
        ValueError,
        r"the loss has shape \[12\], .* reduction='mean' or 'sum'",
    ),
    "complex": (lambda p, y: p.sum() * 1j, ValueError, "the loss has dtype torch.complex64"),
    "text": (lambda p, y: "low", TypeError, "the loss is of type str; a scalar tensor is needed"),
}


@pytest.mark.parametrize("name", BAD_LOSSES)
def test_a_loss_that_is_no_scalar_is_refused_with_the_reason(name):
    criterion, error, message = BAD_LOSSES[name]
    model = nn.Linear(4, 3)
    with unchanged(model), pytest.raises(error, match=message):
        risk(Loss(criterion, X, SOFT).objective(model))


def test_a_metric_without_a_loss_is_told_what_it_lacks():
    class Empty(Metric):
        pass

    with pytest.raises(TypeError, match=r"Empty needs a method loss\(model, batch\) or __call__\(model\)"):
        risk(Empty().objective(nn.Linear(1, 1)))
