"""`lla train --track`: every step recorded, the last one always, and no run written over."""

from __future__ import annotations

import pytest
import torch

from bridges import weights
from bridges.command import _tracking as tracking
from bridges.loaders import mlp
from bridges.models import parameters_of
from lla_func import Trajectory, load
from tests.command import run

pytestmark = pytest.mark.usefixtures("own_folder")
TRAIN = ["train", "--loader", "mlp", "--viz_rate", "0", "--track", "run"]


def test_a_training_is_recorded_from_the_first_weights_to_the_last(capsys):
    assert run(*TRAIN, "-e", "2") == 0
    assert "recorded 47 checkpoints in run" in capsys.readouterr().out
    path = Trajectory.open("run")
    assert path.steps.tolist() == list(range(47))
    trained = parameters_of(weights.load(mlp.ModelInit(weight_path=None), "train_logs/default.pth"))
    assert torch.equal(path.theta(-1), torch.cat([x.reshape(-1) for x in trained.values()]))


def test_tracking_changes_no_weight(capsys):
    for more in ([], ["--track", "run"]):
        assert run(*TRAIN[:-2], *more, "--name", "b" if more else "a") == 0
    a, b = (torch.load(f"train_logs/{name}.pth", weights_only=True) for name in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_last_step_is_recorded_whatever_the_thinning_says(monkeypatch):
    monkeypatch.setattr(tracking, "KEPT", 8)
    assert run(*TRAIN, "-e", "1", "--track_every", "2") == 0
    path = Trajectory.open("run")
    assert len(path) <= 9
    assert path.steps[-1] == 23


def test_a_run_is_not_written_over(capsys):
    assert run(*TRAIN) == 0
    capsys.readouterr()
    assert run(*TRAIN) == 2
    assert "--track run holds 24 checkpoints already; name a new folder" in capsys.readouterr().err


def test_a_wrong_rate_is_refused(capsys):
    assert run(*TRAIN, "--track_every", "0") == 2
    assert "--track_every" in capsys.readouterr().err


def test_recorded_trainings_are_drawn(capsys):
    assert run(*TRAIN) == 0
    assert run(*TRAIN[:-1], "slow", "-lr", "0.001") == 0
    capsys.readouterr()
    asked = [
        "path",
        "--loader",
        "mlp",
        "--trajectory",
        "run",
        "slow",
        "--steps",
        "4",
        "--animation",
        "both.gif",
    ]
    assert run(*asked, "--axes", "ends", "--name", "both") == 0
    out = capsys.readouterr().out
    assert "48 checkpoints and 16 points" in out
    for path in ("viz_results/path_both.png", "viz_results/path_both_off_plane.png", "both.gif"):
        assert f"wrote {path}" in out
    assert load("analysis_results/path_both.npz").names == ("run", "slow")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--trajectory", "nowhere"], "there is no trajectory in 'nowhere'"),
        (["a.pth", "--trajectory", "run"], "--trajectory stands for the models"),
        (["--trajectory", "run", "--test"], "--test is for models"),
        (["--trajectory", "run", "--axes", "pcs"], "'pcs' is not one of pca, ends"),
        (["--trajectory", "run", "--animation", "run.avi"], "name it .gif, or .mp4"),
        (["--trajectory", "run", "--loader", "lenet"], "the objective is of another model"),
    ],
)
def test_what_cannot_be_drawn_is_refused(more, message, capsys):
    assert run(*TRAIN) == 0
    capsys.readouterr()
    assert run("path", "--loader", "mlp", *more) == 2
    assert message in capsys.readouterr().err
