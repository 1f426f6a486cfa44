"""Errors over data of paths: bands on lines, paired errors of barriers, panels of planes, and further values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bridges import metrics
from lla_func import chart, load, viz_path
from lla_func.facades._path_writing import figures
from tests.cases import build
from tests.facades.test_viz_path import moved

X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)).double()
Y = torch.arange(40) % 3
METRIC = metrics.Loss(nn.CrossEntropyLoss(), X, Y)


def net(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3)).double()


def trained(seed):
    model = net(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def models():
    return [trained(0), trained(1)]


def single(theta, objective):
    """The losses of all samples at a theta."""
    tensors = objective.layout.unravel(theta)
    hidden = torch.tanh(X @ tensors["0.weight"].T + tensors["0.bias"])
    logits = hidden @ tensors["2.weight"].T + tensors["2.bias"]
    return nn.functional.cross_entropy(logits, Y, reduction="none")


def test_lines_have_the_standard_error_of_the_loss_over_samples(models):
    result = viz_path(models, METRIC, steps=7, to_save=False)
    objective = METRIC.objective(models[0])
    through = chart.linear_interpolation(*(METRIC.objective(model).theta for model in models))
    each = torch.stack([single(theta, objective) for theta in chart.point(through, result.landscape.coords)])
    torch.testing.assert_close(
        result.landscape.errors["loss"], each.std(1) / math.sqrt(40), rtol=1e-6, atol=0
    )
    (drawn,) = figures(result).values()
    assert len(drawn.axes[0].collections) == 1


def test_the_error_of_a_barrier_is_that_of_paired_samples(models):
    result = viz_path(models, METRIC, steps=21, to_save=False)
    objective = METRIC.objective(models[0])
    a, b = (METRIC.objective(model).theta for model in models)
    (found,) = result.barriers
    t = found.at
    pairs = single((1 - t) * a + t * b, objective) - (1 - t) * single(a, objective) - t * single(b, objective)
    assert result.barrier.value == pytest.approx(float(pairs.mean()), rel=1e-9)
    assert result.barrier.data_error == pytest.approx(float(pairs.std()) / math.sqrt(40), rel=1e-6)
    assert "over data" in repr(result)


def test_barriers_between_the_models_of_a_plane_have_one_too(models):
    result = viz_path([*models, trained(2)], METRIC, steps=5, to_save=False)
    assert all(each.estimate.data_error > 0 for each in result.barriers)
    assert not result.landscape.errors


def test_errors_of_a_plane_are_a_figure_of_their_own(models, tmp_path):
    folders = {"viz_dir": tmp_path, "res_dir": tmp_path}
    result = viz_path([*models, net(2)], METRIC, steps=4, errors=True, **folders)
    assert result.landscape.errors["loss"].shape == (16,)
    assert {"contour", "surface", "error of loss"} <= set(result.paths)
    assert torch.equal(load(result.paths["losses"]).landscape.errors["loss"], result.landscape.errors["loss"])


def test_recalibrated_batchnorm_has_errors_as_well():
    case = build("resnet")
    models = [case.model, moved(case.model)]
    landscape = viz_path(models, case.metric, steps=3, to_save=False).landscape
    assert bool((landscape.errors["loss"] > 0).all())


def test_further_values_stand_beside_the_loss(models, tmp_path):
    folders = {"viz_dir": tmp_path, "res_dir": tmp_path}
    result = viz_path(models, METRIC, metrics={"accuracy": metrics.accuracy}, steps=5, **folders)
    accuracy = result.landscape.metrics["accuracy"]
    assert accuracy.shape == (5,)
    hits = float((models[0](X).argmax(1) == Y).double().mean())
    assert float(accuracy[0]) == pytest.approx(hits)
    assert result.paths["accuracy"].name == "path_default_accuracy.png"
    assert torch.equal(load(result.paths["losses"]).landscape.metrics["accuracy"], accuracy)


def test_a_criterion_without_losses_of_samples_has_no_errors():
    case = build("mlp")
    metric = metrics.Loss(
        lambda prediction, targets: prediction.square().mean() ** 0.5, case.inputs, case.targets
    )
    result = viz_path([case.model, moved(case.model)], metric, steps=3, to_save=False)
    assert not result.landscape.errors
    assert result.barrier.data_error is None
    with pytest.raises(ValueError, match="losses of single samples|per_sample"):
        viz_path(
            [case.model, moved(case.model), moved(case.model, 2)], metric, steps=3, errors=True, to_save=False
        )
