"""The options of the `lla` command, group by group, and the types of their values."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Container
from dataclasses import fields
from typing import Any

from lla_func import options
from lla_func.options import Flag, Kind, Positive, Whole, Word

# What the original's scripts accept without using it, and so do ours.
TRAINING = ("-e/--epochs", "-lr", "-vr/--viz_rate", "-ld/--log_dir")
LANDSCAPE = (
    *("--dist", "--steps", "-np/--num_plots", "-npp/--num_per_plot", "-md/--mode", "-ax/--axes"),
    *("-nm/--norm", "-od/--order", "-lc/--losscap", "--freeze", "--all_modes"),
)


MEASURES = ("accuracy", "class_accuracy", "class_losses")
"""The metrics of classifiers in ``bridges.metrics`` that a landscape may have beside its loss."""


class Measures(Kind):
    """One or more of the metrics, with commas between."""

    metavar = "NAME,..."

    def parse(self, text: str) -> tuple[str, ...]:
        word = Word(*MEASURES)
        return tuple(dict.fromkeys(word.parse(name.strip()) for name in text.split(",")))


def add(
    group: argparse._ActionsContainer,
    *families: type[options.Family],
    only: Container[str] | None = None,
    without: Container[str] = (),
) -> None:
    """The flags of all options of these families, of those with some names only, or without some."""
    for each in (each for family in families for each in fields(family)):
        flags, kind, text = (each.metadata[what] for what in ("flags", "kind", "help"))
        if flags and each.name not in without and (only is None or each.name in only):
            one(group, kind, *flags, default=each.default, help=options.brief(text))


def one(group: argparse._ActionsContainer, kind: Kind, *flags: str, default: Any = None, help: str) -> None:
    """An option of this kind, whose errors are in the kind's own words."""

    def parse(text: str) -> Any:
        try:
            return kind.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    if isinstance(kind, Flag):
        group.add_argument(*flags, action="store_true", help=help)
    else:
        group.add_argument(*flags, type=parse, metavar=kind.metavar, default=default, help=help)


def given(arguments: argparse.Namespace, *families: type[options.Family]) -> dict[str, Any]:
    """The options of these families that the command line gives, by their names."""
    found = {}
    for each in (each for family in families for each in fields(family)):
        if flags := each.metadata["flags"]:
            destination = max(flags, key=len).lstrip("-")
            if hasattr(arguments, destination):
                found[each.name] = getattr(arguments, destination)
    return found


def ignored(command: argparse.ArgumentParser, *flags: str) -> None:
    """Options that are accepted so that command lines of the original run; :func:`say_ignored` names them."""
    for each in flags:
        how: Any = {"action": "store_true"} if each == "--all_modes" else {}
        command.add_argument(*each.split("/"), default=argparse.SUPPRESS, help=argparse.SUPPRESS, **how)


def say_ignored(arguments: argparse.Namespace, *flags: str, by: str) -> None:
    """Says which of these options were given, which are used by other commands only."""
    names = (each.split("/")[-1].lstrip("-") for each in flags)
    if given := [name for name in names if hasattr(arguments, name)]:
        text = f"lla {arguments.command}: {', '.join(given)} matter for {by} only and are ignored"
        print(text, file=sys.stderr)


def pipeline(command: argparse.ArgumentParser, *, training: bool = False, weights: bool = True) -> None:
    """Where the model, its weights and the data come from."""
    group = command.add_argument_group("model and data")
    loader = "lenet, mlp, resnet or template, or a Python file of your own, which is run"
    one(group, Kind("NAME|FILE"), "--loader", default="lenet", help=loader)
    data = (
        "what the loader reads: for lenet and mlp 'mnist' (downloaded to ./data) or a folder with MNIST "
        "(default: the bundled digits), for resnet a folder of images"
    )
    one(group, Kind("PATH"), "--data", help=data)
    start = "weights to start from, 'None' for random ones, -1 for the loader's own"
    batch = "samples in a training step (default: 64)"
    if not training:
        start += " (default: the loader's own)"
        batch = "samples that the loss is taken over (default: the loader's own batch; for lenet and mlp 256 images)"
    if weights:
        one(group, Kind("PATH"), "--weights", default="None" if training else None, help=start)
    one(group, Whole(), "--classes", help="outputs of the model (default: the loader's own)")
    one(group, Whole(), "--batch_size", help=batch)
    one(group, Whole(0, 2**64 - 1), "--seed", default=0, help="decides everything that is random")
    one(group, Kind(), "--device", help="where to compute: cpu, cuda, cuda:1, ... (default: cpu)")
    one(group, Flag(), "--cuda", help="the same as --device cuda")


def training(command: argparse.ArgumentParser) -> None:
    """How to train."""
    group = command.add_argument_group("training")
    one(group, Whole(), "-e", "--epochs", default=1, help="passes over the data")
    one(group, Positive(), "-lr", default=0.01, help="Adam's learning rate")
    schedule = "constant, or cosine to let the learning rate fall to zero"
    one(group, Word("constant", "cosine"), "--schedule", default="constant", help=schedule)
    shift = "move each training image by up to N pixels, anew in each epoch (lenet and mlp)"
    one(group, Whole(0), "--shift", default=0, help=shift)
    one(group, Whole(0), "-vr", "--viz_rate", default=1, help="draw every N epochs; 0 draws nothing")
    group.add_argument("--track", metavar="DIR", help="record the training's path in a new folder")
    every = "record every N steps; beyond 1000 checkpoints every second one is dropped, again and again"
    one(group, Whole(), "--track_every", default=1, help=every)


def landscape(command: argparse.ArgumentParser) -> None:
    """What landscape to draw, and what to do with the Hessian beside it."""
    add(command.add_argument_group("landscape"), options.Panels, options.Drawing, options.Setup)
    group = command.add_argument_group("evaluation")
    add(group, options.Evaluation, without=("store",))
    one(group, Measures(), "--metrics", help=f"also {', '.join(MEASURES)}, with errors over data")
    one(group, Flag(), "--plan", help="print how the work was cut, and what autotuning measured")
    add(command.add_argument_group("Hessian"), options.Hessian)


def between(command: argparse.ArgumentParser) -> None:
    """What to draw between and around models."""
    command.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help="weights files; 'None' for random ones, -1 for the loader's own",
    )
    group = command.add_argument_group("path")
    runs = (
        "instead of models: trainings recorded by lla train --track DIR, over the plane that has most of them"
    )
    group.add_argument("--trajectory", nargs="+", metavar="DIR", help=runs)
    test = "also the loss of the test data, where the loader splits them; the first one is then of the training data"
    one(group, Flag(), "--test", help=test)
    add(group, options.Interpolation, options.Following, options.Picture, options.Between)
    group = command.add_argument_group("evaluation")
    add(group, options.Evaluation, without=("store",))
    one(group, Measures(), "--metrics", help=f"also {', '.join(MEASURES)}, with errors over data")
    one(group, Flag(), "--plan", help="print how the work was cut, and what autotuning measured")


def long_jobs(command: argparse.ArgumentParser) -> None:
    """How a landscape of many points is kept and taken up again."""
    group = command.add_argument_group("long jobs")
    add(group, options.Evaluation, only=("store",))
    resume = "go on with the command that began DIR; takes no other options, but the same --loader FILE again"
    one(group, Kind("DIR"), "--resume", help=resume)
    trust = "with --resume: run the loader file that DIR names, or a changed one"
    one(group, Flag(), "--trust", help=trust)


def spectrum(command: argparse.ArgumentParser) -> None:
    """How to analyze the Hessian."""
    group = command.add_argument_group("Hessian")
    add(group, options.Spectrum, options.Setup, without=("calc_crit",))
    one(group, Flag(), "--layers", help="also print a table of all layers' own blocks")
    for always in ("-he/--hessian", "-hc/--calc_crit"):  # the original's example asks for what it always does
        one(group, Flag(), *always.split("/"), help=argparse.SUPPRESS)


def output(command: argparse.ArgumentParser, *, training: bool = False) -> None:
    """Where results go."""
    group = command.add_argument_group("output")
    one(group, Kind(), "--name", default="default", help="a name for the run and its files")
    add(group, options.Output)
    if training:
        logs = "folder for the log (JSON lines) and weights"
        one(group, Kind("DIR"), "-ld", "--log_dir", default="train_logs", help=logs)
    one(group, Flag(), "--traceback", help="show where an error comes from")
