"""One definition for each option: it is in a signature, in the settings, and in the command if it has a flag."""

from __future__ import annotations

import importlib.util
import inspect
import json
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import nn

from bridges import metrics
from bridges.command._cli import parser
from lla_func import connect, directions, evaluate, from_loss, options, products, viz_esd, viz_lla, viz_path
from lla_func.hessian import KERNELS
from lla_func.landscape.engines import ENGINES
from tests.command import run

ROOT = Path(__file__).parents[1]
FUNCTIONS = {
    "evaluate": (evaluate, (options.Evaluation,)),
    "viz_lla": (viz_lla, options.VIZ_LLA),
    "viz_esd": (viz_esd, options.VIZ_ESD),
    "viz_path": (viz_path, options.VIZ_PATH),
    "connect": (connect, (options.Connection,)),
}
COMMANDS = {
    "eval": options.VIZ_LLA,
    "train": options.VIZ_LLA,
    "esd": options.VIZ_ESD,
    "path": options.VIZ_PATH,
}
ELSEWHERE = {
    ("train", "store"),
    ("esd", "calc_crit"),
}  # a training has no job to go on with; esd computes all of it

ENTRIES = [
    pytest.param(function, each, id=f"{name} {each.name}")
    for name, (function, families) in FUNCTIONS.items()
    for family in families
    for each in fields(family)
]
FLAGS = [
    pytest.param(command, each, id=f"{command} {each.name}")
    for command, families in COMMANDS.items()
    for family in families
    for each in fields(family)
    if each.metadata["flags"] and (command, each.name) not in ELSEWHERE
]


def script():
    spec = importlib.util.spec_from_file_location("signatures", ROOT / ".ci" / "signatures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("function", "each"), ENTRIES)
def test_an_option_has_its_type_and_default_in_the_signature(function, each):
    found = inspect.signature(function).parameters[each.name]
    assert (found.default, found.annotation) == (each.default, each.type)
    assert type(found.default) is type(each.default)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_options_that_are_not_positional_stand_in_the_order_of_their_families(name):
    function, families = FUNCTIONS[name]
    known = [each.name for family in families for each in fields(family)]
    found = [p.name for p in inspect.signature(function).parameters.values() if p.kind == p.KEYWORD_ONLY]
    assert [option for option in found if option in known] == [option for option in known if option in found]


@pytest.mark.skipif(shutil.which("ruff") is None, reason="needs ruff, of the extra 'dev'")
def test_signatures_docstrings_and_what_gathers_them_are_up_to_date():
    assert script().outdated() == []


@pytest.mark.parametrize(("command", "each"), FLAGS)
def test_an_option_with_a_flag_is_in_the_command_with_the_same_default_and_help(command, each):
    (subparsers,) = (action for action in parser()._actions if action.dest == "command")
    found = [
        a for a in subparsers.choices[command]._actions if set(each.metadata["flags"]) & {*a.option_strings}
    ]
    assert [action.default for action in found] == [each.default]
    assert [action.help for action in found] == [options.brief(each.metadata["help"])]


def test_every_option_says_what_it_is():
    for family in options.Family.__subclasses__():
        assert family.__doc__
        for each in fields(family):
            text = options.brief(each.metadata["help"])
            assert text
            assert "%" not in text  # argparse would take it for a format


def words(family, name):
    return family.__dataclass_fields__[name].metadata["kind"].allowed


def test_words_are_those_of_the_tables():
    assert words(options.Evaluation, "engine") == ("auto", *ENGINES)
    assert words(options.Products, "kernel") == ("auto", "timed", *KERNELS)
    assert words(options.Panels, "normalization") == directions.KINDS
    assert {"finite_difference", "fisher", "ggn", "hessian"} == {*words(options.Products, "curvature")}
    assert all(callable(getattr(products, name)) for name in words(options.Products, "curvature"))


@pytest.mark.parametrize("name", ["viz_lla", "viz_esd"])
def test_every_option_is_in_the_settings_with_its_value(name):
    function, families = FUNCTIONS[name]
    objective = from_loss(lambda theta, batch: (theta**4).sum(), torch.ones(4, dtype=torch.float64))
    small = {"viz_lla": {"steps": 2, "num_plots": 1}, "viz_esd": {"esd_n_iter": 2}}[name]
    changed = {"to_save": False, "seed": 3} | small
    settings = function(objective, **changed).settings
    for each in (each for family in families for each in fields(family)):
        if each.name in ("device", "dtype"):  # of what was evaluated, where nothing else was asked for
            assert settings[each.name] == str(getattr(objective.theta, each.name))
        else:
            key = (
                "restricted_to" if each.name == "parameters" else each.name
            )  # the settings count the parameters
            assert settings[key] == changed.get(each.name, each.default)


# ---- the Hessian of viz_lla ----------------------------------------------------------------------------------------


QUARTIC = from_loss(
    lambda theta, batch: (
        (torch.tensor([1.0, 2.0, 3.0]) * theta["a"] ** 4).sum() + 5 * theta["b"].square().sum()
    ),
    {"a": torch.ones(3, dtype=torch.float64), "b": torch.ones(2, dtype=torch.float64)},
)
SMALL = {"steps": 2, "seed": 0, "to_save": False}


def test_axes_along_the_eigenvectors_of_some_parameters_move_no_others():
    result = viz_lla(QUARTIC, axes="hessian", parameters="a", **SMALL)
    assert result.hessian.eigenpairs.values.tolist() == pytest.approx([36, 24])
    assert result.directions.shape == (2, 5)
    assert not result.directions[:, 3:].any()
    assert result.curvature.measured == pytest.approx((36, 24), rel=1e-3)
    assert result.settings["restricted_to"] == ("a",)


def test_axes_may_be_the_eigenvectors_of_another_matrix():
    result = viz_lla(QUARTIC, axes="hessian", curvature="finite_difference", **SMALL)
    assert result.titles == ("finite_difference axes",)
    assert "finite difference" in result.hessian.operator
    assert result.hessian.eigenpairs.values.tolist() == pytest.approx([36, 24], rel=1e-6)


def test_the_density_beside_a_landscape_takes_the_same_options():
    result = viz_lla(QUARTIC, num_plots=1, eval_hessian=True, parameters="b", kernel="vjp", **SMALL)
    assert result.hessian.quadrature.nodes.tolist()[0] == pytest.approx([10, 10])
    assert "vjp" in result.hessian.operator


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"parameters": "a"}, r"parameters=\('a',\) needs axes='hessian' or eval_hessian=True"),
        ({"curvature": "ggn"}, "curvature='ggn' needs axes='hessian' or eval_hessian=True"),
        ({"kernel": "vjp"}, "kernel='vjp' needs axes='hessian' or eval_hessian=True"),
        ({"axes": "hessian", "parameters": "c"}, "'c' matches no parameter"),
        ({"axes": "hessian", "curvature": "ggn", "kernel": "vjp"}, "kernel='vjp' is for curvature='hessian'"),
        (
            {"axes": "hessian", "curvature": "fisher", "quadratic": True},
            "quadratic=True needs the Hessian's own",
        ),
        ({"axes": "hessian", "parameters": "b", "freeze": "b"}, "nothing moves along hessian axes|dependent"),
        ({"axes": torch.ones(2, 5), "mode": "adameq"}, "mode='adameq' needs axes='adam'"),
        ({"plan": {"engine": "rm"}}, r"plan\['engine'\]='rm' is not one of"),
    ],
)
def test_no_option_is_accepted_and_ignored(given, words):
    with pytest.raises(ValueError, match=words):
        viz_lla(QUARTIC, **SMALL, **given)


def test_a_plan_that_is_named_repeats_the_bits():
    first = viz_lla(QUARTIC, num_plots=1, plan={"engine": "vmap", "points_per_pass": 2}, **SMALL)
    again = viz_lla(QUARTIC, num_plots=1, plan=first.landscapes[0].diagnostics["plan"], **SMALL)
    assert first.landscapes[0].diagnostics["engine"] == again.landscapes[0].diagnostics["engine"] == "vmap"
    assert torch.equal(first.landscapes[0].losses, again.landscapes[0].losses)


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("own_folder")
def test_new_flags_reach_their_functions():
    quick = "--loader template --weights None --esd_n_iter 4 --trace_n_iter 10 --trace_tol 10 --name t"
    assert run("esd", *quick.split(), "--memory", "1G", "--kernel", "vjp", "--dtype", "float64") == 0
    settings = json.loads(Path("analysis_results/esd_esd_init_t.json").read_text())["settings"]
    assert (settings["memory_budget"], settings["kernel"], settings["dtype"]) == (
        2**30,
        "vjp",
        "torch.float64",
    )
    line = "--loader mlp --batch_size 20 --steps 2 --axes hessian --curvature ggn --parameters *.bias --dtype float64"
    assert run("eval", *line.split(), "--name", "t") == 0
    settings = json.loads(Path("analysis_results/eval_t.json").read_text())
    found = settings["curvature"], settings["restricted_to"], settings["dtype"]
    assert found == ("ggn", ["*.bias"], "torch.float64")


@pytest.mark.usefixtures("own_folder")
def test_a_plan_is_printed_in_training_too(capsys):
    assert (
        run(*["train", "--loader", "template", "--steps", "2", "-np", "1", "--plan", "--engine", "loop"]) == 0
    )
    assert "plan: loop" in capsys.readouterr().out


def test_the_hessian_may_be_taken_with_dropout():
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Tanh(), nn.Linear(8, 3))
    metric = metrics.Loss(
        nn.CrossEntropyLoss(), torch.randn(12, 3, generator=generator), torch.arange(12) % 3
    )
    found = [
        viz_esd(model, metric, eigs=True, esd=False, seed=0, dropout_seed=dropout, to_save=False).eigenvalues
        for dropout in (None, 1, 1, 2)
    ]
    assert torch.equal(found[1], found[2])
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[1], found[3])
