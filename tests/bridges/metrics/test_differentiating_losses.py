"""Losses that differentiate on their way, such as residuals of differential equations, have landscapes and Hessians."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from bridges.metrics import Loss, Metric
from lla_func import chart, products
from lla_func._torch._differentiable import differentiable
from lla_func.hessian import _autotune as rehearsal
from lla_func.hessian._kernels import KERNELS
from lla_func.landscape._evaluate import evaluate
from lla_func.landscape._evaluator import EngineFallbackWarning
from lla_func.objective._objective import from_loss, risk, tiles
from tests import cases
from tests.state import unchanged

POINTS = torch.linspace(0.1, 1, 9, dtype=torch.float64)[:, None]


def network(inputs: int = 1) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(inputs, 6), nn.Tanh(), nn.Linear(6, 1)).double()


def slope(u: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(u.sum(), x, create_graph=True)[0]


def residual(model, x: Tensor) -> Tensor:
    """Of u'' + u' + u = 0, with u(0) = 1."""
    u = model(x)
    du = slope(u, x)
    return (slope(du, x) + du + u).square().mean() + (model(0 * x[:1]) - 1).square().sum()


class Equation(Metric):
    """Collocation points among the data; gradients are asked for in the loss."""

    def loss(self, model, batch):
        return residual(model, batch[0].requires_grad_())


class Inside(Metric):
    """Collocation points that belong to the metric, and require gradients for good."""

    def __init__(self):
        super().__init__()
        self.x = POINTS.clone().requires_grad_()

    def __call__(self, model):
        return residual(model, self.x)


class Potential(nn.Module):
    """Energies and forces."""

    def __init__(self):
        super().__init__()
        self.energy = network(3)

    def forward(self, x):
        x = x.requires_grad_()
        energy = self.energy(x)
        return torch.cat([energy, -slope(energy, x)], 1)


def potential():
    x = torch.linspace(-1, 1, 18, dtype=torch.float64).reshape(6, 3)
    return Loss(nn.MSELoss(), x, torch.linspace(0, 1, 24, dtype=torch.float64).reshape(6, 4)).objective(
        Potential()
    )


def pure():
    model = network()
    named = {name: p.detach() for name, p in model.named_parameters()}

    def loss(parameters, x):
        return residual(
            lambda x: torch.func.functional_call(model, parameters, (x,)), x.clone().requires_grad_()
        )

    return from_loss(loss, named, [POINTS])


MADE = {
    "equation": lambda: Equation(POINTS.clone(), POINTS).objective(network()),
    "points inside": lambda: Inside().objective(network()),
    "points that require gradients": lambda: Equation(POINTS.clone().requires_grad_(), POINTS).objective(
        network()
    ),
    "potential": potential,
    "pure": pure,
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("engine", ["loop", "hoisted", "auto", "vmap"])
def test_every_engine_gives_the_losses(name, engine):
    objective = MADE[name]()
    generator = torch.Generator().manual_seed(0)
    basis = torch.randn(2, len(objective.theta), generator=generator, dtype=torch.float64)
    plane = chart.span(objective.theta, *basis)
    axis = torch.linspace(-0.5, 0.5, 5, dtype=torch.float64)
    coords = chart.mesh(axis, axis)
    with differentiable():
        expected = [
            objective.loss(objective.theta + row @ basis, objective.batches[0]).item() for row in coords
        ]
    # Blocks of points cannot share a pass in which gradients are taken.
    with pytest.warns(EngineFallbackWarning) if engine == "vmap" else nullcontext():
        landscape = evaluate(objective, plane, coords, engine=engine)
    torch.testing.assert_close(landscape.losses, torch.tensor(expected, dtype=torch.float64))
    assert landscape.diagnostics["engine"] == ("hoisted" if engine == "hoisted" else "loop")


@pytest.mark.parametrize("engine", ["loop", "hoisted"])
def test_parts_of_data_that_require_gradients_require_them_too(engine):
    class Unasked(Metric):
        separable = True

        def loss(self, model, batch):
            return residual(model, batch[0])

    objective = Unasked(POINTS.clone().requires_grad_(), POINTS).objective(network())
    line = chart.line(objective.theta, torch.ones_like(objective.theta))
    coords = torch.linspace(-1, 1, 4, dtype=torch.float64)[:, None]
    whole, cut = (evaluate(objective, line, coords, engine=engine, samples_per_tile=n) for n in (9, 4))
    torch.testing.assert_close(cut.losses, whole.losses)
    assert cut.diagnostics["plan"]["samples_per_tile"] < 9


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("kernel", ["auto", "vjp"])
def test_products_are_those_of_the_dense_hessian(name, kernel):
    objective = MADE[name]()
    operator = products.hessian(objective, kernel=kernel)
    with differentiable():
        (batch,) = objective.batches
        dense = torch.autograd.functional.hessian(lambda theta: objective.loss(theta, batch), objective.theta)
    found = operator.matvec(torch.eye(operator.dim, dtype=torch.float64))
    torch.testing.assert_close(found, dense)
    slopes = products.finite_difference(objective).matvec(torch.eye(operator.dim, dtype=torch.float64))
    torch.testing.assert_close(slopes, dense, rtol=1e-5, atol=1e-6 * float(dense.abs().max()))


class Lenient(Inside):
    """Takes a derivative that it doesn't get for zero, as transforms of torch.func would have it."""

    def __call__(self, model):
        u = model(self.x)
        du = torch.autograd.grad(u.sum(), self.x, create_graph=True, materialize_grads=True)[0]
        return (du + u).square().mean()


@pytest.mark.parametrize("kernel", ["linearize", "recompute"])
@pytest.mark.parametrize("blocks", ["auto", "rows"])
def test_kernels_that_would_miss_derivatives_are_refused(kernel, blocks):
    objective = Lenient().objective(network())
    with pytest.raises(
        ValueError, match=rf"kernel='{kernel}' cannot see the derivatives .* pass kernel='vjp'"
    ):
        products.hessian(objective, kernel=kernel, blocks=blocks)
    assert products.hessian(objective, kernel="timed").name == "hessian (vjp)"


def test_long_jobs_take_the_kernel_that_sees_every_derivative(monkeypatch):
    for constant, value in (("LONG", 0), ("CLEARLY", 1e9), ("PAYS", 1e9)):
        monkeypatch.setattr(rehearsal, constant, value)
    assert products.hessian(Lenient().objective(network())).name == "hessian (vjp)"
    assert products.hessian(cases.objective("mlp")).name == "hessian (linearize)"


def test_derivatives_by_torch_func_go_through_every_kernel():
    class Functional(Metric):
        def loss(self, model, batch):
            du = torch.func.vmap(torch.func.grad(lambda x: model(x).sum()))(batch[0])
            return (du + model(batch[0])).square().mean()

    objective = Functional(POINTS, POINTS).objective(network())
    eye = torch.eye(len(objective.theta), dtype=torch.float64)
    expected = products.hessian(Lenient().objective(network())).matvec(eye)
    for kernel in KERNELS:
        torch.testing.assert_close(products.hessian(objective, kernel=kernel).matvec(eye), expected)


def test_the_factors_of_a_loss_may_differentiate_too():
    objective = potential()
    ggn, fisher = (make(objective) for make in (products.ggn, products.fisher))
    with differentiable():
        (batch,) = objective.batches
        outputs = torch.autograd.functional.jacobian(lambda t: objective.outputs(t, batch), objective.theta)
        slopes = [
            torch.autograd.functional.jacobian(lambda t, one=one: objective.loss(t, one), objective.theta)
            for one in tiles(batch, 1)
        ]
    jacobian, eye = outputs.flatten(0, 1), torch.eye(ggn.dim, dtype=torch.float64)
    torch.testing.assert_close(ggn.matvec(eye), 2 * jacobian.T @ jacobian / len(jacobian))
    torch.testing.assert_close(fisher.matvec(eye), torch.stack(slopes).T @ torch.stack(slopes) / len(slopes))


def test_a_metric_that_differentiates_can_be_called():
    model = network()
    metric = Equation(POINTS.clone(), POINTS)
    with unchanged(model):
        assert metric(model) == pytest.approx(float(risk(metric.objective(model))))
