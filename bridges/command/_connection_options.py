"""The options of `lla path` that bring two models together; importing them needs no torch."""

from __future__ import annotations

import argparse

from bridges.command import _options as options
from lla_func.options import Flag, Whole, Word


def connection(command: argparse.ArgumentParser) -> None:
    """How two models are brought together."""
    group = command.add_argument_group("between two models")
    units = "permute the units of each model to match the first one's; its function stays (needs SciPy)"
    options.one(group, Flag(), "--align", help=units)
    curve = "fit a curve of low loss between two models, and draw the loss along it: bezier, chain or band"
    options.one(group, Word("bezier", "chain", "band", metavar="KIND"), "--connect", help=curve)
    options.one(
        group, Whole(), "--bends", help="with --connect: control points between the ends, 1 unless told"
    )
    options.one(group, Whole(), "--epochs", help="with --connect: passes over the data, 20 unless told")
