"""Traces without products: of the Gauss-Newton matrix by backward passes, and of the Hessian where the two agree."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bridges.metrics import Loss
from lla_func import from_loss, layerwise, products, viz_esd
from lla_func.hessian import _contributions, _shares
from lla_func.hessian._exact import exact_shares
from lla_func.hessian._split import composed, piecewise
from lla_func.spectrum import trace
from tests import cases
from tests.dense import QUICK, dense, draw, labels, matrix, network

D = torch.float64


class Apply(nn.Module):
    """A model that is a function of its layers."""

    def __init__(self, function, **layers):
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x):
        return self.function(self, x)


def mlp(activation, norm=None):
    return nn.Sequential(nn.Linear(5, 6), *([] if norm is None else [norm]), activation, nn.Linear(6, 3))


def residual(activation):
    return Apply(lambda m, x: m.c(x + activation(m.a(x))), a=nn.Linear(5, 5), c=nn.Linear(5, 3))


def images(*layers, features):
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, 3))


def gated(mix):
    return Apply(mix, a=nn.Linear(5, 6), b=nn.Linear(5, 6), c=nn.Linear(6, 3))


PIECEWISE = {
    "relu": lambda: mlp(nn.ReLU()),
    "leaky relu": lambda: mlp(nn.LeakyReLU()),
    "prelu": lambda: mlp(nn.PReLU(6)),
    "prelu of one weight": lambda: mlp(nn.PReLU()),
    "relu6": lambda: mlp(nn.ReLU6()),
    "hardtanh": lambda: mlp(nn.Hardtanh()),
    "residual sum": lambda: residual(torch.relu),
    "eval batchnorm": lambda: mlp(nn.ReLU(), nn.BatchNorm1d(6)),
    "dropout in eval": lambda: mlp(nn.Dropout(0.5)),
    "product of disjoint branches": lambda: gated(lambda m, x: m.c(m.a(x).relu() * m.b(x).relu())),
    "maximum of branches": lambda: gated(lambda m, x: m.c(torch.maximum(m.a(x), m.b(x)))),
    "concatenation": lambda: Apply(
        lambda m, x: m.c(torch.cat([m.a(x), x], 1).relu()), a=nn.Linear(5, 2), c=nn.Linear(7, 3)
    ),
    "log_softmax in the model": lambda: Apply(lambda m, x: F.log_softmax(m.a(x), 1), a=nn.Linear(5, 3)),
}
OTHERS = {
    "tanh": (lambda: mlp(nn.Tanh()), "tanh is not piecewise linear"),
    "gelu": (lambda: mlp(nn.GELU()), "gelu is not piecewise linear"),
    "silu": (lambda: mlp(nn.SiLU()), "silu is not piecewise linear"),
    "hardswish": (lambda: residual(F.hardswish), "hardswish is not piecewise linear"),
    "layernorm": (lambda: mlp(nn.ReLU(), nn.LayerNorm(6)), "layer_norm is not piecewise linear"),
    "gating": (lambda: gated(lambda m, x: m.c(m.a(x) * torch.sigmoid(m.a(x)))), "sigmoid"),
    "product of one branch with itself": (
        lambda: gated(lambda m, x: m.c(m.a(x) * m.a(x))),
        "same parameters",
    ),
    "shared weights along a path": (
        lambda: Apply(lambda m, x: m.c(m.a(m.a(x).relu())), a=nn.Linear(5, 5), c=nn.Linear(5, 3)),
        "same parameters",
    ),
    "weight_norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Linear(5, 6)), nn.ReLU(), nn.Linear(6, 3)
        ),
        "norm is not piecewise linear",
    ),
    "recurrence": (
        lambda: Apply(
            lambda m, x: m.c(m.r(x[:, None])[0][:, -1]), r=nn.RNN(5, 4, batch_first=True), c=nn.Linear(4, 3)
        ),
        "tanh is not piecewise linear",
    ),
}
SHAPES = {
    "convolution": lambda: (
        images(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), features=36),
        (2, 6, 6),
    ),
    "groups, stride, dilation": lambda: (
        images(nn.Conv2d(4, 6, (3, 2), 2, (1, 0), (1, 2), groups=2), nn.ReLU(), features=54),
        (4, 5, 7),
    ),
    "one axis": lambda: (images(nn.Conv1d(3, 4, 3, padding=1), nn.ReLU(), features=28), (3, 7)),
    "three axes": lambda: (images(nn.Conv3d(2, 4, 2, 2, groups=2), nn.ReLU(), features=32), (2, 4, 4, 4)),
    "transposed": lambda: (images(nn.ConvTranspose2d(2, 3, 2), nn.ReLU(), features=48), (2, 3, 3)),
    "circular": lambda: (
        images(nn.Conv2d(1, 3, 3, padding=1, padding_mode="circular"), features=48),
        (1, 4, 4),
    ),
    "groupnorm": lambda: (images(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), features=16), (2, 4, 4)),
    "lstm": lambda: (
        Apply(lambda m, x: m.c(m.r(x)[0][:, -1]), r=nn.LSTM(3, 4, 2, batch_first=True), c=nn.Linear(4, 3)),
        (4, 3),
    ),
    "encoder, sequence first": lambda: (
        Apply(
            lambda m, x: m.c(m.e(x.transpose(0, 1)).mean(0)),
            e=nn.TransformerEncoderLayer(4, 2, 6, 0.0),
            c=nn.Linear(4, 3),
        ),
        (3, 4),
    ),
}


def objective_of(model, shape=(5,), criterion=None, count=13, targets=None):
    criterion = nn.CrossEntropyLoss() if criterion is None else criterion
    y = labels(count, 3) if targets is None else targets
    model.to(D).eval()
    return Loss(criterion, draw(count, *shape, seed=1), y).objective(model)


def made(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        found = build()
    for parameter in (found[0] if isinstance(found, tuple) else found).parameters():
        parameter.data += 0.1 * draw(*parameter.shape, seed=5)
    return found


def check(objective, expected, found):
    """The share of every parameter."""
    shares = found.shares
    assert shares is not None, found.why
    diagonal = expected.diagonal()
    truth = [float(diagonal[piece].sum()) for piece in objective.layout.slices]
    mine = [shares.of([i])[0] for i in range(len(truth))]
    size = float(diagonal.abs().sum())
    assert all(abs(a - b) <= 1e-10 * size for a, b in zip(truth, mine, strict=True))
    assert abs(shares.of()[0] - sum(truth)) <= 1e-10 * size


def criterion_of(name):
    return nn.NLLLoss() if "log_softmax" in name else nn.CrossEntropyLoss()


@pytest.mark.parametrize("name", PIECEWISE)
def test_piecewise_affine_networks_have_the_trace_of_the_hessian_without_products(name):
    objective = objective_of(made(PIECEWISE[name]), criterion=criterion_of(name))
    check(objective, dense(objective), exact_shares(objective, piecewise))


@pytest.mark.parametrize("name", OTHERS)
def test_other_networks_are_refused_with_the_operation_that_forbids_it(name):
    build, reason = OTHERS[name]
    objective = objective_of(made(build))
    found = exact_shares(objective, piecewise)
    assert found.shares is None
    assert reason in found.why
    gauss_newton = matrix(products.ggn(objective, **QUICK))
    off = (dense(objective) - gauss_newton).diagonal().abs().max()
    assert off > 1e-6 * gauss_newton.diagonal().max()  # rightly: the diagonals differ


@pytest.mark.parametrize("name", [*PIECEWISE, *OTHERS])
def test_the_gauss_newton_trace_is_exact_for_any_network(name):
    build = PIECEWISE[name] if name in PIECEWISE else OTHERS[name][0]
    objective = objective_of(made(build))
    check(objective, matrix(products.ggn(objective, **QUICK)), exact_shares(objective, composed))


@pytest.mark.parametrize("name", SHAPES)
def test_samples_are_told_apart_wherever_they_lie(name):
    model, shape = made(SHAPES[name])
    objective = objective_of(model, shape)
    check(objective, matrix(products.ggn(objective, **QUICK)), exact_shares(objective, composed))


@pytest.mark.parametrize("name", [name for name in cases.CASES if name != "quadratic"])
def test_the_cases_of_all_tests_have_their_gauss_newton_trace(name):
    objective = cases.objective(name)
    check(objective, matrix(products.ggn(objective, **QUICK)), exact_shares(objective, composed))


@pytest.mark.parametrize(
    ("criterion", "targets"),
    [
        (nn.MSELoss(), draw(13, 3)),
        (nn.MSELoss(reduction="sum"), draw(13, 3)),
        (nn.L1Loss(), draw(13, 3)),
        (nn.HuberLoss(), draw(13, 3)),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 5], dtype=D), ignore_index=1), labels(13, 3)),
        (nn.CrossEntropyLoss(label_smoothing=0.2, reduction="sum"), labels(13, 3)),
        (lambda p, y: (p.sin() * y).sum(1).mean(), draw(13, 3)),  # not convex
    ],
)
def test_any_smooth_criterion_will_do(criterion, targets):
    metric = Loss(criterion, draw(13, 5, seed=1), targets, separable=True)
    objective = metric.objective(made(lambda: mlp(nn.ReLU())).to(D))
    check(objective, dense(objective), exact_shares(objective, piecewise))


def test_formulas_are_used_and_not_only_single_samples(monkeypatch):
    monkeypatch.setattr(_shares, "_alone", None)
    monkeypatch.setattr(_shares, "_agree", lambda *_: True)
    for name in ("cnn", "tied"):
        objective = cases.objective(name)
        check(objective, matrix(products.ggn(objective, **QUICK)), exact_shares(objective, composed))


def test_a_wrong_formula_is_noticed_and_not_used(monkeypatch):
    wrong = dict(_contributions.FORMULAS)
    right = wrong[torch.ops.aten.addmm.default]
    wrong[torch.ops.aten.addmm.default] = lambda site, place, signal, where, count: right(
        site, place, 1.1 * signal, where, count
    )
    monkeypatch.setattr(_contributions, "FORMULAS", wrong)
    objective = objective_of(made(lambda: mlp(nn.ReLU())))
    check(objective, dense(objective), exact_shares(objective, piecewise))


def test_several_batches_and_pure_losses_are_weighted_as_in_the_risk():
    for reduction in ("mean", "sum"):
        objective = network(reduction=reduction)
        check(objective, matrix(products.ggn(objective, **QUICK)), exact_shares(objective, composed))


def test_a_part_of_the_parameters_can_be_exact_where_the_whole_is_not():
    objective = objective_of(made(lambda: mlp(nn.Tanh())))
    operator = products.hessian(objective, parameters="2.*", **QUICK)
    found = trace(operator)
    assert found.method == "exact"
    assert found.value == pytest.approx(float(matrix(operator).trace()), rel=1e-10)


def test_the_trace_of_operators_is_exact_with_its_error_over_data():
    objective = cases.objective("cnn")
    for operator in (products.hessian(objective, **QUICK), products.ggn(objective, **QUICK)):
        found = trace(operator)
        assert (found.method, found.error, found.products) == ("exact", 0.0, 0)
        assert found.value == pytest.approx(float(matrix(operator).trace()), rel=1e-10)
        assert found.data_error is not None
        assert found.data_error > 0


def test_random_signs_stand_for_many_outputs_with_an_error_that_covers(monkeypatch):
    objective = objective_of(made(lambda: mlp(nn.ReLU())), count=60)
    truth = exact_shares(objective, composed).shares.of()[0]
    monkeypatch.setattr(_shares.root, "MANY", 2)
    off = []
    for seed in range(60):
        value, error, _ = _shares.shares(objective, composed(objective), seed=seed).of()
        assert error > 0
        off.append((value - truth) / error)
    scores = torch.tensor(off)
    assert 0.7 < float(scores.std()) < 1.4
    assert abs(float(scores.mean())) < 4 / 60**0.5


def test_many_samples_without_a_formula_are_left_to_products(monkeypatch):
    model, shape = made(SHAPES["transposed"])
    objective = objective_of(model, shape)
    monkeypatch.setattr(_shares, "ALONE", 5)
    found = exact_shares(objective, composed)
    assert found.shares is None
    assert "formula" in found.why


def test_losses_that_do_not_split_into_samples_are_refused():
    together = from_loss(lambda t, x: (x @ t).var(), torch.ones(3, dtype=D), [draw(6, 3)])
    found = exact_shares(together, piecewise)
    assert found.shares is None
    assert "samples" in found.why


def test_layers_have_exact_traces_that_add_up():
    objective = cases.objective("cnn")
    rows = layerwise(objective)
    assert {row.trace.method for row in rows} == {"exact"}
    assert sum(row.trace.value for row in rows) == pytest.approx(float(dense(objective).trace()), rel=1e-10)


def test_viz_esd_says_which_way_the_trace_went():
    case = cases.build("cnn")
    exact = viz_esd(case.model, case.metric, trace=True, esd=False, to_save=False, seed=0)
    assert (exact.trace_method, exact.trace_error) == ("exact", 0.0)
    assert exact.trace == pytest.approx(float(dense(cases.objective("cnn")).trace()), rel=1e-10)
    case = cases.build("transformer")
    sampled = viz_esd(case.model, case.metric, trace=True, trace_tol=0.3, esd=False, to_save=False, seed=0)
    assert sampled.trace_method in ("ggn+hutchinson", "hutchinson")
    assert sampled.trace_error > 0
    truth = float(dense(cases.objective("transformer")).trace())
    assert abs(sampled.trace - truth) < 4 * sampled.trace_error
