"""The curvature that second differences show beside the eigenvalues, with its error, at every scale."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from lla_func import from_loss
from lla_func.landscape._curvature import _second_difference, measured_curvature
from lla_func.objective._objective import risk
from lla_func.spectrum._eigenpairs import Eigenpairs


def curvature(loss, theta, *, dtype=torch.float64):
    """What is measured along the two eigenvectors of largest magnitude of the dense float64 Hessian at theta."""
    theta = theta.to(dtype)
    values, vectors = torch.linalg.eigh(torch.autograd.functional.hessian(loss, theta.double()))
    top = values.abs().argsort(descending=True)[:2]
    pairs = Eigenpairs(values[top], vectors[:, top].mT.to(dtype), torch.zeros(2), 0, True)
    objective = from_loss(lambda t, _: loss(t), theta)
    return measured_curvature(objective, pairs), objective, pairs


def softmax_regression(factor=1.0, offset=0.0):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (30,), generator=generator)
    theta = torch.randn(12, generator=generator, dtype=torch.float64)
    return lambda t: factor * nn.functional.cross_entropy(x.to(t) @ t.view(4, 3), y) + offset, theta


def quadratic(scales, offset=0.0):
    scales = torch.tensor(scales, dtype=torch.float64)
    return lambda t: 0.5 * (scales.to(t) * t.square()).sum() + offset


SURFACES = {
    "softmax regression": softmax_regression(),
    "losses of 1e-8": softmax_regression(1e-8),
    "losses of 1e6": softmax_regression(1e6),
    "a large constant beside the loss": softmax_regression(1.0, 1e3),
    "eigenvalues of 1e12": (quadratic([1e12, 5e11, 1.0]), torch.zeros(3)),
    "eigenvalues of 1e-12": (quadratic([1e-12, -5e-13], 1.0), torch.zeros(2)),
    "scales far apart": (quadratic([1e4, 1.0], 1.0), torch.zeros(2)),
    "a sharp valley at large parameters": (lambda t: (1e3 * (t - 100)).cosh().sum(), torch.full((2,), 100.0)),
    "a steep slope": (lambda t: (30 * t).cos().sum(), torch.full((2,), 0.3)),
    "the logarithm next to its pole": (lambda t: t.log().sum(), torch.full((2,), 1e-3)),
}


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-4), (torch.float32, 0.2)])
@pytest.mark.parametrize("name", SURFACES)
def test_the_error_covers_the_eigenvalue_and_is_small(name, dtype, most):
    loss, theta = SURFACES[name]
    found, _, _ = curvature(loss, theta, dtype=dtype)
    for eigenvalue, measured, error in zip(found.eigenvalues, found.measured, found.errors, strict=True):
        assert abs(measured - eigenvalue) <= error + 1e-6 * abs(eigenvalue)  # the vectors are rounded too
        assert error <= most * abs(eigenvalue)


@pytest.mark.parametrize("name", SURFACES)
def test_what_is_measured_is_the_second_difference_at_the_step_that_is_told(name):
    loss, theta = SURFACES[name]
    found, objective, pairs = curvature(loss, theta)
    for measured, step, vector in zip(found.measured, found.steps, pairs.vectors, strict=True):
        ahead, center, behind = (risk(objective, objective.theta + k * step * vector) for k in (1, 0, -1))
        assert measured == float(ahead + behind - 2 * center) / step**2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_shows_the_curvature_within_a_wide_error(dtype):
    loss, theta = softmax_regression()
    found, _, _ = curvature(loss, theta, dtype=dtype)
    for eigenvalue, measured, error in zip(found.eigenvalues, found.measured, found.errors, strict=True):
        assert measured == pytest.approx(eigenvalue, abs=2 * error)
        assert 0.01 * eigenvalue < error < 0.5 * eigenvalue


def test_curvature_below_rounding_is_nan_and_a_warning():
    loss, theta = softmax_regression(1.0, 1e4)
    with pytest.warns(RuntimeWarning, match="does not show its curvature: .*eigenvalue .*float16"):
        found, _, _ = curvature(loss, theta, dtype=torch.float16)
    assert all(map(math.isnan, found.measured))


def test_losses_that_are_not_finite_nearby_are_nan_and_a_warning():
    objective = from_loss(lambda t, _: torch.where(t.norm() > 0, torch.nan, t.sum()), torch.zeros(2))
    pairs = Eigenpairs(torch.tensor([2.0, 1.0]), torch.eye(2), torch.zeros(2), 0, True)
    with pytest.warns(RuntimeWarning, match="nan with an error of inf for the eigenvalue 2 and"):
        found = measured_curvature(objective, pairs)
    assert all(map(math.isnan, found.measured))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "loss", [lambda t: (t.sum() - 1) ** 2, lambda t: t.abs().sum() + t[0] ** 2, lambda t: 0 * t.sum()]
)
def test_no_curvature_is_measured_as_zero(loss, dtype):
    found, _, _ = curvature(loss, torch.full((3,), 0.3), dtype=dtype)
    assert abs(found.measured[1]) <= found.errors[1] + 1e-12
    assert found.errors[1] <= 1e-3 * max(1.0, found.eigenvalues[0])


def test_a_coincidence_of_two_steps_is_not_taken_for_convergence():
    wrong = {1.0: 9.0, 0.5: 5.0, 0.25: 5.0}

    def loss(step):
        return 0.5 * step**2 * wrong.get(abs(step), 1 + step**2)

    value, error, step = _second_difference(loss, 0.0, 1.0, eps=1e-16, reach=1.0, floor=0.0)
    assert abs(value - 1) <= error <= 1e-6
    assert step < 0.25
