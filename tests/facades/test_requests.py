"""What is wrong with a request is found before any work: no loss is evaluated, and no product is formed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from bridges import metrics
from bridges.command import _eval as commands
from bridges.command import _training as training
from bridges.loaders import template
from lla_func import from_loss, products, viz_esd, viz_lla
from lla_func.facades import _common as common
from lla_func.facades import _landscape as landscape
from lla_func.facades import _spectrum as spectrum
from lla_func.facades._landscape import check_request
from lla_func.geometry._chart import line
from lla_func.landscape._evaluate import evaluate
from lla_func.objective._objective import Objective
from tests.command import run


@pytest.fixture
def no_work(monkeypatch):
    """Work of either front door fails the test."""

    def work(*_, **__):
        raise AssertionError("work began before the request was checked")

    for module in (landscape, spectrum):
        monkeypatch.setattr(module, "analyse", work)
    monkeypatch.setattr(common, "shared", work)
    for name in ("risk", "evaluate"):
        monkeypatch.setattr(landscape, name, work)


WRONG = [
    ({"freeze": "features.*"}, ValueError, "'features.*' matches no parameter"),
    ({"freeze": 7}, ValueError, "freeze=7 is out of range"),
    ({"freeze": "*"}, ValueError, "matches all 4 parameters"),
    (
        {"freeze": ["0.weight", "2.weight"], "ignore": "bias_norm"},
        ValueError,
        "nothing moves|linearly depend",
    ),
    ({"raa": 7}, ValueError, "freeze=7 is out of range"),
    ({"points_per_pass": 0}, ValueError, "points_per_pass=0 is too small"),
    ({"points_per_pass": 2.5}, TypeError, "points_per_pass=2.5 is not a whole number"),
    ({"samples_per_tile": -1}, ValueError, "samples_per_tile=-1 is too small"),
    ({"memory_budget": 0}, ValueError, "memory_budget=0 is too small"),
    ({"memory_budget": "8G"}, TypeError, "memory_budget='8G' is not a whole number"),
    ({"engine": "warp"}, ValueError, "engine='warp' is not one of"),
    ({"sampling": "chebyshev"}, ValueError, "needs tol"),
    ({"tol": 0.1}, ValueError, "tol=0.1 is for sampling='chebyshev'"),
    ({"axes": torch.ones(2, 3)}, ValueError, r"axes has shape \[2, 3\]"),
    ({"axes": torch.ones(1, 39)}, ValueError, r"axes has shape \[1, 39\]"),
    ({"axes": torch.ones(39)}, ValueError, r"axes has shape \[39\]"),
    ({"axes": torch.zeros(2, 39)}, ValueError, "nothing moves"),
    ({"axes": torch.full((2, 39), torch.nan)}, ValueError, "NaN"),
    ({"axes": "adam"}, ValueError, "needs optimizer="),
    ({"axes": "adam", "optimizer": nn.Linear(1, 1)}, TypeError, "optimizer"),
    ({"batchnorm": "recalibrate"}, ValueError, "recalibrated"),
    ({"hessian_pair": "bottom"}, ValueError, "hessian_pair='bottom' is not one of"),
    ({"cur_name": "a" * 145, "viz_dev": True}, ValueError, "too long for a file name"),
]


@pytest.mark.parametrize(("options", "error", "words"), WRONG)
@pytest.mark.usefixtures("no_work")
def test_viz_lla_finds_a_wrong_option_before_the_hessian_work(model, metric, tmp_path, options, error, words):
    options = {"to_save": False, "seed": 0, "eval_hessian": True, "calc_crit": True, **options}
    if options.get("batchnorm") == "recalibrate":
        model.append(nn.BatchNorm1d(3))
    with pytest.raises(error, match=words):
        viz_lla(model, metric, **options)


@pytest.mark.usefixtures("no_work")
def test_frozen_eigenvectors_are_refused_before_they_are_computed(model, metric):
    for options in ({"freeze": "0.*", "ignore": "bias_norm"}, {"normalization": "filter"}):
        with torch.no_grad():
            model[2].weight.zero_()
            if "normalization" in options:
                model[0].weight.zero_()
                model[0].bias.zero_()
                model[2].bias.zero_()
            else:
                options = {"freeze": ["0.*", "2.weight"], "ignore": "bias_norm"}
        with pytest.raises(ValueError, match="nothing moves along hessian axes|linearly dependent"):
            viz_lla(model, metric, axes="hessian", to_save=False, **options)


@pytest.mark.usefixtures("no_work")
def test_a_loss_without_derivative_is_refused_before_it_is_evaluated(model, metric):
    class Detached(metrics.Metric):
        def loss(self, model, batch):
            return model(batch[0]).detach().square().mean()

    detached = Detached(metric.inputs, metric.target)
    with pytest.raises(ValueError, match="does not depend on theta"):
        viz_lla(model, detached, eval_hessian=True, to_save=False)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"kernel": "wrap"}, ValueError, "kernel='wrap' is not one of"),
        ({"parameters": "fc1.*"}, ValueError, r"'fc1.\*' matches no parameter"),
        ({"parameters": "0.bias", "eigs": True, "top_n": 5}, ValueError, r"there are parameters \(4\)"),
        (
            {"parameters": iter(["0.bias"]), "eigs": True, "top_n": 5},
            ValueError,
            r"there are parameters \(4\)",
        ),
        ({"top_n": 2.5}, TypeError, "top_n=2.5 is not a whole number"),
        ({"max_v": 1}, ValueError, "max_v=1 is too small"),
    ],
)
@pytest.mark.usefixtures("no_work")
def test_viz_esd_finds_a_wrong_option_before_the_first_product(model, metric, options, error, words):
    with pytest.raises(error, match=words):
        viz_esd(model, metric, to_save=False, **options)


def test_patterns_may_come_from_an_iterator(model, metric):
    found = viz_esd(model, metric, to_save=False, parameters=iter(["0.bias"]), esd_n_iter=3, seed=0)
    assert "0.bias" in found.analysis.operator
    result = viz_lla(model, metric, to_save=False, freeze=iter(["0.*"]), steps=2, num_plots=2, seed=0)
    named = viz_lla(model, metric, to_save=False, freeze="0.*", steps=2, num_plots=2, seed=0)
    for one, other in zip(result.landscapes, named.landscapes, strict=True):
        assert torch.equal(one.losses, other.losses)


def never(theta, batch):
    raise AssertionError("the loss was evaluated before the request was checked")


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"points_per_pass": 0}, ValueError, "points_per_pass=0"),
        ({"plan": {"engine": "rm"}}, ValueError, r"plan\['engine'\]='rm' is not one of"),
        ({"plan": {"workers": 2}}, ValueError, "plan has no engine"),
        ({"plan": {"engine": "loop", "workers": "2"}}, TypeError, r"plan\['workers'\]='2' is not a whole"),
        ({"plan": {"engine": "loop", "workers": 0}}, ValueError, r"plan\['workers'\]=0 is too small"),
        (
            {"plan": {"engine": "vmap", "points_per_pass": 10**12}},
            ValueError,
            r"plan\['points_per_pass'\]=10+ is",
        ),
        ({"plan": {"engine": "vmap", "samples_per_tile": 0.5}}, TypeError, r"plan\['samples_per_tile'\]=0.5"),
        ({"plan": {"engine": "vmap", "keep": "no"}}, TypeError, r"plan\['keep'\]='no' is not True or False"),
        ({"plan": 3}, TypeError, "plan=3 is not a plan"),
        ({"tol": -1, "sampling": "chebyshev"}, ValueError, "tol=-1"),
        ({"store": 5}, TypeError, "store=5 is not a path"),
    ],
)
def test_evaluate_finds_a_wrong_option_before_the_first_point(options, error, words):
    objective = from_loss(never, torch.zeros(2))
    with pytest.raises(error, match=words):
        evaluate(objective, line(objective.theta, torch.ones(2)), torch.zeros(3, 1), **options)


def test_a_request_can_be_checked_ahead_of_the_call(model, metric):
    request = check_request(model, metric, freeze="0.*", to_save=False, seed=3)
    assert isinstance(request.objective, Objective)
    assert (request.seed, request.panels.freeze) == (3, "0.*")
    with pytest.raises(ValueError, match="matches no parameter"):
        check_request(model, metric, freeze="1.*", to_save=False)


def test_the_hessian_is_not_checked_where_none_is_asked_for(model, metric):
    """Losses without a second derivative have landscapes all the same."""
    accuracy = metrics.Loss(
        lambda p, y: (p.argmax(1) != y).double().mean(), metric.inputs, metric.target, separable=True
    )
    check_request(model, accuracy, to_save=False)
    with pytest.raises(ValueError, match="differentiated"):
        products.hessian(accuracy.objective(model))


# ---- the command ---------------------------------------------------------------------------------------------------

TRAIN = ["train", "--loader", "template", "--steps", "3", "-np", "1", "-e", "3"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--freeze", "features.*"], "matches no parameter"),
        (["--freeze", "99"], "freeze=99 is out of range"),
        (["--batchnorm", "recalibrate", "-he"], "recalibrated"),
        (["--mode", "adameq"], "needs axes='adam'"),
        (["--name", "a" * 142, "-e", "11"], "too long for a file name"),
        (["--viz_dir", "file/pictures"], "viz_dir='file/pictures' is not a directory"),
        (["--res_dir", "file"], "res_dir='file' is not a directory"),
        (["--log_dir", "file"], "--log_dir='file' is not a directory"),
    ],
)
@pytest.mark.usefixtures("own_folder")
def test_train_finds_a_wrong_option_before_the_first_epoch(capsys, monkeypatch, argv, words):
    def no_training(*_, **__):
        raise AssertionError("training began before the request was checked")

    monkeypatch.setattr(training, "train", no_training)
    if "recalibrate" in argv:
        loader = Path(template.__file__).read_text().replace("nn.Tanh()", "nn.BatchNorm1d(16)")
        Path("normed.py").write_text(loader)
        argv = [*argv, "--loader", "normed.py"]
    Path("file").write_text("not a directory")
    assert run(*TRAIN, *argv) == 2
    assert words in capsys.readouterr().err


@pytest.mark.usefixtures("own_folder")
def test_what_is_wrong_with_held_out_data_shows_before_training(capsys):
    loader = Path(template.__file__).read_text()
    loader = loader.replace(
        "    shuffle: bool = False,\n", "    shuffle: bool = False,\n    split: str = 'all',\n"
    )
    loader = loader.replace(
        "    # Keep.\n    loader =", "    points = points[:, 'tes' in split :]\n    loader ="
    )
    Path("halved.py").write_text(loader)
    assert run(*TRAIN, "--loader", "halved.py", "--viz_rate", "0") != 0
    assert "shapes cannot be multiplied" in capsys.readouterr().err
    assert not Path("train_logs/default.jsonl").exists()


@pytest.mark.parametrize(
    "error", [ValueError("no picture"), MemoryError("no picture"), RuntimeError("no picture")]
)
@pytest.mark.usefixtures("own_folder")
def test_training_goes_on_and_is_kept_when_a_picture_fails(capsys, monkeypatch, error):
    calls, draw = [], commands.viz_lla

    def failing(*operands, **options):
        calls.append(options["cur_name"])
        if len(calls) == 2:
            raise error
        return draw(*operands, **options)

    monkeypatch.setattr(commands, "viz_lla", failing)
    assert run(*TRAIN) != 0
    said = capsys.readouterr()
    assert "no landscape of epoch 1: no picture" in said.err
    assert "no picture" in said.err.splitlines()[-1]
    assert len(calls) == 3
    assert "wrote train_logs/default.pth" in said.out
    assert len(Path("train_logs/default.jsonl").read_text().splitlines()) == 3
    kept = torch.load("train_logs/default.pth", weights_only=True)
    assert run(*TRAIN, "--viz_rate", "0", "--name", "undrawn") == 0
    undrawn = torch.load("train_logs/undrawn.pth", weights_only=True)
    assert all(torch.equal(kept[name], undrawn[name]) for name in kept)


@pytest.mark.usefixtures("own_folder")
def test_ctrl_c_in_a_picture_keeps_the_epochs_before_it(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "viz_lla", interrupted)
    assert run(*TRAIN) == 130
    assert Path("train_logs/default.pth").is_file()


@pytest.mark.usefixtures("own_folder", "no_work")
def test_esd_finds_missing_weights_and_long_names_before_the_first_product(capsys):
    assert run("esd", "--loader", "template", "--weights", "missing.pth") == 2
    assert "no weights file 'missing.pth'" in capsys.readouterr().err
    assert run("esd", "--loader", "template", "--weights", "None", "--name", "a" * 145) == 2
    assert "too long" in capsys.readouterr().err
