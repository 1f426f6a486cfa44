"""The options of the `lla` command, group by group, and the types of their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Container
from dataclasses import fields
from typing import Any

from lla_func.options import (
    Drawing,
    Evaluation,
    Family,
    Flag,
    Hessian,
    Kind,
    Output,
    Panels,
    Positive,
    Setup,
    Spectrum,
    Whole,
    Word,
    brief,
)

# What the original's scripts accept without using it, and so do ours.
TRAINING = ("-e/--epochs", "-lr", "-vr/--viz_rate", "-ld/--log_dir")
LANDSCAPE = (
    *(
        "--dist",
        "--steps",
        "-np/--num_plots",
        "-npp/--num_per_plot",
        "-md/--mode",
        "-ax/--axes",
        "-nm/--norm",
    ),
    *("-od/--order", "-lc/--losscap", "--freeze", "--all_modes"),
)


def add(
    group: argparse._ActionsContainer,
    *families: type[Family],
    only: Container[str] | None = None,
    without: Container[str] = (),
) -> None:
    """The flags of all options of these families, of those with some names only, or without some."""
    for each in (each for family in families for each in fields(family)):
        flags, kind, text = (each.metadata[what] for what in ("flags", "kind", "help"))
        if not flags or each.name in without or (only is not None and each.name not in only):
            continue
        shown: Any = {"default": each.default, "help": brief(text)}
        if isinstance(kind, Flag):
            group.add_argument(*flags, action="store_true", **shown)
        else:
            group.add_argument(*flags, type=_read_by(kind), metavar=kind.metavar, **shown)


def _read_by(kind: Kind) -> Callable[[str], Any]:
    """An argument type that says what is wrong in the kind's own words."""

    def parse(text: str) -> Any:
        try:
            return kind.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def given(arguments: argparse.Namespace, *families: type[Family]) -> dict[str, Any]:
    """The options of these families that the command line gives, by their names."""
    found = {}
    for each in (each for family in families for each in fields(family)):
        if flags := each.metadata["flags"]:
            destination = max(flags, key=len).lstrip("-")
            if hasattr(arguments, destination):
                found[each.name] = getattr(arguments, destination)
    return found


def ignored(command: argparse.ArgumentParser, *options: str) -> None:
    """Options that are accepted so that command lines of the original run; :func:`ignored_in` names them."""
    for option in options:
        how: Any = {"action": "store_true"} if option == "--all_modes" else {}
        command.add_argument(*option.split("/"), default=argparse.SUPPRESS, help=argparse.SUPPRESS, **how)


def ignored_in(arguments: argparse.Namespace, *options: str) -> list[str]:
    """Which of these options were given, by name."""
    names = (option.split("/")[-1].lstrip("-") for option in options)
    return [name for name in names if hasattr(arguments, name)]


def pipeline(command: argparse.ArgumentParser, *, weights: str) -> None:
    """Where the model, its weights and the data come from."""
    group = command.add_argument_group("model and data")
    group.add_argument(
        "--loader",
        default="lenet",
        metavar="NAME|FILE",
        help="lenet, mlp, resnet or template, or a Python file of your own, which is run",
    )
    group.add_argument(
        "--data",
        default=None,
        metavar="PATH",
        help="what the loader reads: for lenet and mlp 'mnist' (downloaded to ./data) or a folder with MNIST "
        "(default: the bundled digits), for resnet a folder of images",
    )
    group.add_argument(
        "--weights",
        default=None if weights != "None" else "None",
        metavar="PATH",
        help="weights to start from, 'None' for random ones, -1 for the loader's own"
        + ("" if weights == "None" else f" (default: {weights})"),
    )
    group.add_argument(
        "--classes",
        type=_read_by(Whole()),
        metavar="N",
        help="outputs of the model (default: the loader's own)",
    )
    group.add_argument("--batch_size", type=_read_by(Whole()), metavar="N", help=_batch_help(weights))
    group.add_argument(
        "--seed",
        type=_read_by(Whole(0, 2**64 - 1)),
        default=0,
        metavar="N",
        help="decides everything that is random",
    )
    group.add_argument(
        "--device", default=None, help="where to compute: cpu, cuda, cuda:1, ... (default: cpu)"
    )
    group.add_argument("--cuda", action="store_true", help="the same as --device cuda")


def _batch_help(weights: str) -> str:
    if weights == "None":
        return "samples in a training step (default: 64)"
    return (
        "samples that the loss is taken over (default: the loader's own batch; for lenet and mlp 256 images)"
    )


def training(command: argparse.ArgumentParser) -> None:
    """How to train."""
    group = command.add_argument_group("training")
    group.add_argument(
        "-e", "--epochs", type=_read_by(Whole()), default=1, metavar="N", help="passes over the data"
    )
    group.add_argument(
        "-lr", type=_read_by(Positive()), default=0.01, metavar="X", help="Adam's learning rate"
    )
    group.add_argument(
        "--schedule",
        type=_read_by(Word("constant", "cosine")),
        default="constant",
        help="constant, or cosine to let the learning rate fall to zero",
    )
    group.add_argument(
        "--shift",
        type=_read_by(Whole(0)),
        default=0,
        metavar="N",
        help="move each training image by up to N pixels, anew in each epoch (lenet and mlp)",
    )
    group.add_argument(
        "-vr",
        "--viz_rate",
        type=_read_by(Whole(0)),
        default=1,
        metavar="N",
        help="draw every N epochs; 0 draws nothing",
    )


def landscape(command: argparse.ArgumentParser) -> None:
    """What landscape to draw, and what to do with the Hessian beside it."""
    group = command.add_argument_group("landscape")
    add(group, Panels, Drawing, Setup)
    group = command.add_argument_group("evaluation")
    add(group, Evaluation, without=("store",))
    group.add_argument(
        "--plan", action="store_true", help="print how the work was cut, and what the trial measured"
    )
    add(command.add_argument_group("Hessian"), Hessian)


def long_jobs(command: argparse.ArgumentParser) -> None:
    """How a landscape of many points is kept and taken up again."""
    group = command.add_argument_group("long jobs")
    add(group, Evaluation, only=("store",))
    group.add_argument(
        "--resume",
        metavar="DIR",
        help="go on with the command that began DIR; takes no other options, but the same --loader FILE again",
    )
    group.add_argument(
        "--trust",
        action="store_true",
        help="with --resume: run the loader file that DIR names, or a changed one",
    )


def spectrum(command: argparse.ArgumentParser) -> None:
    """How to analyze the Hessian."""
    group = command.add_argument_group("Hessian")
    add(group, Spectrum, Setup, without=("calc_crit",))
    group.add_argument("--layers", action="store_true", help="also print a table of all layers' own blocks")
    for always in ("-he/--hessian", "-hc/--calc_crit"):  # the original's example asks for what it always does
        group.add_argument(*always.split("/"), action="store_true", help=argparse.SUPPRESS)


def output(command: argparse.ArgumentParser, *, training: bool = False) -> None:
    """Where results go."""
    group = command.add_argument_group("output")
    group.add_argument("--name", default="default", help="a name for the run and its files")
    add(group, Output)
    if training:
        group.add_argument(
            "-ld",
            "--log_dir",
            default="train_logs",
            metavar="DIR",
            help="folder for the log (JSON lines) and weights",
        )
    group.add_argument("--traceback", action="store_true", help="show where an error comes from")
