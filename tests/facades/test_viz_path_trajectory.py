"""viz_path of trainings: what it finds, writes and reads again, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from bridges import metrics, trajectories
from lla_func import Trajectory, load, viz_lla, viz_path
from tests.bridges.trajectories.test_record import training
from tests.cases import build
from tests.facades.test_trajectory import descent, quadratic
from tests.state import unchanged

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def recorded(tmp_path):
    """A case, and two runs of it."""
    case, runs = build("resnet"), []
    for name in ("first", "second"):
        with trajectories.record(case.model, tmp_path / name) as recorder:
            for step in training(case, 4):
                recorder(step)
        runs.append(Trajectory.open(tmp_path / name))
    return case, runs


def test_a_training_is_shown_on_its_plane_with_what_is_off_it(recorded, tmp_path):
    case, (path, _) = recorded
    folders = {"viz_dir": tmp_path / "viz", "res_dir": tmp_path / "res"}
    with unchanged(case.model):
        result = viz_path(
            path, case.metric, like=case.model, steps=4, animation=tmp_path / "a.gif", **folders
        )
    assert result.explained.shape == (2,)
    assert result.distances.shape == result.losses.shape == result.plane_losses.shape == (4,)
    assert result.landscape.losses.shape == (16,)
    assert result.steps.tolist() == [1, 2, 3, 4]
    assert set(result.paths) == {"losses", "settings", "path", "off_plane", "animation"}
    assert all(each.stat().st_size for each in result.paths.values())
    with Image.open(result.paths["animation"]) as gif:
        assert gif.n_frames == 4
    assert "4 checkpoints and 16 points" in repr(result)
    assert "first" in repr(result)


def test_batchnorm_is_recalibrated_at_every_checkpoint(recorded):
    case, (path, _) = recorded
    result = viz_path(path, case.metric, like=case.model, steps=2, to_save=False)
    for t in range(len(path)):
        state = trajectories.state_dict(path, t, like=case.model, metric=case.metric)
        other = build("resnet").model
        other.load_state_dict(state)
        assert float(result.losses[t]) == pytest.approx(case.metric(other.eval()), rel=1e-9)


def test_several_runs_lie_one_after_another_and_come_apart_by_their_lengths(recorded):
    case, (first, second) = recorded
    result = viz_path([first, second[1:]], case.metric, like=case.model, steps=2, to_save=False)
    assert result.names == ("first", "second")
    assert result.lengths == (4, 3)
    assert result.steps.split(result.lengths)[1].tolist() == [2, 3, 4]


def test_a_result_is_read_again_whole(recorded, tmp_path):
    case, runs = recorded
    result = viz_path(runs, case.metric, like=case.model, steps=3, viz_dir=tmp_path, res_dir=tmp_path)
    again = load(result.paths["losses"])
    for name in ("explained", "coordinates", "distances", "losses", "plane_losses", "steps"):
        assert torch.equal(getattr(again, name), getattr(result, name))
    assert torch.equal(again.landscape.losses, result.landscape.losses)
    assert again.landscape.chart == result.landscape.chart
    assert (again.names, again.lengths) == (result.names, result.lengths)
    assert repr(again).splitlines()[:-1] == repr(result).splitlines()[:-1] or not again.paths


def test_a_result_of_the_first_version_is_still_read():
    result = load(DATA / "trajectory_result_1.npz")
    assert result.names == ("run",)
    assert result.distances.shape == (5,)
    assert result.landscape.losses.shape == (4,)


def test_a_model_is_known_by_what_was_loaded_and_an_objective_needs_none():
    case = build("mlp")
    states = []
    for _ in training(case, 4):
        states.append({key: x.clone() for key, x in case.model.state_dict().items()})
    path = trajectories.load(states, like=case.model)
    by_model = viz_path(path, case.metric, steps=2, to_save=False)
    by_objective = viz_path(path, case.metric.objective(case.model), steps=2, to_save=False)
    assert torch.equal(by_model.losses, by_objective.losses)
    assert by_model.names == ("run 1",)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kind": "chain"}, ValueError, "kind='chain' is for models"),
        ({"also": {"test": 1}}, ValueError, "also= is for models and curves"),
        ({"names": ["a", "b"]}, ValueError, "2 different names for 1 runs"),
        ({"axes": "pcs"}, ValueError, "did you mean 'pca'"),
        ({"axes": torch.ones(2, 4).double()}, ValueError, r"axes has shape \[2, 4\]; pass \[2, 3\]"),
        ({"animation": "run.avi"}, ValueError, "name it .gif, or .mp4"),
        ({"like": torch.nn.Linear(2, 1)}, ValueError, "like= is not used with an Objective"),
        ({"cur_name": "a/b"}, ValueError, "cur_name"),
        ({"steps": 1}, ValueError, "steps=1"),
        ({"margin": -1}, ValueError, "margin=-1"),
    ],
)
def test_wrong_requests_are_refused_before_a_loss_is_evaluated(options, error, message):
    path = Trajectory.of(descent(quadratic(), [3.0, 2.0, 1.0]))
    with pytest.raises(error, match=message):
        viz_path(path, quadratic(), to_save=False, **options)


def test_a_model_that_nobody_named_is_asked_for(recorded):
    case, (path, _) = recorded
    with pytest.raises(ValueError, match="like= is missing: pass the model that this trajectory is of"):
        viz_path(path, case.metric, to_save=False)


def test_trajectories_and_models_are_not_mixed(recorded):
    case, (path, _) = recorded
    with pytest.raises(TypeError, match=r"models\[1\] is of type SmallResNet, others are trajectories"):
        viz_path([path, case.model], case.metric, like=case.model, to_save=False)


def test_options_of_trajectories_are_refused_for_models():
    case = build("mlp")
    for option in ({"axes": "ends"}, {"animation": "a.gif"}):
        with pytest.raises(ValueError, match="axes= and animation= are for trajectories"):
            viz_path([case.model, case.model], case.metric, to_save=False, **option)


def test_buffers_that_moved_in_training_are_said_not_to_be_those_of_the_path(recorded):
    case, (path, _) = recorded
    with pytest.warns(
        RuntimeWarning, match="running_mean' of like has other values than checkpoint 0.*recalib"
    ):
        viz_path(path, case.metric, like=case.model, steps=2, batchnorm="eval", to_save=False)


def test_other_buffers_that_moved_in_training_are_said_not_to_be_those_of_the_path():
    class Scaled(torch.nn.Linear):
        def __init__(self):
            super().__init__(3, 2)
            self.register_buffer("scale", torch.ones(()))

        def forward(self, x):
            return self.scale * super().forward(x)

    model, states = Scaled(), []
    for number in range(3):
        with torch.no_grad():
            model.weight += torch.randn(2, 3)
            model.scale.fill_(number)
        states.append({key: value.clone() for key, value in model.state_dict().items()})
    path = trajectories.load(states, like=model)
    metric = metrics.Loss(torch.nn.MSELoss(), torch.randn(5, 3), torch.randn(5, 2))
    with pytest.warns(RuntimeWarning, match="'scale' of like has other values than checkpoint 0"):
        viz_path(path, metric, steps=2, to_save=False)
    viz_path(path, metric.objective(model), steps=2, to_save=False)


def test_the_folder_of_a_run_is_read_by_load_as_well(recorded):
    _, (path, _) = recorded
    assert load(path.folder).steps.tolist() == path.steps.tolist()


def test_a_file_of_landscapes_is_told_who_reads_it(tmp_path):
    case = build("mlp")
    viz_lla(case.model, case.metric, steps=2, num_plots=1, viz_dir=tmp_path, res_dir=tmp_path)
    with pytest.raises(ValueError, match="no result of viz_path.*load_landscapes reads those of viz_lla"):
        load(tmp_path / "default.npz")


def test_the_plane_goes_beyond_the_path_by_the_margin_that_is_asked_for(recorded):
    case, (path, _) = recorded
    for margin in (0.0, 0.5):
        result = viz_path(path, case.metric, like=case.model, steps=2, margin=margin, to_save=False)
        low, high = result.coordinates.amin(0), result.coordinates.amax(0)
        extent = result.landscape.coords.amax(0) - result.landscape.coords.amin(0)
        torch.testing.assert_close(extent, (1 + 2 * margin) * (high - low))
