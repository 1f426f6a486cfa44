"""Losses of single samples over a surface: their means are the surface, and topology takes them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bridges.metrics import Loss
from lla_func import chart, directions, evaluate, from_loss, topology
from lla_func.assessment import sample_surfaces

AXIS = torch.linspace(-1, 1, 5)
COORDS = chart.mesh(AXIS, AXIS)


def case(criterion, *, batches=1):
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3)).double()
    x, y = torch.randn(20, 4, generator=generator).double(), torch.arange(20) % 3
    y[3] = -100
    if batches == 1:
        return Loss(criterion, x, y), model
    return Loss.from_loader(criterion, [(x[:7], y[:7]), (x[7:], y[7:])]), model


def plane(objective):
    drawn = directions.random(objective.layout, 2, generator=torch.Generator().manual_seed(1)).double()
    return chart.plane(objective.theta, *drawn)


@pytest.mark.parametrize("batchnorm", ["eval", "recalibrate"])
@pytest.mark.parametrize("batches", [1, 2])
@pytest.mark.parametrize(
    "criterion",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 0.0, 3.0]).double()),
        nn.CrossEntropyLoss(reduction="sum"),
    ],
    ids=["mean", "weighted", "sum"],
)
def test_the_mean_over_samples_is_the_loss(criterion, batches, batchnorm):
    metric, model = case(criterion, batches=batches)
    objective = metric.objective(model, batchnorm=batchnorm)
    surfaces = sample_surfaces(objective, plane(objective), COORDS)
    losses = evaluate(objective, plane(objective), COORDS, engine="loop").losses
    torch.testing.assert_close(surfaces.mean(1), losses, rtol=1e-10, atol=0)
    assert (
        surfaces.shape[1] == {"mean": 19 if criterion.weight is None else 12, "sum": 20}[criterion.reduction]
    )


def test_topology_takes_them_and_its_bound_is_below_that_of_the_points():
    metric, model = case(nn.CrossEntropyLoss())
    objective = metric.objective(model)
    landscape = evaluate(objective, plane(objective), COORDS, engine="loop", errors=True)
    paired = topology(landscape, per_sample=sample_surfaces(objective, plane(objective), COORDS))
    assert 0 < paired.bound.data < topology(landscape).bound.data


def test_without_single_samples_or_points_it_is_refused():
    bowl = from_loss(lambda t, _: t.square().sum(), torch.ones(3).double())
    line = chart.line(bowl.theta, bowl.theta)
    with pytest.raises(ValueError, match="has no losses of single samples"):
        sample_surfaces(bowl, line, torch.zeros(1, 1))
    metric, model = case(nn.CrossEntropyLoss())
    objective = metric.objective(model)
    for coords, said in ((torch.zeros(0, 2), "coords is empty"), (torch.zeros(3, 1), r"pass \[N, 2\]")):
        with pytest.raises(ValueError, match=said):
            sample_surfaces(objective, plane(objective), coords)
    with pytest.raises(TypeError, match="chart is of type NoneType"):
        sample_surfaces(objective, None, COORDS)
