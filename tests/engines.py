"""The table of engines that every test about "any engine" goes through; a new engine is one new row."""

from __future__ import annotations

import pytest

from lla_func.landscape.engines import ENGINES

__all__ = ["QUICK", "every_engine"]

COMPILING = ("compiled",)
"""Engines that take tens of seconds before the first point."""

QUICK = tuple(name for name in ENGINES if name not in COMPILING)


def every_engine(*also: str, compiling: bool = False) -> pytest.MarkDecorator:
    """Runs a test with the argument ``engine`` for each row of the table.

    Args:
        also: further values, such as ``"auto"``.
        compiling: whether those that compile take part as well, as slow tests.
    """
    slow = [pytest.param(name, marks=pytest.mark.slow) for name in COMPILING] if compiling else []
    return pytest.mark.parametrize("engine", [*QUICK, *also, *slow])
