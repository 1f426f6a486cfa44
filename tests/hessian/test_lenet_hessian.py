"""The Hessian of real networks: LeNet on the digits against SciPy and an exact trace, and the edge of stability."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from bridges import metrics
from bridges.loaders import digits, lenet
from lla_func import from_loss, products, spectrum

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained():
    images, labels = digits.bundled()
    return lenet.ModelInit().double().eval(), images[:96].double(), labels[:96]


@pytest.fixture(scope="module")
def operator(trained):
    model, x, y = trained
    return products.hessian(metrics.Loss(nn.CrossEntropyLoss(), x, y).objective(model))


@pytest.fixture(scope="module")
def exact(operator):
    from scipy.sparse.linalg import LinearOperator, eigsh

    def matvec(v):
        return operator.matvec(torch.from_numpy(np.ascontiguousarray(v).ravel())).numpy()

    matrix = LinearOperator((operator.dim, operator.dim), matvec, dtype=np.float64)
    values = eigsh(matrix, k=2, which="LM", tol=1e-9, return_eigenvectors=False)
    return sorted(values, key=abs, reverse=True)


def test_the_top_two_eigenvalues_of_lenet_are_those_of_scipy(operator, exact):
    found = spectrum.eigenpairs(operator, 2, tol=1e-3)
    assert found.converged
    assert found.values.tolist() == pytest.approx(exact, rel=1e-4)


def test_they_take_at_most_half_the_products_of_deflated_power_iteration(operator, exact):
    found = spectrum.eigenpairs(operator, 2, tol=1e-3)
    errors = [abs(value / truth - 1) for value, truth in zip(found.values.tolist(), exact, strict=True)]
    spent, vectors = 0, []
    generator = torch.Generator().manual_seed(0)
    for truth, error in zip(exact, errors, strict=True):
        v = torch.randn(operator.dim, generator=generator, dtype=torch.float64)
        for _ in range(4 * found.products):
            for known in vectors:
                v = v - (v @ known) * known
            v = v / v.norm()
            image = operator.matvec(v)
            spent += 1
            if abs(float(v @ image) / truth - 1) <= max(error, 1e-12):
                break
            v = image
        vectors.append(v)
    assert found.products <= spent / 2, (found.products, spent)


def test_the_trace_of_lenet_is_the_exact_one_within_two_standard_errors_as_often_as_it_should(trained):
    model, x, y = (trained[0], trained[1][:32], trained[2][:32])
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def log_probability(p, sample, c):
        return torch.log_softmax(functional_call(model, p, (sample[None],))[0], 0) @ c

    gradients = vmap(vmap(grad(log_probability), (None, None, 0)), (None, 0, None))
    rows = gradients(parameters, x, torch.eye(10, dtype=torch.float64)).values()
    squares = sum(g.flatten(2).square().sum(2) for g in rows)
    with torch.no_grad():
        exact = float((torch.softmax(model(x), 1) * squares).sum()) / len(x)
    hessian = products.hessian(metrics.Loss(nn.CrossEntropyLoss(), x, y).objective(model))
    known = spectrum.trace(hessian)
    assert (known.method, known.error) == ("exact", 0.0)
    assert abs(known.value - exact) <= 1e-12 * exact
    sampled = hessian._replace(exact_trace=None, nearby=None)
    found = [spectrum.trace(sampled, max_products=16, tol=1e-6, seed=seed) for seed in range(100)]
    covered = sum(abs(estimate.value - exact) <= 2 * estimate.standard_error for estimate in found)
    assert 90 <= covered <= 99


def test_gradient_descent_settles_at_the_edge_of_stability():
    images, labels = digits.bundled()
    x = nn.functional.avg_pool2d(images[:60], 4).flatten(1).double()
    y = nn.functional.one_hot(labels[:60], 10).double()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(49, 24), nn.Tanh(), nn.Linear(24, 10)).double()
    parameters = {name: p.detach().clone() for name, p in model.named_parameters()}

    def loss(p, batch):
        return nn.functional.mse_loss(functional_call(model, p, (batch[0],)), batch[1])

    def sharpness(p):
        hessian = products.hessian(from_loss(loss, p, [(x, y)]), probe=False)
        return float(spectrum.eigenpairs(hessian, 1, which="largest", tol=1e-2).values[0])

    start = sharpness(parameters)
    eta = 2 / (1.6 * start)
    slope = grad(loss)
    seen = []
    for step in range(6000):
        parameters = {
            k: p - eta * g
            for (k, p), g in zip(parameters.items(), slope(parameters, (x, y)).values(), strict=True)
        }
        if step % 500 == 499:
            seen.append(sharpness(parameters))
    assert start < 0.65 * 2 / eta
    assert max(seen[-3:]) == pytest.approx(2 / eta, rel=0.15)
    assert min(seen[-3:]) > 0.85 * 2 / eta
