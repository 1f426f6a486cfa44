"""The options of `lla sharpness`. Nothing here imports torch, so that help answers at once."""

from __future__ import annotations

import argparse
from typing import Any

from bridges.command._options import add, one
from lla_func.options import Flag, Kind, Output, Positive, Setup, Whole, Word

KINDS = ("sam", "sam_max", "asam", "asam_max", "average", "critical_lr", "basin", "pac_bayes")

EPILOG = """\
Each kind is a number with its error and, where the losses of single samples are at hand, its error over data; what it
means stands in help(lla_func.sharpness). The loss is that of the loader's first batch without shuffling.

examples:
  lla sharpness --name lenet
  lla sharpness --kind sam,asam --rho 0.1
  lla sharpness --loader mlp --kind average,pac_bayes --relative --draws 50
"""


class Kinds(Word):
    """One or more words, with commas between them."""

    metavar = "KIND,..."

    def parse(self, text: str) -> Any:
        return tuple(super(Kinds, self).parse(word) for word in text.split(","))


def sharpness(command: argparse.ArgumentParser) -> None:
    """What to measure, on which state of the model, and where results go."""
    group = command.add_argument_group("sharpness")
    one(group, Kinds(*KINDS), "--kind", help=f"one or more of {', '.join(KINDS)} (default: all)")
    own = "(default: the kind's own)"
    rho = f"length of steps, in units of the weights where the kind is relative {own}"
    one(group, Positive(), "--rho", help=rho)
    one(group, Positive(), "--eta", help=f"what asam and asam_max add to the size of the weights {own}")
    rise = "how much the loss rises in basin and pac_bayes (default: it doubles)"
    one(group, Positive(), "--rise", help=rise)
    one(group, Whole(4), "--draws", help=f"random moves or directions of average, basin and pac_bayes {own}")
    one(group, Flag(), "--relative", help="average and pac_bayes in units of each parameter")
    add(group, Setup)
    group = command.add_argument_group("output")
    one(group, Kind(), "--name", default="default", help="a name for the run and its file")
    add(group, Output, only=("res_dir",))
    one(group, Flag(), "--traceback", help="show where an error comes from")
