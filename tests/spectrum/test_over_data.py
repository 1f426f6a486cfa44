"""Errors over data: curvatures of single samples, and coverage where the population is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bridges.metrics import Loss
from lla_func import from_loss, products
from lla_func.spectrum import analyse, from_matrix, over_data, trace
from tests import cases
from tests.dense import QUICK, dense, draw, labels, network

D = torch.float64


def alone(objective, v):
    """v^T H_i v of each sample, by dense Hessians of single samples."""
    (batch,) = objective.batches
    count = len(batch[0])
    found = []
    for i in range(count):
        sample = objective._replace(batches=[(batch[0][i : i + 1], batch[1][i : i + 1])])
        found.append(float(v @ dense(sample) @ v))
    return torch.tensor(found, dtype=D)


@pytest.mark.parametrize("name", ["mlp", "cnn", "tied"])
def test_contributions_are_the_curvatures_of_samples(name):
    objective = cases.objective(name)
    operator = products.hessian(objective, **QUICK)
    v = draw(operator.dim)
    found = operator.per_sample(v)
    expected = alone(objective, v)
    assert torch.allclose(found * len(found), expected, rtol=1e-9, atol=1e-9 * float(expected.abs().max()))
    assert float(found.sum()) == pytest.approx(float(v @ operator.matvec(v)), rel=1e-9)


def test_pure_losses_in_several_batches_have_contributions_too():
    for reduction in ("mean", "sum"):
        operator = products.hessian(network(reduction=reduction), **QUICK)
        v = draw(operator.dim)
        assert len(operator.per_sample(v)) == 22
        assert float(operator.per_sample(v).sum()) == pytest.approx(float(v @ operator.matvec(v)), rel=1e-9)


def test_weighted_samples_are_weighed_and_ignored_ones_left_out():
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2, 5], dtype=D), ignore_index=1)
    model = nn.Linear(4, 3).to(D)
    operator = products.hessian(Loss(criterion, draw(15, 4), labels(15, 3)).objective(model), **QUICK)
    v = draw(operator.dim)
    assert float(operator.per_sample(v).sum()) == pytest.approx(float(v @ operator.matvec(v)), rel=1e-9)


def test_a_part_of_the_parameters_has_its_own_contributions():
    operator = products.hessian(cases.objective("mlp"), parameters="2.*", **QUICK)
    v = draw(operator.dim)
    assert float(operator.per_sample(v).sum()) == pytest.approx(float(v @ operator.matvec(v)), rel=1e-9)


def regression(count, seed, scales):
    """Linear regression: the Hessian of the risk is 2 X^T X / n, of the population twice the covariance."""
    x = draw(count, len(scales), seed=seed) * scales
    y = draw(count, seed=seed + 10_000)

    def outputs(theta, batch):
        return batch[0] @ theta

    def criterion(output, batch):
        return (output - batch[1]).square().mean()

    return from_loss(
        lambda theta, batch: criterion(outputs(theta, batch), batch),
        torch.zeros(len(scales), dtype=D),
        [(x, y)],
        separable=True,
        outputs=outputs,
        criterion=criterion,
    )


def test_95_percent_intervals_cover_the_population_over_200_draws():
    scales = torch.tensor([2.0, 1.0, 0.7, 0.3], dtype=D)
    largest, whole = 2 * float(scales[0]) ** 2, 2 * float(scales.square().sum())
    hits, of_trace, draws = 0, 0, 200
    for seed in range(draws):
        operator = products.hessian(regression(200, seed, scales), probe=False, **QUICK)
        found = analyse(operator, top_n=1, trace_products=8)
        errors = over_data(operator, found)
        hits += abs(float(found.eigenpairs.values[0]) - largest) < 1.96 * float(errors.eigenvalues[0])
        of_trace += abs(trace(operator).value - whole) < 1.96 * errors.trace
    assert 0.90 <= hits / draws <= 0.99
    assert 0.90 <= of_trace / draws <= 0.99


def test_the_ratio_of_the_ends_has_the_error_that_halves_of_the_data_show():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(D)
    x, y = draw(4000, 4), labels(4000, 3)
    both = {"density_steps": 30, "top_n": 2, "which": "both", "criteria": True, "eigs_tol": 1e-5}

    def analysed(inputs, targets):
        objective = Loss(nn.CrossEntropyLoss(), inputs, targets).objective(model)
        operator = products.hessian(objective, probe=False, **QUICK)
        return operator, analyse(operator, **both)

    operator, found = analysed(x[:400], y[:400])
    errors = over_data(operator, found)
    parts = [analysed(x[i : i + 400], y[i : i + 400])[1] for i in range(0, 4000, 400)]
    ratios = torch.tensor([part.criteria.r_e.value for part in parts])
    tops = torch.tensor([float(part.eigenpairs.values.max()) for part in parts])
    assert errors.re is not None
    assert 1 / 2.2 < float(ratios.std()) / errors.re < 2.2  # ten parts: a deviation known to 24 %
    top = int(found.eigenpairs.values.argmax())
    assert 1 / 2.2 < float(tops.std()) / float(errors.eigenvalues[top]) < 2.2


def test_what_has_no_error_is_none_and_the_note_says_why():
    operator = products.hessian(cases.objective("mlp"), **QUICK)
    found = analyse(operator, density_steps=10, top_n=1, trace_products=20, criteria=True, trace_tol=1.0)
    errors = over_data(operator, found)
    assert errors.eigenvalues is not None
    assert (errors.trace, errors.re, errors.Khn) == (None, None, None)
    for reason in ("random probes", "which='both'", "K_hn", "trained"):
        assert reason in errors.note
    unknown = over_data(
        from_matrix(torch.eye(3, dtype=D)), analyse(from_matrix(torch.eye(3, dtype=D)), top_n=1)
    )
    assert unknown.eigenvalues is None


def test_close_eigenvalues_are_warned_of():
    scales = torch.tensor([1.0, 1.001, 0.2], dtype=D)
    operator = products.hessian(regression(150, 0, scales), probe=False, **QUICK)
    errors = over_data(operator, analyse(operator, top_n=2))
    assert "closer to the next" in errors.note
    assert math.isfinite(float(errors.eigenvalues[0]))
