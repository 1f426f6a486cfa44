"""The caller's autocast and inference mode change no number of a path, a curve or a sharpness."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bridges import metrics
from lla_func import connect, sharpness, viz_path


def problem():
    torch.manual_seed(0)
    x = torch.randn(20, 4)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    other = copy.deepcopy(model)  # the same function, its units in reverse: a barrier between the two
    with torch.no_grad():
        for own, flipped, axis in zip(model.parameters(), other.parameters(), (0, 0, 1, None), strict=True):
            own.mul_(3)
            flipped.copy_(own if axis is None else own.flip(axis))
        targets = model(x).argmax(1)
    models = [model, other]
    return models, metrics.Loss(nn.CrossEntropyLoss(), x, targets)


SURROUNDINGS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
}


@pytest.fixture(params=SURROUNDINGS)
def within(request):
    return SURROUNDINGS[request.param]


def test_a_path_and_its_barrier_are_the_same(within):
    models, metric = problem()
    expected = viz_path(models, metric, steps=5, to_save=False)
    assert expected.barrier.value > 0
    with within():
        found = viz_path(models, metric, steps=5, to_save=False)
    assert torch.equal(found.landscape.losses, expected.landscape.losses)
    assert found.barrier[:3] == expected.barrier[:3]


def test_a_curve_and_its_points_are_the_same(within):
    models, metric = problem()
    expected = connect(*models, metric, epochs=3)
    with within():
        found = connect(*models, metric, epochs=3)
        middle = found.theta(0.5)
    assert torch.equal(found.points, expected.points)
    assert torch.equal(middle, expected.theta(0.5))


@pytest.mark.parametrize("kind", ["sam", "sam_max", "asam", "average", "critical_lr", "pac_bayes"])
def test_a_sharpness_is_the_same(within, kind):
    (model, _), metric = problem()
    expected = sharpness(model, metric, kind=kind)
    with within():
        assert sharpness(model, metric, kind=kind).value == expected.value
