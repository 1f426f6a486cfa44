"""The `lla` command: its options, and how errors end it. What it does is in :mod:`bridges.commands`."""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, NoReturn

__all__ = ["main", "parser"]

# Nothing here imports torch, so that help and misspelled options answer at once.

EPILOG = """\
examples:
  lla eval --all_modes --name quickstart          the bundled LeNet and digits, several kinds of landscape
  lla eval --norm filter --steps 25 -np 1         one plane with filter-normalised random directions
  lla eval --loader my_loader.py --weights w.pth  your own model, data and loss
  lla train -e 30 -lr 0.002 --name first          train LeNet on the digits, with a landscape after each epoch

A loader of your own is a copy of bridges/loaders/template.py. `lla eval --help` lists the options.
"""

EVAL_EPILOG = """\
The loss is that of the loader's first batch without shuffling: with the bundled digits, all 1,797 images. The same
command gives the same numbers; another --seed gives other random directions.

examples:
  lla eval --all_modes --name quickstart
  lla eval --norm filter --dist 2 --losscap 10 --name lenet
  lla eval --loader mlp --weights None --seed 7      random weights instead of trained ones
  lla eval --loader resnet --data imagenet/val --batchnorm recalibrate --device cuda
"""

TRAIN_EPILOG = """\
Landscapes are those of the first unshuffled batch of the training data. The same command gives the same weights.

examples:
  lla train -e 30 -lr 0.002 --schedule cosine --shift 2 --viz_rate 10 --name lenet
  lla train --loader mlp -e 5 --axes adam --mode adameq
  lla train --loader my_loader.py --viz_rate 0       train only, draw nothing
"""


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help lists the options)\n")


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults where there are any, and leaves epilogs as they are written."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=110)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        unsaid = (None, False, argparse.SUPPRESS)
        shown = not any(action.default is default for default in unsaid)
        return super()._get_help_string(action) if shown else action.help


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the `lla` command.

    Args:
        argv: its arguments, by default those of the process.

    Returns:
        The exit code: 0, or 130 after Ctrl-C, or 2 if an argument or a file was wrong; then one line on the standard
        error says what. Errors of argument syntax exit at once, as argparse does.
    """
    arguments = parser().parse_args(argv)
    try:
        from bridges import commands

        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            {"eval": commands.evaluate, "train": commands.train}[arguments.command](arguments)
    except KeyboardInterrupt:
        print(f"lla {arguments.command}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError) as error:
        if arguments.traceback:
            raise
        print(f"lla {arguments.command}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line.

    Example:
        >>> parser().parse_args(["eval", "-nm", "filter", "--dist", "0.5"]).dist
        0.5
    """
    top = _Parser(
        "lla", description="Loss landscapes of trained networks.", epilog=EPILOG, formatter_class=_Help
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = top.add_subparsers(dest="command", metavar="command", required=True, parser_class=_Parser)

    evaluate = commands.add_parser(
        "eval",
        help="draw the landscape around trained weights",
        description="Draws the loss landscape around the weights of a trained network.",
        epilog=EVAL_EPILOG,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    _pipeline(evaluate, weights="the loader's own")
    _landscape(evaluate)
    _output(evaluate)
    for name in (
        "-e/--epochs",
        "-lr",
        "-vr/--viz_rate",
        "-ld/--log_dir",
    ):  # the original's eval takes them, too
        evaluate.add_argument(*name.split("/"), default=argparse.SUPPRESS, help=argparse.SUPPRESS)

    train = commands.add_parser(
        "train",
        help="train a network, with landscapes on the way",
        description="Trains a network by Adam and draws the loss landscape on the way.",
        epilog=TRAIN_EPILOG,
        formatter_class=_Help,
        allow_abbrev=False,
    )
    _pipeline(train, weights="None")
    _training(train)
    _landscape(train)
    _output(train, training=True)
    return top


def _pipeline(command: argparse.ArgumentParser, *, weights: str) -> None:
    group = command.add_argument_group("model and data")
    group.add_argument(
        "--loader",
        default="lenet",
        metavar="NAME|FILE",
        help="lenet, mlp, resnet or template, or a Python file of your own",
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
        "--seed", type=_whole(0), default=0, metavar="N", help="decides everything that is random"
    )
    group.add_argument(
        "--device", default=None, help="where to compute: cpu, cuda, cuda:1, ... (default: cpu)"
    )
    group.add_argument("--cuda", action="store_true", help="the same as --device cuda")


def _batch_help(weights: str) -> str:
    if weights == "None":
        return "samples in a training step (default: 64)"
    return "samples that the loss is taken over (default: the loader's own batch)"


def _training(command: argparse.ArgumentParser) -> None:
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


def _landscape(command: argparse.ArgumentParser) -> None:
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
        "--batchnorm",
        type=_choice("eval", "batch", "recalibrate"),
        default="eval",
        help="statistics of BatchNorm: eval (stored), batch (of the data) or recalibrate (anew at each point)",
    )
    group.add_argument(
        "-lc", "--losscap", type=_positive, metavar="X", help="draw losses above this as capped"
    )
    group.add_argument("--engine", default="auto", help="auto, loop, vmap: how the points are computed")

    group = command.add_argument_group("Hessian")
    group.add_argument("-he", "--hessian", action="store_true", help="also compute the spectral density")
    group.add_argument("-hc", "--calc_crit", action="store_true", help="also compute the Hessian criteria")
    group.add_argument("--nkh", type=_positive, default=0.5, metavar="X", help="power in the criterion K_hn")


def _output(command: argparse.ArgumentParser, *, training: bool = False) -> None:
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


class _Version(argparse.Action):
    """Prints the version; looks it up only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"lla_func {metadata.version('lla-func')}")
        parser.exit()


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


def _whole(least: int) -> Callable[[str], int]:
    """An argument type: a whole number of at least ``least``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None
        if number < least:
            raise argparse.ArgumentTypeError(f"{number} is too small; the least is {least}")
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


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line, without the source line that raised it."""
    print(f"lla: warning: {message}", file=sys.stderr)
