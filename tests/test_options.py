"""One definition for each option: it is in a signature, in the settings, and in the command if it has a flag."""

from __future__ import annotations

import importlib.util
import inspect
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from bridges.command._cli import parser
from lla_func import evaluate, options
from lla_func.landscape.engines import ENGINES

ROOT = Path(__file__).parents[1]
FUNCTIONS = {"evaluate": (evaluate, (options.Evaluation,))}
COMMANDS = {"eval": (options.Evaluation,)}

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
    if each.metadata["flags"]
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


def test_words_are_those_of_the_tables():
    assert options.Evaluation.__dataclass_fields__["engine"].metadata["kind"].allowed == ("auto", *ENGINES)
