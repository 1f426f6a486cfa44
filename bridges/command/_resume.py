"""Going on with a job of `lla eval` or `lla path` from its folder, without running code that only the folder names."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import NamedTuple

from bridges import loaders
from lla_func.files import save_json
from lla_func.landscape import directory

COMMAND = "command.json"
"""The file of a store that holds the command line which began it."""


class Begun(NamedTuple):
    """The command that began a job: its arguments, and the content of its loader's file (None for a ready one)."""

    arguments: list[str]
    loader: str | None


def remember(arguments: Namespace) -> None:
    """Keeps the command line in the store, for --resume; the first one stays."""
    path = directory("--store", arguments.store) / COMMAND
    if not path.exists():
        save_json(path, {"arguments": arguments.argv, "loader": loaders.content(arguments.loader)})


def resumed(folder: str) -> Begun:
    """The command that began the job in a folder; a ValueError where there is none, or its file is damaged."""
    path = Path(folder) / COMMAND
    if not path.exists():
        raise ValueError(
            f"--resume {folder}: there is no job there, since it has no {COMMAND}; begin one with --store"
        )
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        begun = Begun(known["arguments"], known.get("loader"))
        if not all(isinstance(text, str) for text in begun.arguments) or begun.arguments[:1] not in (
            ["eval"],
            ["path"],
        ):
            raise ValueError("it holds no lla eval or lla path")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(
            f"--resume {folder}: {str(path)!r} is damaged ({error}); repeat the command that began the job, with "
            f"--store {folder}"
        ) from error
    return begun


def check_loader(folder: str, loader: str, given: str | None, begun: Begun) -> str:
    """The loader that going on with a job may run: a ready one, or the file that the user names once more.

    A loader is code, and the folder of a job may come from anywhere. So a file is not run because the folder says so,
    even if it says what should be in it.

    Raises:
        ValueError: neither the loader of the job nor the ``given`` one is to be run without --trust.
    """
    chosen = loader if given is None else given
    content = loaders.content(chosen)
    if content is None and chosen == loader:
        return chosen
    if given is None:
        raise ValueError(
            f"--resume {folder} would run the Python file {loader!r}, which that folder names. Give the loader that "
            "the job was begun with once more, by --loader FILE, or say --trust if you trust the folder and the file"
        )
    if content != begun.loader or content is None:
        raise ValueError(
            f"--loader {given} is not known to be the loader that the job in {folder} was begun with ({loader!r}): its "
            "content is not what was noted there. Take that one, or say --trust if the difference does not matter"
        )
    return chosen
