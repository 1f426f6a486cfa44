"""The command line's way to further metrics, errors over data and maps of the curvature."""

from __future__ import annotations

from pathlib import Path

import pytest

from lla_func import store
from tests.command import run

QUICK = ("eval", "--loader", "mlp", "--batch_size", "40", "--steps", "4", "-np", "1", "--seed", "0")

pytestmark = pytest.mark.usefixtures("own_folder")


def test_metrics_and_errors_are_evaluated_drawn_and_kept(capsys):
    assert run(*QUICK, "--metrics", "accuracy,class_accuracy", "--errors", "--curvature_map", "2") == 0
    (landscape,), _ = store.load_landscapes("analysis_results/eval_default.npz")
    names = ["accuracy", "class_accuracy", "largest eigenvalue", "smallest eigenvalue", "r_e"]
    assert list(landscape.metrics) == names
    assert set(landscape.errors) == {"loss", "accuracy", "class_accuracy"}
    assert Path("viz_results/eval_default_error_of_loss_contour.png").exists()
    assert "wrote viz_results/eval_default_accuracy.png" in capsys.readouterr().out


def test_metrics_that_there_are_not_are_named(capsys):
    assert run(*QUICK, "--metrics", "acuracy") == 2
    assert (
        "'acuracy' is not one of accuracy, class_accuracy, class_losses; did you mean"
        in capsys.readouterr().err
    )
