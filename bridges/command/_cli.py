"""The `lla` command: its options, and how errors end it. What it does is in a file for each verb."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module, metadata
from typing import Any, NoReturn

from bridges.command import _connection_options as connection
from bridges.command import _options as options
from bridges.command import _sharpness_options as sharpness

# Nothing here imports torch, so that help and misspelled options answer at once.

EPILOG = """\
examples:
  lla eval --all_modes --name quickstart          the bundled LeNet and digits, several kinds of landscape
  lla eval --norm filter --steps 25 -np 1         one plane with filter-normalized random directions
  lla eval --loader my_loader.py --weights w.pth  your own model, data and loss
  lla path a.pth b.pth                            the loss on the line through two models
  lla esd --name lenet                            the Hessian at random and at trained weights
  lla sharpness --name lenet                      how sharp the minimum is, in eight ways
  lla train -e 30 -lr 0.002 --name first          train LeNet on the digits, with a landscape after each epoch

A loader of your own is a copy of bridges/loaders/template.py. It is code and is run: use only files that you trust.
`lla eval --help` lists the options.
"""

EVAL_EPILOG = """\
The loss is that of the loader's first batch without shuffling: with the bundled digits 256 images, with
--batch_size 1797 all of them. The same command gives the same numbers (with an --engine named, the same bits); another
--seed gives other random directions.

examples:
  lla eval --all_modes --name quickstart
  lla eval --norm filter --dist 2 --losscap 10 --name lenet
  lla eval --loader mlp --weights None --seed 7      random weights instead of trained ones
  lla eval --loader resnet --data imagenet/val --batchnorm recalibrate --device cuda
  lla eval --steps 200 --batch_size 1797 --store big       go on after an interruption with lla eval --resume big
  torchrun --nproc-per-node=4 -m bridges eval --steps 200 --store big       four processes share the points
"""

PATH_EPILOG = """\
The barrier is the height of the loss above the chord of its ends. BatchNorm is recalibrated at each point, at the
models themselves, too. The loss is that of the loader's first batch without shuffling, as in lla eval.

examples:
  lla path a.pth b.pth --name two                the line from a to b, with its barrier
  lla path a.pth b.pth --test --margin 0.5       beyond both ends, the test loss beside the training loss
  lla path a.pth b.pth c.pth --steps 25          the plane through three models
  lla path a.pth b.pth c.pth --kind chain        straight from each to the next
  lla path a.pth b.pth --align                   the line to b with its units in the order of a's
  lla path a.pth b.pth --connect bezier          a curve of low loss, and the straight line beside it
  lla path None -1                               from random weights to the bundled ones
  lla path --trajectory run --log                a training recorded by lla train --track run
"""

ESD_EPILOG = """\
Eigenvalues, trace, spectral density and the criteria r_e and K_hn, sharing one Krylov space. The loss is that of the
loader's first batch without shuffling: with the bundled digits 256 images, with --batch_size 1797 all of them.

examples:
  lla esd --name lenet
  lla esd --n_v 5 --esd_n_iter 80 --layers
  lla esd --loader mlp --curvature ggn --top_n 10
"""

TRAIN_EPILOG = """\
Landscapes are those of the first unshuffled batch of the training data. The same command gives the same weights.

examples:
  lla train -e 30 -lr 0.002 --schedule cosine --shift 2 --viz_rate 10 --name lenet
  lla train --loader mlp -e 5 --axes adam --mode adameq
  lla train --loader my_loader.py --viz_rate 0       train only, draw nothing
  lla train -e 10 --viz_rate 0 --track run           record the training, for lla path --trajectory run
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
        The exit code: 0, or 130 after Ctrl-C, or 2 if an argument or a file was wrong, or 1 if something else failed,
        such as a model from a loader; then one line on the standard error says what. Errors of argument syntax exit at
        once, as argparse does.
    """
    arguments = parser().parse_args(argv)
    arguments.argv = list(sys.argv[1:] if argv is None else argv)
    try:
        from bridges.command import _processes as processes

        if getattr(arguments, "resume", None) is not None:
            arguments = _resumed(arguments)
        elif getattr(arguments, "trust", False):
            raise ValueError("--trust is for --resume DIR, which then runs the loader that DIR names")
        first = processes.launched().rank == 0
        with warnings.catch_warnings(), contextlib.nullcontext() if first else _silent():
            warnings.showwarning = _show_warning
            import_module(f"bridges.command._{arguments.command}").run(arguments)
    except KeyboardInterrupt:
        print(f"lla {arguments.command}: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError) as error:
        return _failed(arguments, error, str(error), 2)
    except Exception as error:  # in a model or a loss from a loader: its type is half the message
        reason = f"{type(error).__name__}: {error} (--traceback shows where it comes from)"
        return _failed(arguments, error, reason, 1)
    return 0


def _failed(arguments: argparse.Namespace, error: Exception, reason: str, code: int) -> int:
    """Says in one line what went wrong, or raises the error itself with --traceback."""
    if arguments.traceback:
        raise error
    print(f"lla {arguments.command}: error: {' '.join(reason.split())}", file=sys.stderr)
    return code


def _resumed(arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments that a store was begun with, for the folder where it lies now."""
    from bridges.command import _resume as resume

    usual = vars(parser().parse_args([arguments.command]))
    chosen = {
        name: value
        for name, value in vars(arguments).items()
        if name not in ("argv", "resume", "traceback") and value != usual.get(name)
    }
    trust, loader = chosen.pop("trust", False), chosen.pop("loader", None)
    if chosen:
        given = " ".join(f"--{name} {value}" for name, value in chosen.items())
        raise ValueError(f"--resume goes on with the command saved in its folder; leave out {given}")
    begun = resume.resumed(arguments.resume)
    saved = parser().parse_args(begun.arguments)
    if trust:
        saved.loader = loader or saved.loader
    else:
        saved.loader = resume.check_loader(arguments.resume, saved.loader, loader, begun)
    saved.argv, saved.store, saved.traceback = begun.arguments, arguments.resume, arguments.traceback
    return saved


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing on the standard output: of several processes only the first one speaks."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line.

    Example:
        >>> parser().parse_args(["eval", "-nm", "filter", "--dist", "0.5"]).dist
        0.5
    """
    top = _Parser(
        "lla",
        description="Loss landscapes and Hessian spectra of trained networks.",
        epilog=EPILOG,
        formatter_class=_Help,
    )
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = top.add_subparsers(dest="command", metavar="command", required=True, parser_class=_Parser)

    def command(name: str, help: str, description: str, epilog: str) -> argparse.ArgumentParser:
        found = commands.add_parser(name, help=help, description=description, allow_abbrev=False)
        found.epilog, found.formatter_class = epilog, _Help
        return found

    evaluate = command(
        "eval",
        "draw the landscape around trained weights",
        "Draws the loss landscape around the weights of a trained network.",
        EVAL_EPILOG,
    )
    options.pipeline(evaluate)
    options.landscape(evaluate)
    options.long_jobs(evaluate)
    options.output(evaluate)
    options.ignored(evaluate, *options.TRAINING)

    path = command(
        "path",
        "draw the loss between trained networks",
        "Draws the loss between networks: on the line through two, the plane through three, the chain through more.",
        PATH_EPILOG,
    )
    options.pipeline(path, weights=False)
    options.between(path)
    connection.connection(path)
    options.long_jobs(path)
    options.output(path)

    esd = command(
        "esd",
        "analyze the Hessian at random and at trained weights",
        "Analyzes the Hessian of the loss at random and at trained weights, and compares the two.",
        ESD_EPILOG,
    )
    options.pipeline(esd)
    options.spectrum(esd)
    options.output(esd)
    options.ignored(esd, *options.TRAINING, *options.LANDSCAPE)

    sharp = command(
        "sharpness",
        "measure how sharp the minimum at trained weights is",
        "Measures how sharp the loss is around the weights of a trained network.",
        sharpness.EPILOG,
    )
    options.pipeline(sharp)
    sharpness.sharpness(sharp)

    train = command(
        "train",
        "train a network, with landscapes on the way",
        "Trains a network by Adam and draws the loss landscape on the way.",
        TRAIN_EPILOG,
    )
    options.pipeline(train, training=True)
    options.training(train)
    options.landscape(train)
    options.output(train, training=True)
    return top


class _Version(argparse.Action):
    """Prints the version; looks it up only when asked."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"lla_func {metadata.version('lla-func')}")
        parser.exit()


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line, without the source line that raised it."""
    print(f"lla: warning: {message}", file=sys.stderr)
