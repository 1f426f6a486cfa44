"""Trajectories from checkpoints that a training left: files or state dicts, one in memory at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bridges import trajectories
from lla_func import Trajectory
from tests.cases import build
from tests.state import unchanged


def states(model, count=4):
    found = []
    for number in range(count):
        found.append(
            {key: x.clone() + number if x.is_floating_point() else x for key, x in model.state_dict().items()}
        )
    return found


def test_files_and_state_dicts_give_the_same_trajectory(tmp_path):
    case = build("resnet")
    given = states(case.model)
    for number, state in enumerate(given):
        torch.save(state, tmp_path / f"{number}.pth")
    with unchanged(case.model):
        from_states = trajectories.load(given, like=case.model)
        from_files = trajectories.load([tmp_path / f"{t}.pth" for t in range(4)], like=case.model)
    for t in range(4):
        assert torch.equal(from_states.theta(t), from_files.theta(t))
        found = trajectories.state_dict(from_files, t, like=case.model)
        assert all(torch.equal(found[key], given[t][key]) for key in found)


def test_what_is_loaded_with_a_folder_stays_there(tmp_path):
    model = nn.Linear(2, 1)
    trajectories.load(states(model), like=model, steps=[1, 10, 100, 1000], folder=tmp_path / "run")
    assert Trajectory.open(tmp_path / "run").steps.tolist() == [1, 10, 100, 1000]


def test_checkpoints_are_taken_one_after_another():
    model, taken = nn.Linear(2, 1), []

    def stream():
        for number, state in enumerate(states(model)):
            taken.append(number)
            yield state

    assert len(trajectories.load(stream(), like=model)) == len(taken) == 4


def test_a_trajectory_knows_the_model_that_it_came_with():
    model = nn.Linear(2, 1)
    assert trajectories.load(states(model), like=model).like is model


def test_frozen_parameters_need_not_be_in_the_checkpoints():
    model = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 1))
    adapters = [{key: x for key, x in state.items() if key.startswith("1.")} for state in states(model)]
    assert trajectories.load(adapters, like=model).layout.numel == 3


@pytest.mark.parametrize(
    ("checkpoints", "options", "error", "message"),
    [
        ([], {}, ValueError, "checkpoints is empty"),
        ("weights.pth", {}, TypeError, "checkpoints='weights.pth' is no list"),
        (7, {}, TypeError, "checkpoints=7 is no list"),
        ([3], {}, TypeError, r"checkpoints\[0\] is of type int"),
        (["nowhere.pth"], {}, FileNotFoundError, "no weights file 'nowhere.pth'"),
        ([{}], {}, ValueError, r"checkpoints\[0\] is not of this model: it lacks 'weight'"),
        (
            [{"weight": torch.ones(3, 3)}],
            {},
            ValueError,
            r"'weight' has shape \[3, 3\], in the model \[1, 2\]",
        ),
        (
            [nn.Linear(2, 1).state_dict()],
            {"steps": [1, 2]},
            ValueError,
            "steps has 2 numbers, checkpoints has 1",
        ),
        (
            [nn.Linear(2, 1).state_dict()] * 2,
            {"steps": [1]},
            ValueError,
            "steps has 1 numbers, checkpoints has more",
        ),
        ([nn.Linear(2, 1).state_dict()] * 2, {"steps": [2, 1]}, ValueError, "step=1 is not after"),
    ],
)
def test_checkpoints_that_do_not_fit_are_named(checkpoints, options, error, message):
    with pytest.raises(error, match=message):
        trajectories.load(checkpoints, like=nn.Linear(2, 1), **options)


def test_files_that_are_no_weights_are_named(tmp_path):
    (tmp_path / "a.pth").write_text("nothing")
    with pytest.raises(ValueError, match=r"a\.pth.*damaged or not a weights file"):
        trajectories.load([tmp_path / "a.pth"], like=nn.Linear(2, 1))


def test_a_frozen_parameter_that_moves_in_the_checkpoints_is_no_part_of_the_path_and_refused():
    model = nn.Sequential(nn.Linear(2, 2).requires_grad_(False), nn.Linear(2, 1))
    with pytest.raises(ValueError, match=r"checkpoints\[1\] has other values of '0.weight', which is frozen"):
        trajectories.load(states(model), like=model)


def test_checkpoints_that_untie_what_is_one_tensor_in_the_model_are_refused():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    state = {**model.state_dict(), "1.weight": torch.ones(2, 2)}
    assert len(trajectories.load([model.state_dict()], like=model)) == 1
    with pytest.raises(
        ValueError, match="other values of '1.weight' than of '0.weight', which are one tensor"
    ):
        trajectories.load([state], like=model)
