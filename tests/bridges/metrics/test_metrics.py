"""Claims about metrics: the ways to write one, to call one, and what is decided about cutting batches."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import grad, vmap
from torch.nn import functional as F

from bridges.metrics import Loss, Metric
from bridges.metrics._reduction import averages, reduction_of
from bridges.models._wrapper import ModelWrapper, wrap_model
from lla_func.facades._landscape import viz_lla
from lla_func.objective._objective import risk, samples, tiles
from tests import loader_of_the_original
from tests.cases import build, every_case
from tests.state import unchanged


@every_case()
def test_a_separable_loss_is_the_weighted_mean_of_its_tiles(name, dtype):
    case = build(name, dtype)
    objective = Loss(case.criterion, case.inputs, case.targets).objective(case.model)
    assert objective.separable == (name != "quadratic"), "its criterion is a function nobody knows"
    (batch,) = objective.batches
    with torch.no_grad():
        whole = objective.loss(objective.theta, batch)
        parts = [(objective.loss(objective.theta, tile), samples(tile)) for tile in tiles(batch, 3)]
    assert len(parts) > 1
    torch.testing.assert_close(sum(loss * count for loss, count in parts) / samples(batch), whole)


X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(12) % 3
SOFT = torch.rand(12, 3, generator=torch.Generator().manual_seed(1))
KINDS = {
    "regression": (nn.MSELoss(), SOFT, True),
    "regression in double": (lambda p, y: F.mse_loss(p.double(), y), SOFT.double(), False),
    "soft labels": (nn.CrossEntropyLoss(), SOFT.softmax(1), True),
    "label smoothing": (nn.CrossEntropyLoss(label_smoothing=0.1), CLASSES, True),
    "binary": (nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0)), SOFT.round(), True),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), CLASSES, True),
    "sum with weights": (nn.CrossEntropyLoss(weight=torch.ones(3), reduction="sum"), CLASSES, True),
    "batchmean": (nn.KLDivLoss(reduction="batchmean"), SOFT, True),
    "class weights": (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0])), CLASSES, True),
    "class weights, soft labels": (nn.CrossEntropyLoss(weight=torch.rand(3)), SOFT.softmax(1), True),
    "class weights, smoothed": (nn.CrossEntropyLoss(torch.rand(3), label_smoothing=0.1), CLASSES, True),
    "weights of elements": (nn.BCEWithLogitsLoss(weight=torch.rand(12, 1)), SOFT.round(), False),
    "ignored targets": (nn.CrossEntropyLoss(ignore_index=2), CLASSES, True),
    "function": (F.cross_entropy, CLASSES, True),
    "function with ignored targets": (F.cross_entropy, CLASSES.masked_fill(CLASSES == 2, -100), True),
    "partial": (functools.partial(F.cross_entropy, reduction="sum"), CLASSES, False),
    "lambda": (lambda p, y: F.cross_entropy(p, y), CLASSES, False),
}


@pytest.mark.parametrize("name", KINDS)
def test_criteria_of_every_kind_work_and_only_known_ones_are_cut(name):
    criterion, targets, separable = KINDS[name]
    model = nn.Linear(4, 3)
    metric = Loss(criterion, X, targets)
    with unchanged(model):
        objective = metric.objective(model)
        found = risk(objective)
    assert objective.separable is separable
    assert metric.target.dtype == targets.dtype
    torch.testing.assert_close(found, criterion(model(X), targets).detach().double(), check_dtype=False)
    assert float(found) == pytest.approx(metric(model), rel=1e-6)


@pytest.mark.parametrize(
    ("criterion", "told", "expected"),
    [
        (nn.MSELoss(), None, "mean"),
        (nn.MSELoss(reduction="sum"), None, "sum"),
        (functools.partial(F.mse_loss, reduction="sum"), None, "sum"),
        (lambda p, y: p.sum(), None, "mean"),
        (lambda p, y: p.sum(), "sum", "sum"),
        (torch.dot, None, "mean"),
    ],
)
def test_the_reduction_is_what_the_criterion_says_or_is_told(criterion, told, expected):
    assert reduction_of(criterion, told) == expected


FOCAL = {"weight": torch.tensor([1.0, 20.0, 3.0])}
LONG = torch.cat([CLASSES.new_zeros(8), CLASSES])
GAPS = LONG.masked_fill(torch.arange(20) < 6, -100)
OVER_ALL = {
    "class weights": (nn.CrossEntropyLoss(**FOCAL), LONG),
    "class weights of log-probabilities": (nn.NLLLoss(**FOCAL), LONG),
    "class weights and smoothing": (nn.CrossEntropyLoss(**FOCAL, label_smoothing=0.1), LONG),
    "a partial with class weights": (functools.partial(F.cross_entropy, **FOCAL), LONG),
    "ignored targets": (nn.CrossEntropyLoss(), GAPS),
    "a label that is ignored": (nn.CrossEntropyLoss(ignore_index=0), LONG),
    "a function with ignored targets": (F.cross_entropy, GAPS),
    "both": (nn.CrossEntropyLoss(**FOCAL), GAPS),
    "a sum": (nn.CrossEntropyLoss(**FOCAL, reduction="sum"), GAPS),
    "a sum in a function": (lambda p, y: F.cross_entropy(p, y, reduction="sum"), LONG),
}
"""Criteria whose mean over all data is no mean over samples of the batches' losses."""


class SumOf(nn.Module):
    def forward(self, prediction, labels):
        return F.cross_entropy(prediction, labels, reduction="sum")


OVER_ALL["a sum in a module"] = (SumOf(), LONG)


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", OVER_ALL)
def test_the_loss_of_a_loader_is_that_of_all_its_data(name, streamed):
    criterion, labels = OVER_ALL[name]
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(2))
    model = nn.Linear(4, 3)
    expected = criterion(model(x), labels).item()
    pairs = list(zip(x.split([5, 9, 6]), labels.split([5, 9, 6]), strict=True))
    metric = Loss.from_loader(criterion, pairs, resident=not streamed)
    objective = metric.objective(model)
    assert float(risk(objective)) == pytest.approx(expected, rel=1e-5)
    assert metric(model) == pytest.approx(expected, rel=1e-5)
    cut = objective._replace(batches=[tile for batch in pairs for tile in tiles(batch, 2)])
    assert not objective.separable or float(risk(cut)) == pytest.approx(expected, rel=1e-5)
    if criterion not in (OVER_ALL["a sum in a function"][0], OVER_ALL["a sum in a module"][0]):
        assert objective.separable != isinstance(criterion, functools.partial)


@pytest.mark.parametrize("criterion", [nn.MSELoss(), F.l1_loss, nn.CrossEntropyLoss()])
def test_batches_of_sequences_of_several_lengths_count_by_their_elements(criterion):
    generator = torch.Generator().manual_seed(3)
    shapes = [(5, 3), (2, 7), (4, 1)]
    labels = isinstance(criterion, nn.CrossEntropyLoss)

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 4 if labels else 1)

        def forward(self, x):
            return self.linear(x).movedim(-1, 1) if labels else self.linear(x)[..., 0]

    model = Tokens()
    x = [torch.randn(*shape, 2, generator=generator) for shape in shapes]
    y = [torch.randint(4, shape, generator=generator) for shape in shapes]
    y = y if labels else [one.float() for one in y]
    flat_x, flat_y = torch.cat([one.flatten(0, 1) for one in x]), torch.cat([one.flatten() for one in y])
    expected = criterion(model(flat_x[:, None])[..., 0], flat_y).item()
    metric = Loss.from_loader(criterion, list(zip(x, y, strict=True)))
    assert float(risk(metric.objective(model))) == pytest.approx(expected, rel=1e-5)
    assert metric(model) == pytest.approx(expected, rel=1e-5)


def test_a_weight_of_your_own_serves_criteria_that_nobody_knows():
    classes = torch.tensor([1.0, 20.0, 3.0])
    pairs = list(zip(X.split(5), CLASSES.sort().values.split(5), strict=True))
    model = nn.Linear(4, 3)

    def criterion(prediction, labels):
        return F.cross_entropy(prediction, labels, classes)

    expected = criterion(model(X), CLASSES.sort().values).item()
    metric = Loss.from_loader(criterion, pairs, weight=lambda batch: classes[batch[1]].sum(), separable=True)
    objective = metric.objective(model)
    assert float(risk(objective)) == pytest.approx(expected, rel=1e-5)
    assert metric(model) == pytest.approx(expected, rel=1e-5)
    with pytest.warns(UserWarning, match="neither the mean nor the sum of the losses of samples"):
        Loss.from_loader(criterion, pairs).objective(model)


def test_what_only_the_last_sample_shows_is_seen_too():
    labels = torch.zeros(30, dtype=torch.long)
    labels[-1] = 1
    for criterion in (nn.CrossEntropyLoss(torch.tensor([1.0, 2.0])), nn.CrossEntropyLoss(ignore_index=1)):
        objective = Loss(criterion, torch.ones(30, 3), labels).objective(nn.Linear(3, 2))
        assert objective.separable
        (batch,) = objective.batches
        cut = objective._replace(batches=list(tiles(batch, 7)))
        torch.testing.assert_close(risk(cut), risk(objective), rtol=1e-6, atol=0)


@pytest.mark.parametrize("options", [{"batchnorm": "batch"}, {"dropout_seed": 0}])
def test_no_declaration_lets_samples_be_cut_apart_that_the_layers_mix(options):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Dropout())
    metric = Loss(nn.CrossEntropyLoss(), X, CLASSES, separable=True)
    assert metric.objective(model).separable
    assert not metric.objective(model, **options).separable


def test_a_declaration_overrules_what_is_known():
    model = nn.Linear(4, 3)
    assert Loss(lambda p, y: F.cross_entropy(p, y), X, CLASSES, separable=True).objective(model).separable
    assert not Loss(nn.CrossEntropyLoss(), X, CLASSES, separable=False).objective(model).separable


def test_a_model_that_mixes_samples_is_found_out():
    class Centering(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x):
            return self.linear(x - x.mean(0))

    class OneSize(Centering):
        def forward(self, x):
            return self.linear(x.view(12, 4))

    assert not Loss(nn.CrossEntropyLoss(), X, CLASSES).objective(Centering()).separable

    class Branching(Centering):
        def forward(self, x):
            return self.linear(x if x.mean() > -100 else -x)

    class ReadingItsWeights(Centering):
        def forward(self, x):
            return self.linear(x / float(self.linear.weight.abs().max()))

    for model in (Centering(), OneSize(), Branching()):
        assert not Loss(nn.CrossEntropyLoss(), X, CLASSES).objective(model).separable
    assert Loss(nn.CrossEntropyLoss(), X, CLASSES).objective(ReadingItsWeights()).separable


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1.0, 1e6])
def test_mixing_is_found_out_whatever_the_size_of_the_loss(size):
    class Centering(nn.Linear):
        def forward(self, x):
            return size * super().forward(x - x.mean(0))

    def separable(model):
        return Loss(nn.MSELoss(), X.double(), size * SOFT.double()).objective(model.double()).separable

    class Scaling(nn.Linear):
        def forward(self, x):
            return size * super().forward(x)

    assert not separable(Centering(4, 3))
    assert separable(Scaling(4, 3))


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


@pytest.mark.parametrize(("share", "expected"), [(0.0, True), (0.02, False), (1.0, False)])
def test_a_little_mixing_is_mixing_too(share, expected):
    class Centering(nn.Linear):
        def forward(self, x):
            return super().forward(x - share * x.mean(0))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Centering(4, 3)
    assert Loss(nn.MSELoss(), X, SOFT).objective(model).separable is expected


@pytest.mark.parametrize("off", [0.0, 0.003])
def test_a_criterion_that_is_nearly_a_mean_is_none(off):
    def criterion(prediction, targets):
        return F.mse_loss(prediction, targets) * (1 + off / len(targets))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
    metric = Loss.from_loader(criterion, [(X[:6], SOFT[:6]), (X[6:], SOFT[6:])])
    if off:
        with pytest.warns(UserWarning, match="neither the mean nor the sum"):
            metric.objective(model)
    else:
        assert metric.objective(model).reduction == "mean"


def test_weights_of_elements_forbid_cutting_and_weights_of_classes_do_not():
    assert not averages(nn.BCELoss(torch.ones(3)))
    assert not averages(nn.BCEWithLogitsLoss(torch.ones(12, 3)))
    assert averages(nn.BCELoss())
    assert averages(nn.CrossEntropyLoss(torch.ones(3)))
    assert averages(nn.NLLLoss(torch.ones(3)))
