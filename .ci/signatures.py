"""Writes the options of lla_func.options into the functions that take them; `make signatures` runs it.

Of each function it writes the arguments that are options with their types and defaults, their lines in the docstring,
and the lines at the top of the body that gather them into their families. Operands, and the order of what is
positional, stay as they are. A test fails where a function disagrees with the options.
"""

from __future__ import annotations

import ast
import re
import subprocess
import textwrap
from dataclasses import fields
from pathlib import Path

from lla_func import options

ROOT = Path(__file__).parents[1]
BEGIN, END = "    # The options, gathered by `make signatures`.\n    # fmt: off\n", "    # fmt: on\n"

# The file, the function, its families, and those of them that another function documents in full.
FUNCTIONS = (
    ("lla_func/landscape/_evaluate.py", "evaluate", (options.Evaluation,), ()),
    (
        "lla_func/facades/_landscape.py",
        "viz_lla",
        options.VIZ_LLA,
        (options.Evaluation,),
    ),
    (
        "lla_func/facades/_spectrum.py",
        "viz_esd",
        options.VIZ_ESD,
        (),
    ),
    (
        "lla_func/facades/_path.py",
        "viz_path",
        options.VIZ_PATH,
        (options.Evaluation,),
    ),
    ("lla_func/facades/_connect.py", "connect", (options.Connection,), ()),
)


def written(source: str, name: str, families: tuple, referred: tuple) -> str:
    """The source with this function brought up to date."""
    function = next(
        node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == name
    )
    lines = source.splitlines(keepends=True)
    known = {each.name: each for family in families for each in fields(family)}
    arguments = function.args
    positional = [*arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    operands = [
        (argument.arg, _argument(argument, default))
        for argument, default in [
            *zip(positional, defaults, strict=True),
            *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
        ]
        if argument.arg not in known
    ]
    operand = dict(operands)
    first = [argument.arg for argument in positional]
    rest = [argument.arg for argument in arguments.kwonlyargs if argument.arg in operand]
    rest += [option for option in known if option not in first]
    text = [operand.get(option) or _option(known[option]) for option in first]
    text += ["*", *(operand.get(option) or _option(known[option]) for option in rest)]
    head = (
        f"def {name}(\n"
        + "".join(f"    {each},\n" for each in text)
        + ") -> "
        + ast.unparse(function.returns)
        + ":\n"
    )

    document = function.body[0]
    docstring = "".join(lines[document.lineno - 1 : document.end_lineno])
    docstring = _documented(docstring, [*first, *rest], known, families, referred)
    body = "".join(lines[document.end_lineno : function.end_lineno])
    body = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), "", body, flags=re.DOTALL)
    gathered = ""
    for family in families:
        given = ", ".join(f"{each.name}={each.name}" for each in fields(family))
        call = f"{family.__name__.lower()} = {family.__name__}({given})"
        gathered += textwrap.fill(call, 110, initial_indent="    ", subsequent_indent="        ") + "\n"
    return "".join(
        [
            *lines[: function.lineno - 1],
            head,
            docstring,
            BEGIN,
            gathered,
            END,
            body,
            *lines[function.end_lineno :],
        ]
    )


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    kind = "" if argument.annotation is None else f": {ast.unparse(argument.annotation)}"
    return f"{argument.arg}{kind}" + ("" if default is None else f" = {ast.unparse(default)}")


def _option(each) -> str:
    default = each.default
    shown = f'"{default}"' if isinstance(default, str) else repr(default)
    return f"{each.name}: {each.type} = {shown}"


def _documented(docstring: str, order: list[str], known: dict, families: tuple, referred: tuple) -> str:
    """The docstring with the lines of its options, in the order of the arguments."""
    before, rest = docstring.split("    Args:\n", 1)
    section = re.match(r"(?: {8}.*\n)+", rest).group()
    entries = {}
    for entry in re.split(r"(?m)^(?= {8}\w)", section)[1:]:
        entries[entry.split(":")[0].split(",")[0].strip()] = entry
    shown = {each.name for family in referred for each in fields(family)}
    text = ""
    for name in order:
        if name in known:
            help = known[name].metadata["help"]
            line = f"{name}: {options.brief(help) + '.' if name in shown else help}"
            text += textwrap.fill(
                line,
                120,
                initial_indent=" " * 8,
                subsequent_indent=" " * 12,
                break_long_words=False,
                break_on_hyphens=False,
            )
            text += "\n"
        else:
            text += entries.get(name, "")
    return before + "    Args:\n" + text + rest[len(section) :]


def updated() -> dict[str, str]:
    """Each file as it should be, by its path."""
    found: dict[str, str] = {}
    for path, name, families, referred in FUNCTIONS:
        found[path] = written(found.get(path) or (ROOT / path).read_text(), name, families, referred)
    formatting = ["ruff", "format", "--stdin-filename"]
    return {
        path: subprocess.run(
            [*formatting, path], input=text, cwd=ROOT, check=True, text=True, capture_output=True
        ).stdout
        for path, text in found.items()
    }


def outdated() -> list[str]:
    """Files in which a function disagrees with the options."""
    return [path for path, text in updated().items() if (ROOT / path).read_text() != text]


def main() -> None:
    """Brings every function up to date."""
    for path, text in updated().items():
        (ROOT / path).write_text(text)


if __name__ == "__main__":
    main()
