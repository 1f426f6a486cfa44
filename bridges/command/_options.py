"""The options of the `lla` command, group by group, and the types of their values."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from lla_func.options import Evaluation, Family, Flag, Kind, brief

__all__ = [
    "LANDSCAPE",
    "TRAINING",
    "add",
    "given",
    "hessian",
    "ignored",
    "ignored_in",
    "landscape",
    "long_jobs",
    "output",
    "pipeline",
    "spectrum",
    "training",
]


# What the original's scripts accept without using it, and so do ours: the name, and other spellings of it.
TRAINING = ("epochs -e --epochs", "lr -lr", "viz_rate -vr --viz_rate", "log_dir -ld --log_dir")
LANDSCAPE = (
    "dist --dist",
    "steps --steps",
    "num_plots -np --num_plots",
    "num_per_plot -npp --num_per_plot",
    "mode -md --mode",
    "axes -ax --axes",
    "norm -nm --norm",
    "order -od --order",
    "losscap -lc --losscap",
    "freeze --freeze",
    "all_modes --all_modes",
)


def add(group: argparse._ActionsContainer, family: type[Family], *names: str) -> None:
    """The flags of a family's options, or of those with these names."""
    for each in fields(family):
        flags, kind, text = (each.metadata[what] for what in ("flags", "kind", "help"))
        if not flags or (names and each.name not in names):
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
    hidden: Any = {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS}
    for option in options:
        name, *flags = option.split()
        if name == "all_modes":
            command.add_argument(*flags, dest=name, action="store_true", **hidden)
        else:
            command.add_argument(*flags, dest=name, **hidden)


def ignored_in(arguments: argparse.Namespace, *options: str) -> list[str]:
    """Which of these options were given, by name."""
    return [name for name in (option.split()[0] for option in options) if hasattr(arguments, name)]


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
        "--classes", type=_whole(1), metavar="N", help="outputs of the model (default: the loader's own)"
    )
    group.add_argument("--batch_size", type=_whole(1), metavar="N", help=_batch_help(weights))
    group.add_argument(
        "--seed", type=_whole(0, 2**64 - 1), default=0, metavar="N", help="decides everything that is random"
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
    group.add_argument("-e", "--epochs", type=_whole(1), default=1, metavar="N", help="passes over the data")
    group.add_argument("-lr", type=_positive, default=0.01, metavar="X", help="Adam's learning rate")
    group.add_argument(
        "--schedule",
        type=_choice("constant", "cosine"),
        default="constant",
        help="constant, or cosine to let the learning rate fall to zero",
    )
    group.add_argument(
        "--shift",
        type=_whole(0),
        default=0,
        metavar="N",
        help="move each training image by up to N pixels, anew in each epoch (lenet and mlp)",
    )
    group.add_argument(
        "-vr",
        "--viz_rate",
        type=_whole(0),
        default=1,
        metavar="N",
        help="draw every N epochs; 0 draws nothing",
    )


def landscape(command: argparse.ArgumentParser) -> None:
    """What landscape to draw."""
    group = command.add_argument_group("landscape")
    group.add_argument(
        "-ax",
        "--axes",
        type=_choice("random", "adam", "hessian"),
        default="random",
        help="directions: random, adam (moments of the optimizer; train only) or hessian (top eigenvectors)",
    )
    group.add_argument(
        "-nm",
        "--norm",
        type=_choice("None", "weight", "layer", "model", "filter"),
        default="None",
        help="normalisation of the directions: None, weight, layer, model or filter (recommended)",
    )
    group.add_argument(
        "-od", "--order", type=_choice("1", "2"), default="2", help="norm for the normalisation, L1 or L2"
    )
    group.add_argument(
        "--dist", type=_positive, default=1.0, metavar="X", help="extent of the surface, in all"
    )
    group.add_argument("--steps", type=_whole(2), default=40, metavar="N", help="points along each axis")
    group.add_argument(
        "-np", "--num_plots", type=_whole(1), default=4, metavar="N", help="random planes in a figure"
    )
    group.add_argument(
        "-npp", "--num_per_plot", type=_whole(1), default=2, metavar="N", help="how many of them side by side"
    )
    group.add_argument(
        "-md",
        "--mode",
        type=_choice("add", "adameq"),
        default="add",
        help="add, or adameq: Adam's update rule (train with --axes adam only)",
    )
    group.add_argument(
        "--all_modes",
        action="store_true",
        help="draw all kinds of landscape in one figure; overrides the number of plots, --norm, --order and --mode",
    )
    group.add_argument(
        "--freeze",
        type=_number_or_text,
        metavar="N|PATTERN",
        help="do not move parameters: from the Nth tensor on (7), before it (-7), or by name ('features.*')",
    )
    group.add_argument(
        "--ignore",
        type=_choice("bias_norm"),
        metavar="bias_norm",
        help="keep biases and normalisation layers where they are",
    )
    group.add_argument(
        "--distribution",
        type=_choice("normal", "uniform"),
        default="normal",
        help="of random directions: normal or uniform",
    )
    group.add_argument(
        "--hessian_pair",
        type=_choice("top", "extremes"),
        default="top",
        help="eigenvectors of --axes hessian: top (the two of largest magnitude) or extremes (largest and smallest)",
    )
    group.add_argument(
        "--dim", type=_choice("1", "2"), default="2", help="2 for planes, 1 for lines with their profile"
    )
    group.add_argument("--log", action="store_true", help="draw on a logarithmic scale")
    group.add_argument(
        "--batchnorm",
        type=_choice("eval", "batch", "recalibrate"),
        default="eval",
        help="statistics of BatchNorm: eval (stored), batch (of the data) or recalibrate (anew at each point)",
    )
    group.add_argument(
        "-lc", "--losscap", type=_positive, metavar="X", help="draw losses above this as capped"
    )
    add(group, Evaluation, "engine")


def long_jobs(command: argparse.ArgumentParser) -> None:
    """How a landscape of many points is computed."""
    group = command.add_argument_group("long jobs")
    add(group, Evaluation, "store", "tol", "memory_budget", "tf32")
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
    group.add_argument(
        "--plan", action="store_true", help="print how the work was cut, and what the trial measured"
    )


def hessian(command: argparse.ArgumentParser) -> None:
    """What to do with the Hessian beside a landscape."""
    group = command.add_argument_group("Hessian")
    group.add_argument("-he", "--hessian", action="store_true", help="also compute the spectral density")
    group.add_argument("-hc", "--calc_crit", action="store_true", help="also compute the Hessian criteria")
    group.add_argument("--n_v", type=_whole(1), default=1, metavar="N", help="runs of the density")
    group.add_argument("--nkh", type=_positive, default=0.5, metavar="X", help="power in the criterion K_hn")


def spectrum(command: argparse.ArgumentParser) -> None:
    """How to analyse the Hessian."""
    group = command.add_argument_group("Hessian")
    group.add_argument("--top_n", type=_whole(1), default=2, metavar="N", help="eigenvalues to compute")
    group.add_argument(
        "--eigs_n_iter", type=_whole(1), default=100, metavar="N", help="the most products for each"
    )
    group.add_argument(
        "--eigs_tol", type=_positive, default=1e-3, metavar="X", help="their relative residual norm"
    )
    group.add_argument(
        "--trace_n_iter", type=_whole(1), default=100, metavar="N", help="the most products for the trace"
    )
    group.add_argument(
        "--trace_tol", type=_positive, default=1e-3, metavar="X", help="its relative standard error"
    )
    group.add_argument(
        "--esd_n_iter", type=_whole(1), default=100, metavar="N", help="Lanczos steps of the density"
    )
    group.add_argument("--n_v", type=_whole(1), default=1, metavar="N", help="runs of the density")
    group.add_argument(
        "--max_v", type=_whole(2), metavar="N", help="Lanczos vectors held (default: all that fit in 1 GB)"
    )
    group.add_argument("--nkh", type=_positive, default=0.5, metavar="X", help="power in the criterion K_hn")
    group.add_argument(
        "--curvature",
        type=_choice("hessian", "ggn", "fisher", "finite_difference"),
        default="hessian",
        help="hessian, ggn, fisher or finite_difference",
    )
    group.add_argument("--parameters", metavar="PATTERN", help="restrict it to parameters by name ('fc1.*')")
    group.add_argument("--layers", action="store_true", help="also print a table of all layers' own blocks")
    group.add_argument(
        "--batchnorm",
        type=_choice("eval", "batch"),
        default="eval",
        help="statistics of BatchNorm: eval (stored) or batch (of the data)",
    )
    for always in ("-he/--hessian", "-hc/--calc_crit"):  # the original's example asks for what it always does
        group.add_argument(*always.split("/"), action="store_true", help=argparse.SUPPRESS)


def output(command: argparse.ArgumentParser, *, training: bool = False) -> None:
    """Where results go."""
    group = command.add_argument_group("output")
    group.add_argument("--name", default="default", help="a name for the run and its files")
    group.add_argument("-vd", "--viz_dir", default="viz_results", metavar="DIR", help="folder for pictures")
    group.add_argument(
        "-rd", "--res_dir", default="analysis_results", metavar="DIR", help="folder for numbers"
    )
    if training:
        group.add_argument(
            "-ld",
            "--log_dir",
            default="train_logs",
            metavar="DIR",
            help="folder for the log (JSON lines) and weights",
        )
    group.add_argument("--traceback", action="store_true", help="show where an error comes from")


def _choice(*allowed: str) -> Callable[[str], str]:
    """An argument type: one of some words."""

    def parse(text: str) -> str:
        if text not in allowed:
            from difflib import get_close_matches

            near = get_close_matches(text, allowed, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(allowed)}{hint}")
        return text

    return parse


def _whole(least: int, most: int = 2**63 - 1) -> Callable[[str], int]:
    """An argument type: a whole number from ``least`` to ``most``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < least:
            raise argparse.ArgumentTypeError(f"{number} is too small; the least is {least}")
        if number > most:
            raise argparse.ArgumentTypeError(f"{number} is too large; the most is {most}")
        return number

    return parse


def _positive(text: str) -> float:
    """An argument type: a finite number greater than zero."""
    try:
        number = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not (math.isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number greater than 0")
    return number


def _number_or_text(text: str) -> int | str:
    """An argument type: a whole number where the text is one."""
    try:
        return int(text)
    except ValueError:
        return text
