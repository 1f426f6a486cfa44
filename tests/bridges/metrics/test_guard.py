"""A loss that writes into its data gets copies: all points see the same data, and the caller's stay as they are."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from bridges.metrics import Loss, Metric
from bridges.metrics._guard import Guard
from lla_func import chart, products
from lla_func.landscape._evaluate import evaluate
from lla_func.objective._objective import risk
from tests.engines import every_engine

X = torch.randn(8, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.randn(8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Centering(nn.Linear):
    """Shifts its inputs, in place or not."""

    def __init__(self, *, in_place: bool) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            super().__init__(4, 2)
        self.double()
        self.in_place = in_place

    def forward(self, x):
        return super().forward(x.sub_(0.5) if self.in_place else x - 0.5)


def rescaled(p, y):
    """A criterion that writes into targets."""
    return (2 * p - y.div_(3)).square().mean()


def plain(p, y):
    return (2 * p - y / 3).square().mean()


def data(form):
    x, y = X.clone(), Y.clone()
    return {"tensor": (x, y), "tuple": ((x,), y), "dict": ({"x": x}, y)}[form], (x, y)


def objectives(form="tensor"):
    """One that writes and one that doesn't, of the same loss, and the data of the first."""
    arguments, (x, y) = data(form)
    metric = Loss(rescaled, *arguments, separable=True)
    expected = Loss(plain, X, Y, separable=True).objective(Centering(in_place=False))
    return metric.objective(Centering(in_place=True)), expected, (x, y)


@pytest.mark.parametrize("form", ["tensor", "tuple", "dict"])
@every_engine("auto")
def test_every_point_sees_the_same_data_and_they_stay_as_they_were(form, engine):
    objective, expected, (x, y) = objectives(form)
    basis = torch.eye(len(objective.theta), dtype=torch.float64)[:2]
    plane = chart.span(objective.theta, *basis)
    axis = torch.linspace(-1, 1, 5, dtype=torch.float64)
    coords = chart.mesh(axis, axis)
    with pytest.warns(RuntimeWarning, match="writes into its data .* every pass gets a copy"):
        risk(objective)
    found = evaluate(objective, plane, coords, engine=engine).losses  # and nothing is said twice
    torch.testing.assert_close(found, evaluate(expected, plane, coords, engine="loop").losses)
    assert torch.equal(x, X)
    assert torch.equal(y, Y)


@pytest.mark.parametrize("kind", ["hessian", "ggn", "fisher", "finite_difference"])
def test_products_see_the_same_data(kind):
    objective, expected, (x, y) = objectives()
    with pytest.warns(RuntimeWarning, match="writes into its data"):
        operator = getattr(products, kind)(objective)
    eye = torch.eye(operator.dim, dtype=torch.float64)
    torch.testing.assert_close(operator.matvec(eye), getattr(products, kind)(expected).matvec(eye))
    assert torch.equal(x, X)
    assert torch.equal(y, Y)


def test_statistics_are_recalibrated_on_the_same_data():
    x = X.clone()
    model = nn.Sequential(Centering(in_place=True), nn.BatchNorm1d(2).double())
    other = nn.Sequential(Centering(in_place=False), nn.BatchNorm1d(2).double())
    found, expected = (
        Loss(nn.MSELoss(), inputs, Y, separable=False).objective(net, batchnorm="recalibrate")
        for net, inputs in ((model, x), (other, X))
    )
    with pytest.warns(RuntimeWarning, match="writes into its data"):
        risk(found)
    assert risk(found) == risk(expected)
    assert torch.equal(x, X)


def test_several_batches_and_calls_of_the_metric_leave_the_data_too():
    x, y = X.clone(), Y.clone()
    metric = Loss.from_loader(rescaled, [(x[:4], y[:4]), (x[4:], y[4:])])
    expected = Loss(plain, X, Y)
    with pytest.warns(RuntimeWarning, match="writes into its data") as said:
        found = risk(metric.objective(Centering(in_place=True)))
    assert len(said) == 1
    assert found == pytest.approx(float(risk(expected.objective(Centering(in_place=False)))))
    with pytest.warns(RuntimeWarning, match="writes into its data"):
        assert metric(Centering(in_place=True)) == pytest.approx(expected(Centering(in_place=False)))
    assert torch.equal(x, X)
    assert torch.equal(y, Y)


def test_known_criteria_are_cut_as_ever():
    x = X.clone()
    with pytest.warns(RuntimeWarning, match="writes into its data"):
        objective = Loss(nn.MSELoss(), x, Y).objective(Centering(in_place=True))
    assert objective.separable
    assert torch.equal(x, X)


def test_data_are_copied_once_where_nothing_writes():
    seen = []

    def criterion(p, y):
        seen.append(y.data_ptr())
        return (p - y).square().mean()

    y = Y.clone()
    objective = Loss(criterion, X, y).objective(Centering(in_place=False))
    for _ in range(3):
        risk(objective)
    assert seen[0] != y.data_ptr()
    assert seen[1:] == 2 * [y.data_ptr()]


def test_data_never_get_flags_that_the_loss_sets():
    x = X.clone()

    class Slope(Metric):
        def loss(self, model, batch):
            at = batch[0].requires_grad_()
            return torch.autograd.grad(model(at).sum(), at, create_graph=True)[0].square().sum()

    objective = Slope(x, Y).objective(Centering(in_place=False))
    assert risk(objective) == risk(objective)
    products.hessian(objective)
    assert not x.requires_grad


def test_a_write_that_comes_late_or_past_the_batch_is_an_error():
    calls = []

    def late(p, y):
        calls.append(0)
        return (p - (y.add_(1) if len(calls) > 1 else y)).square().mean()

    objective = Loss(late, X.clone(), Y.clone()).objective(Centering(in_place=False))
    risk(objective)
    with pytest.raises(RuntimeError, match=r"the loss wrote into its data.*x = x.clone\(\)"):
        risk(objective)

    class Past(Metric):
        def loss(self, model, batch):
            return model(self.inputs).square().mean()

    with pytest.raises(RuntimeError, match="past the batch that it is given"):
        risk(Past(X.clone(), Y.clone()).objective(Centering(in_place=True)))


def test_inference_tensors_pass():
    with torch.inference_mode():
        x = X.clone()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guard = Guard()
        for _ in range(2):
            assert guard(lambda model, batch: model(batch), nn.Identity(), x).shape == (8, 4)
