"""What the README promises: its Python runs, its commands parse, and its flags exist."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
INSTALLS = {"python -m pip install .", "python -m pip install -e '.[test]'"}


def consoles(text: str) -> list[str]:
    """The commands of the blocks of console input, each for itself."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [
        line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")
    ]
    return [command.strip() for line in lines for command in line.split("#")[0].split("&&")]


def parse(command: str) -> None:
    """Raises SystemExit where the command line would be refused, ValueError where nobody here knows the command."""
    from torch.distributed.run import parse_args as torchrun

    from bridges.command import parser

    program, *arguments = shlex.split(command)
    if program == "torchrun":
        launched = torchrun(arguments)
        assert launched.no_python
        program, arguments = launched.training_script, launched.training_script_args
    if program == "lla":
        parser().parse_args(arguments)
    elif command not in {*INSTALLS, "python -m pytest"}:
        raise ValueError(f"no test knows how to read {command!r}")


def test_the_python_in_the_readme_runs(own_folder):
    blocks = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    names: dict[str, object] = {"__name__": "readme"}
    for number, block in enumerate(blocks, start=1):
        exec(compile(block, f"README.md, Python block {number}", "exec"), names)


def test_the_commands_in_the_readme_parse():
    commands = consoles(README)
    programs = Counter(shlex.split(command)[0] for command in commands)
    assert programs["lla"] >= 4
    assert programs["torchrun"] >= 1
    assert INSTALLS.issubset(commands)
    for command in commands:
        parse(command)


def test_the_commands_in_the_sentences_of_the_readme_parse():
    commands = re.findall(r"`(lla (?:eval|esd|train)\b[^`]*)`", README)
    assert len(commands) >= 6
    for command in commands:
        parse(command)


@pytest.mark.parametrize(
    "command", ["lla eval --no_such_flag", "torchrun --no-python lla evil", "torchrun --no-pithon lla eval"]
)
def test_a_command_with_a_wrong_word_would_be_found(command, capsys):
    with pytest.raises(SystemExit):
        parse(command)


def test_every_flag_in_the_readme_exists():
    from bridges.command import parser

    (commands,) = (action.choices for action in parser()._actions if hasattr(action.choices, "values"))
    known = {flag for command in commands.values() for flag in command._option_string_actions}
    named = set(re.findall(r"`(--?[a-z_]+)\b[^`]*`", README))
    assert len(named) >= 20
    assert named <= known | {"--help", "--version"}
