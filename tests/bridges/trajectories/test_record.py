"""Recording a model in training: bit for bit, in any loop, and without touching the model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bridges import trajectories
from bridges.models import layout_of, trainable
from lla_func import Trajectory
from tests.cases import build, every_case
from tests.state import unchanged


def training(case, steps=6):
    """Trains in place; yields the number of steps made."""
    optimizer = torch.optim.SGD([p for p in case.model.parameters() if p.requires_grad], lr=0.01)
    inputs = case.inputs if isinstance(case.inputs, tuple) else (case.inputs,)
    case.model.train()
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        case.criterion(case.model(*inputs), case.targets).backward()
        optimizer.step()
        yield step


def theta_of(model):
    return torch.cat([p.detach().reshape(-1) for p in trainable(model).values()])


def same_bits(a, b):
    return a.dtype == b.dtype and torch.equal(
        a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)
    )


@every_case(dtypes=(torch.float32, torch.float64))
def test_every_checkpoint_is_the_model_bit_for_bit(tmp_path, name, dtype):
    case = build(name, dtype)
    thetas, states = [], []
    with trajectories.record(case.model, tmp_path) as recorder:
        for step in training(case):
            assert recorder(step)
            thetas.append(theta_of(case.model))
            states.append(copy.deepcopy(case.model.state_dict()))
    path = Trajectory.open(tmp_path)
    assert path.layout == layout_of(case.model)
    assert path.steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert all(same_bits(path.theta(t), theta) for t, theta in enumerate(thetas))
    for t, state in enumerate(states):
        found = trajectories.state_dict(path, t, like=case.model)
        assert list(found) == list(state)
        assert all(torch.equal(found[key], state[key]) for key in state)


def test_a_model_in_bfloat16_is_recorded_in_it(tmp_path):
    model = nn.Sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)).to(torch.bfloat16)
    with trajectories.record(model, tmp_path) as recorder:
        recorder(0)
    path = Trajectory.open(tmp_path)
    assert path.dtype is torch.bfloat16
    assert same_bits(path.theta(0), theta_of(model))
    assert path.buffer(0)["1.running_var"].dtype is torch.bfloat16


def test_weights_with_another_order_in_memory_are_recorded_in_that_of_theta(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Linear(3, 5)).to(memory_format=torch.channels_last)
    model[1].weight = nn.Parameter(torch.randn(3, 5).T)
    with trajectories.record(model, tmp_path) as recorder:
        recorder(0)
    assert torch.equal(recorder.trajectory.theta(0), theta_of(model))


def test_tied_parameters_are_kept_once_and_come_back_under_both_names(tmp_path):
    case = build("tied")
    with trajectories.record(case.model, tmp_path) as recorder:
        for step in training(case, 2):
            recorder(step)
    path = recorder.trajectory
    assert path.layout.names == ("embedding.weight", "mix.weight", "mix.bias")
    state = trajectories.state_dict(path, -1, like=case.model)
    assert torch.equal(state["embedding.weight"], state["output.weight"])
    assert torch.equal(state["output.weight"], case.model.output.weight)


def test_frozen_parameters_are_left_to_the_model(tmp_path):
    case = build("mlp")
    case.model[0].requires_grad_(False)
    with trajectories.record(case.model, tmp_path) as recorder:
        for step in training(case, 2):
            recorder(step)
    assert recorder.trajectory.layout.names == ("2.weight", "2.bias")
    state = trajectories.state_dict(recorder.trajectory, 0, like=case.model)
    assert torch.equal(state["0.weight"], case.model[0].weight)
    assert not torch.equal(state["2.weight"], case.model[2].weight)


def test_recording_leaves_the_model_as_it_was(tmp_path):
    case = build("resnet")
    next(training(case))
    with unchanged(case.model), trajectories.record(case.model, tmp_path) as recorder:
        recorder(0)
        recorder(1)


def test_shells_around_a_model_are_seen_through(tmp_path):
    model = nn.Linear(3, 2)
    with trajectories.record(nn.DataParallel(model), tmp_path) as recorder:
        recorder(0)
    assert recorder.trajectory.layout == layout_of(model)


def test_weights_that_are_assigned_anew_are_those_that_are_recorded(tmp_path):
    model = nn.Linear(3, 2)
    with trajectories.record(model, tmp_path) as recorder:
        model.weight = nn.Parameter(torch.full((2, 3), 7.0))
        recorder(0)
    assert recorder.trajectory.theta(0)[0] == 7


def test_rows_are_of_the_moment_of_the_call(tmp_path):
    model = nn.Linear(3, 2)
    before = theta_of(model).clone()
    with trajectories.record(model, tmp_path) as recorder:
        recorder(0)
        with torch.no_grad():
            model.weight.zero_()
    assert torch.equal(recorder.trajectory.theta(0), before)


def test_a_step_can_be_recorded_whether_it_is_due_or_not(tmp_path):
    with trajectories.record(nn.Linear(3, 2), tmp_path, every=10) as recorder:
        assert [recorder(step) for step in range(4)] == [True, False, False, False]
        assert recorder(4, always=True)
    assert recorder.trajectory.steps.tolist() == [0, 4]


@pytest.mark.parametrize("last", range(20, 30))
def test_the_last_step_stays_whatever_the_thinning_says(tmp_path, last):
    with trajectories.record(nn.Linear(3, 2), tmp_path, every=3, keep=3) as recorder:
        for step in range(last):
            recorder(step)
        recorder(last, always=True)
    steps = recorder.trajectory.steps.tolist()
    assert steps[0] == 0
    assert steps[-1] == last
    assert len(steps) <= 4


def test_steps_that_are_recorded_without_being_due_are_thinned_with_the_others(tmp_path):
    with trajectories.record(nn.Linear(3, 2), tmp_path, every=10, keep=2) as recorder:
        for step in range(41):
            recorder(step, always=True)
    assert recorder.trajectory.steps.tolist() == [0, 40]


def test_projections_are_recorded_without_buffers(tmp_path):
    case = build("resnet")
    with trajectories.record(case.model, tmp_path, project=20, seed=4) as recorder:
        recorder(0)
    path = recorder.trajectory
    assert path.width == 20
    assert path.buffers == ()
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert size < 4 * 1024 * 20 * 8


def test_a_training_is_continued_where_it_was_recorded_last(tmp_path):
    case = build("mlp")
    with trajectories.record(case.model, tmp_path) as recorder:
        for step in training(case, 3):
            recorder(step)
    with trajectories.record(case.model, tmp_path, resume=True) as recorder:
        for step in training(case, 2):
            recorder(3 + step)
    assert Trajectory.open(tmp_path).steps.tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        (nn.Linear(2, 1).requires_grad_(False), {}, ValueError, "no parameter with requires_grad"),
        (nn.Linear, {}, TypeError, "a class; pass an instance"),
        ("lenet", {}, TypeError, "model is of type str"),
        (nn.LazyLinear(2), {}, ValueError, "has no values yet"),
        (
            nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double()),
            {},
            ValueError,
            "'1.weight' of the model has dtype",
        ),
        (nn.Linear(2, 1), {"every": 0}, ValueError, "every=0"),
        (nn.Linear(2, 1), {"keep": 1}, ValueError, "keep=1"),
        (nn.Linear(2, 1), {"project": 1}, ValueError, "project=1"),
        (nn.Linear(2, 1), {"project": 100}, ValueError, "project=100"),
        (nn.Linear(2, 1), {"project": 2, "seed": -1}, ValueError, "seed=-1"),
        (nn.Linear(2, 1), {"resume": "no"}, TypeError, "resume='no'"),
    ],
)
def test_what_cannot_be_recorded_is_refused(tmp_path, model, options, error, message):
    with pytest.raises(error, match=message):
        trajectories.record(model, tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("step", [-1, 1.5, "first", None, True])
def test_steps_are_whole_numbers(tmp_path, step):
    with (
        trajectories.record(nn.Linear(2, 1), tmp_path) as recorder,
        pytest.raises((TypeError, ValueError), match="step="),
    ):
        recorder(step)


def test_a_model_that_changed_its_shape_or_dtype_is_refused_and_named(tmp_path):
    model = nn.Linear(3, 2)
    with trajectories.record(model, tmp_path) as recorder:
        recorder(0)
        model.double()
        with pytest.raises(
            ValueError, match=r"'weight' of the model was torch\.float32 \[2, 3\] when recording began"
        ):
            recorder(1)
        model.float()
        model.bias = None
        with pytest.raises(ValueError, match="now it is gone"):
            recorder(2)
    assert len(Trajectory.open(tmp_path)) == 1


def test_layers_that_thaw_while_they_are_not_recorded_are_named(tmp_path):
    model = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 1))
    with trajectories.record(model, tmp_path) as recorder:
        recorder(0)
        model[1].requires_grad_(False)  # what is recorded may freeze
        recorder(1)
        model[0].requires_grad_(True)
        with pytest.raises(ValueError, match="'0.weight' of the model was frozen when recording began"):
            recorder(2)
    assert len(Trajectory.open(tmp_path)) == 2
