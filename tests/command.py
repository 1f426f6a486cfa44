"""The command as tests run it."""

from __future__ import annotations

from bridges.command import _cli as cli

__all__ = ["run"]


def run(*argv: str) -> int:
    """The exit code of the command, whichever way it ends."""
    try:
        return cli.main(argv)
    except SystemExit as end:
        return int(end.code or 0)
