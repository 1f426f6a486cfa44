"""`lla path --align` and `--connect`: the units of two networks in one order, and a curve of low loss between them."""

from __future__ import annotations

import copy
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from torch import nn

from bridges.alignment import align
from bridges.command._processes import launched
from lla_func import Curve, connect

FITTING = ("bends", "epochs")
"""Options of a fit, each None where it was not given."""


def check(arguments: Namespace) -> None:
    """Raises a ValueError where options of a fit do not fit the command."""
    given = [name for name in FITTING if getattr(arguments, name, None) is not None]
    if arguments.connect is None:
        if given:
            raise ValueError(f"--{given[0]} is for --connect; give a curve, such as --connect bezier")
        return
    if len(arguments.models) != 2:
        raise ValueError(f"--connect is between two models, there are {len(arguments.models)}")
    if launched().size > 1:
        raise ValueError("--connect fits in one process; leave torchrun out")


def aligned(models: list[Any], inputs: Any) -> list[nn.Module]:
    """The models with their units in the order of the first one's, as copies."""
    found = [models[0]]
    for model in models[1:]:
        other = copy.deepcopy(model)
        other.load_state_dict(align(model, to=models[0], inputs=inputs))
        found.append(other)
    return found


def connected(models: list[Any], metric: Any, arguments: Namespace) -> Curve:
    """The curve between two models; with a store, a fit that was begun goes on."""
    given = {name: value for name in FITTING if (value := getattr(arguments, name, None)) is not None}
    store = None if arguments.store is None else Path(arguments.store) / "curve"
    first, second = models
    return connect(
        first, second, metric, kind=arguments.connect, store=store, progress=sys.stderr.isatty(), **given
    )
