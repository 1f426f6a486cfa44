"""`lla path`: the loss between weights files, as viz_path gives it; what is wrong is said in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bridges import weights
from bridges.loaders import lenet, mlp
from lla_func import load, viz_path
from tests.command import run

pytestmark = pytest.mark.usefixtures("own_folder")

SMALL = ["--loader", "mlp", "--batch_size", "20", "--steps", "3"]


@pytest.fixture
def files():
    """Three weights files of the ready MLP."""
    for seed, name in enumerate("abc"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            weights.save(mlp.ModelInit(weight_path=None), f"{name}.pth")
    return ["a.pth", "b.pth", "c.pth"]


def test_path_gives_what_viz_path_does(files, capsys):
    assert run("path", *files[:2], *SMALL, "--name", "two", "--engine", "loop") == 0
    output = capsys.readouterr().out
    result = load("analysis_results/path_two.npz")
    models = [mlp.ModelInit(weight_path=name) for name in files[:2]]
    metric = mlp.CustomLoss(*next(iter(mlp.CustomLoader(batch_size=20))))
    expected = viz_path(models, metric, steps=3, to_save=False, engine="loop")
    assert torch.equal(result.landscape.losses, expected.landscape.losses)
    assert result.names == ("a", "b")
    assert "MLP, " in output
    assert "barrier a to b" in output
    assert all(
        Path(line.removeprefix("wrote ")).is_file() for line in output.splitlines() if "wrote " in line
    )
    assert Path("viz_results/path_two.png").stat().st_size > 0


def test_test_data_stand_beside_the_training_data(files):
    assert run("path", *files[:2], *SMALL, "--test") == 0
    result = load("analysis_results/path_default.npz")
    assert list(result.landscapes) == ["loss", "test"]
    model, data = mlp.ModelInit(weight_path="a.pth"), {}
    for split in ("train", "test"):
        data[split] = mlp.CustomLoss(*next(iter(mlp.CustomLoader(batch_size=20, split=split))))(model)
    found = [float(landscape.losses[0]) for landscape in result.landscapes.values()]
    assert found == pytest.approx(list(data.values()), rel=1e-5)


def test_metrics_of_classifiers_are_drawn_beside_the_loss(files):
    assert run("path", *files[:2], *SMALL, "--metrics", "accuracy") == 0
    accuracy = load("analysis_results/path_default.npz").landscape.metrics["accuracy"]
    images, labels = next(iter(mlp.CustomLoader(batch_size=20)))
    hits = [
        (mlp.ModelInit(weight_path=name)(images).argmax(1) == labels).double().mean() for name in files[:2]
    ]
    assert accuracy[[0, -1]].tolist() == pytest.approx([float(share) for share in hits])
    assert Path("viz_results/path_default_accuracy.png").is_file()


def test_three_files_span_a_plane_and_kind_chain_a_chain(files):
    assert run("path", *files, *SMALL, "--margin", "0.1") == 0
    settings = json.loads(Path("analysis_results/path_default.json").read_text())
    assert (settings["margin"], settings["names"]) == (0.1, ["a", "b", "c"])
    assert load("analysis_results/path_default.npz").landscape.coords.shape == (9, 2)
    assert run("path", *files, *SMALL, "--kind", "chain") == 0
    assert load("analysis_results/path_default.npz").landscape.coords.shape == (5, 1)


def test_random_weights_and_the_loaders_own_are_models_too():
    assert run("path", "None", "-1", "--steps", "2", "--batch_size", "8") == 0
    result = load("analysis_results/path_default.npz")
    assert result.names == ("random", "loader's own")
    metric = lenet.CustomLoss(*next(iter(lenet.CustomLoader(batch_size=8))))
    assert float(result.losses[1]) == pytest.approx(metric(lenet.ModelInit()), rel=1e-5)


def test_files_of_one_name_in_two_folders_are_told_apart(files):
    Path("other").mkdir()
    Path("b.pth").rename("other/a.pth")
    assert run("path", "a.pth", "other/a.pth", *SMALL) == 0
    assert load("analysis_results/path_default.npz").names == ("a.pth", "other/a.pth")


def test_a_job_is_taken_up_again_by_its_folder(files):
    assert run("path", *files[:2], *SMALL, "--store", "job", "--name", "kept") == 0
    first = Path("analysis_results/path_kept.npz")
    losses = load(first).landscape.losses
    first.unlink()
    assert run("path", "--resume", "job") == 0
    assert torch.equal(load(first).landscape.losses, losses)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.pth"], "it takes two or more models"),
        ([], "it takes two or more models"),
        (["a.pth", "missing.pth"], "there is no weights file 'missing.pth'"),
        (["a.pth", "a.pth"], "are equal, so nothing lies between them"),
        (["a.pth", "b.pth", "--kind", "plane"], "kind='plane' goes through 3 models, there are 2"),
        (["a.pth", "b.pth", "--margin", "-1"], "not a finite number"),
        (["a.pth", "b.pth", "--kind", "plain"], "did you mean 'plane'"),
        (["a.pth", "b.pth", "--slices", "0"], "0 is too small"),
        (["a.pth", "b.pth", "--name", "a/b"], "cannot be a file name"),
        (["a.pth", "b.pth", "--loader", "lenet"], "is not for this LeNet"),
        (
            ["None", "-1", "--loader", "template", "--test"],
            "--split cannot be used with loader 'template'",
        ),
        (["--trajectory", "run", "--metrics", "accuracy"], "--metrics is for models"),
        (["a.pth", "b.pth", "--trust"], "--trust is for --resume DIR"),
    ],
)
def test_what_is_wrong_ends_with_one_line(files, arguments, words, capsys):
    given = [*arguments] if "--loader" in arguments else [*arguments, *SMALL]
    assert run("path", *given) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1
