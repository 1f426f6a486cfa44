"""Trainings over the surface of their plane: losses on it and off it, several runs, any model."""

from __future__ import annotations

import pytest
import torch

from bridges import trajectories
from lla_func import Trajectory, from_loss, plots
from lla_func.facades._trajectory import along_trajectories, draw_trajectories, write_animation
from lla_func.objective import risk
from lla_func.options import Evaluation
from tests.bridges.trajectories.test_record import training
from tests.cases import build, every_case
from tests.state import unchanged


def quadratic(scale=1.0):
    curvatures = torch.tensor([1.0, 0.1, 0.5], dtype=torch.float64)
    return from_loss(lambda x, _: scale * (curvatures * x.square()).sum() / 2, torch.ones(3).double())


def descent(objective, start, steps=25, rate=0.3):
    theta = torch.tensor(start, dtype=torch.float64)
    for _ in range(steps):
        yield theta.clone()
        theta.requires_grad_(True)
        (gradient,) = torch.autograd.grad(objective.loss(theta, ()), theta)
        theta = (theta - rate * gradient).detach()


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e8])
def test_of_a_training_confined_to_a_plane_nothing_is_off_it(scale):
    objective = quadratic(scale)
    path = Trajectory.of(descent(objective, [3.0, -2.0, 0.0], rate=0.3 / scale))
    found = along_trajectories(objective, path, steps=7)
    assert float(found.distances.max()) < 1e-12
    true = torch.stack([risk(objective, path.theta(t)) for t in range(len(path))])
    assert torch.allclose(found.losses, true, rtol=1e-12, atol=0)
    assert torch.allclose(found.plane_losses, true, rtol=1e-9, atol=1e-12 * scale)
    assert float(found.explained.sum()) == pytest.approx(1)
    assert found.landscape.losses.shape == (49,)


def test_off_the_plane_the_difference_of_the_losses_is_that_of_the_distance():
    objective = quadratic()
    away = 0.3
    thetas = torch.stack(list(descent(objective, [3.0, -2.0, 0.0])))
    thetas[:, 2] += away * torch.tensor([1.0, -1.0] * 12 + [0.0]).double()
    found = along_trajectories(objective, Trajectory.of(thetas), axes=torch.eye(3)[:2].double(), steps=5)
    assert torch.allclose(found.distances, thetas[:, 2].abs(), atol=1e-12)
    assert torch.allclose(found.losses - found.plane_losses, 0.25 * thetas[:, 2].square(), atol=1e-12)


def test_several_runs_share_a_plane_a_surface_and_a_color_scale():
    objective = quadratic()
    runs = [
        Trajectory.of(descent(objective, start, steps))
        for start, steps in (([3.0, 2.0, 1.0], 9), ([-3, 2, 1], 14))
    ]
    found = along_trajectories(objective, runs, steps=9)
    assert [len(part) for part in found.losses] == [9, 14]
    assert [part.tolist()[-1] for part in found.steps] == [8, 13]
    low, high = found.landscape.coords.min(0).values, found.landscape.coords.max(0).values
    for part in found.coordinates:
        assert (part >= low).all()
        assert (part <= high).all()
    figures = draw_trajectories(found, ["left", "right"], log=True)
    assert set(figures) == {"path", "off_plane"}
    assert len(figures["path"].axes[0].get_legend().get_texts()) == 2


@every_case()
def test_any_model_is_followed_and_left_as_it_was(tmp_path, name, dtype):
    case = build(name, dtype)
    with trajectories.record(case.model, tmp_path / "run") as recorder:
        for step in training(case, 4):
            recorder(step)
    objective = case.metric.objective(case.model, batchnorm="recalibrate")
    with unchanged(case.model):
        found = along_trajectories(objective, recorder.trajectory, steps=4)
    assert found.losses[-1] == pytest.approx(float(risk(objective)), rel=1e-9)
    assert torch.isfinite(found.landscape.losses).all()


def test_options_of_evaluation_are_those_of_the_surface(tmp_path):
    objective = quadratic()
    path = Trajectory.of(descent(objective, [3.0, 2.0, 1.0]))
    evaluation = Evaluation(sampling="chebyshev", tol=0.01, store=tmp_path / "job")
    found = along_trajectories(objective, path, steps=40, evaluation=evaluation)
    assert found.landscape.diagnostics["sampling"]["evaluations"] < 1600
    assert torch.allclose(found.plane_losses, found.losses, atol=1)
    assert (tmp_path / "job").is_dir()


def test_losses_that_are_not_finite_are_kept_as_such():
    objective = from_loss(lambda x, _: x.log().sum(), torch.ones(3).double())
    thetas = torch.tensor([[1.0, 2, 3], [-1, 2, 3], [1, 1, 1], [2, 1, 5]]).double()
    found = along_trajectories(objective, Trajectory.of(thetas), steps=5)
    assert found.losses.isnan().tolist() == [False, True, False, False]
    draw_trajectories(found, log=True)


def test_an_animation_is_written(tmp_path):
    objective = quadratic()
    found = along_trajectories(objective, Trajectory.of(descent(objective, [3.0, 2.0, 1.0])), steps=5)
    assert write_animation(found, tmp_path / "run.gif", frames=3, fps=2, dpi=30).stat().st_size > 0
    assert plots.save(draw_trajectories(found)["path"], tmp_path / "path.png").exists()


def test_a_trajectory_of_another_model_is_refused():
    path = Trajectory.of(torch.randn(4, 5, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"the objective is of another model: 'theta' has shape \[3\] there"):
        along_trajectories(quadratic(), path)


def test_projections_have_no_losses(tmp_path):
    case = build("mlp")
    with trajectories.record(case.model, tmp_path, project=10) as recorder:
        recorder(0)
    with pytest.raises(ValueError, match="keeps random projections, along which there are no losses"):
        along_trajectories(case.metric.objective(case.model), recorder.trajectory)
