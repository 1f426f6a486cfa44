"""`lla path --align` and `--connect` give what align, connect and viz_path give; what is wrong is said in one line."""

from __future__ import annotations

import sys

import pytest
import torch

from bridges import weights
from bridges.alignment import align
from bridges.loaders import mlp
from lla_func import Curve, connect, load, viz_path
from tests.command import run

pytestmark = pytest.mark.usefixtures("own_folder")

SMALL = ["--loader", "mlp", "--batch_size", "20", "--steps", "3", "--engine", "loop"]


@pytest.fixture
def models():
    """Two models of the ready MLP and their files, a.pth and b.pth."""
    found = []
    for seed, name in enumerate("ab"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found.append(mlp.ModelInit(weight_path=None))
        weights.save(found[-1], f"{name}.pth")
    return found


def metric():
    return mlp.CustomLoss(*next(iter(mlp.CustomLoader(batch_size=20))))


def test_connect_draws_the_curve_and_goes_on_with_a_store(models, capsys):
    command = ["path", "a.pth", "b.pth", *SMALL, "--connect", "chain", "--bends", "2", "--epochs", "3"]
    assert run(*command, "--store", "job") == 0
    output = capsys.readouterr().out
    assert "Curve: chain with 2 bends" in output
    expected = connect(*models, metric(), kind="chain", bends=2, epochs=3)
    assert torch.equal(Curve.load("job/curve/curve.npz").points, expected.points)
    drawn = viz_path(expected, metric(), steps=3, to_save=False, engine="loop")
    assert torch.equal(load("analysis_results/path_default.npz").landscape.losses, drawn.landscape.losses)
    assert run("path", "--resume", "job") == 0


def test_align_draws_the_line_to_the_aligned_model(models):
    assert run("path", "a.pth", "b.pth", *SMALL, "--align") == 0
    other = mlp.ModelInit(weight_path=None)
    other.load_state_dict(align(models[1], to=models[0], inputs=metric().inputs))
    expected = viz_path([models[0], other], metric(), steps=3, to_save=False, engine="loop")
    found = load("analysis_results/path_default.npz")
    assert torch.equal(found.landscape.losses, expected.landscape.losses)


def test_without_scipy_the_command_says_what_to_install(models, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    assert run("path", "a.pth", "b.pth", *SMALL, "--align") == 1
    assert "needs SciPy" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--connect", "line"], "'line' is not one of bezier, chain, band"),
        (["--bends", "2"], "--bends is for --connect"),
        (["--connect", "bezier", "--epochs", "0"], "0 is too small"),
        (["a.pth", "--connect", "bezier"], "--connect is between two models, there are 3"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(models, capsys, given, says):
    assert run("path", "a.pth", "b.pth", *given, *SMALL) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
