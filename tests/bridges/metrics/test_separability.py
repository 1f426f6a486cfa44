"""Claims about cutting batches: which criteria and models are means over samples, and how batches are weighted."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bridges.metrics import Loss
from bridges.metrics._reduction import averages, reduction_of
from lla_func.objective._objective import risk, samples, tiles
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
