"""Points of trajectories and curves as state dicts, with BatchNorm recalibrated on request."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from bridges import trajectories
from bridges.metrics import Loss
from lla_func import Trajectory
from lla_func.objective import risk
from tests.cases import build, objective
from tests.state import unchanged


class Line:
    """A curve from here to a point nearby."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def theta(self, t):
        return (1 - t) * self.a + t * self.b


def test_a_point_of_a_curve_is_a_state_dict_of_the_model():
    case = build("resnet")
    theta = objective("resnet").theta
    line = Line(theta, theta + 1)
    with unchanged(case.model):
        state = trajectories.state_dict(line, 0.25, like=case.model)
    other = copy.deepcopy(case.model)
    other.load_state_dict(state)
    moved = torch.cat([p.detach().reshape(-1) for p in other.parameters()])
    assert torch.allclose(moved, theta + 0.25)
    assert torch.equal(other.stem[1].running_mean, case.model.stem[1].running_mean)


def test_statistics_of_batchnorm_are_those_of_the_metrics_data():
    case = build("resnet")
    theta = objective("resnet").theta
    line = Line(theta, 1.5 * theta)
    with unchanged(case.model):
        state = trajectories.state_dict(line, 0.5, like=case.model, metric=case.metric)
    other = copy.deepcopy(case.model)
    other.load_state_dict(trajectories.state_dict(line, 0.5, like=case.model))
    update_bn([case.inputs], other)
    assert torch.allclose(state["stem.1.running_var"], other.stem[1].running_var, rtol=1e-10)
    other.load_state_dict(state)
    other.eval()
    recalibrated = case.metric.objective(case.model, batchnorm="recalibrate")
    assert case.metric(other) == pytest.approx(float(risk(recalibrated, line.theta(0.5))), rel=1e-10)


def test_a_metric_changes_nothing_without_batchnorm():
    case = build("mlp")
    theta = objective("mlp").theta
    plain = trajectories.state_dict(theta, like=case.model)
    assert all(
        torch.equal(x, plain[key])
        for key, x in trajectories.state_dict(theta, like=case.model, metric=case.metric).items()
    )


def test_the_state_is_a_copy():
    model = nn.Linear(2, 1)
    trajectories.state_dict(torch.zeros(3), like=model)["weight"].fill_(9)
    assert not bool((model.weight == 9).any())


@pytest.mark.parametrize(
    ("thing", "t", "options", "error", "message"),
    [
        (torch.zeros(4), None, {}, ValueError, r"theta has shape \[4\]; like has P=3"),
        ([1, 2], 0, {}, TypeError, r"has no theta\(t\)"),
        (
            Line(torch.zeros(3), torch.ones(3)),
            0.5,
            {"metric": nn.MSELoss()},
            TypeError,
            "metric is of type MSELoss",
        ),
        (Line([0], [1]), 0, {}, TypeError, "theta is of type list"),
    ],
)
def test_what_is_no_point_of_the_model_is_refused(thing, t, options, error, message):
    with pytest.raises(error, match=message):
        trajectories.state_dict(thing, t, like=nn.Linear(2, 1), **options)


def test_a_trajectory_of_another_model_is_refused():
    path = Trajectory.of(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="like is of another model: 'theta' has no such parameter there"):
        trajectories.state_dict(path, 0, like=nn.Linear(2, 1))


def test_losses_of_models_with_data_outside_of_a_metric_are_the_same():
    x, y = torch.randn(6, 2), torch.randn(6, 1)
    model = nn.Linear(2, 1)
    metric = Loss(nn.MSELoss(), x, y)
    state = trajectories.state_dict(torch.ones(3), like=model, metric=metric)
    model.load_state_dict(state)
    assert metric(model) == pytest.approx(float(nn.functional.mse_loss(x.sum(1, keepdim=True) + 1, y)))
