"""The options of the front doors and of the command, each defined once: name, default, check, help and flags."""

from __future__ import annotations

# ruff: noqa: RUF009  a field made by option() is a field
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lla_func.errors import finite_number, flag, one_of, positive_int

__all__ = ["Evaluation", "Family", "Flag", "Kind", "brief"]

# Nothing here imports torch, so that the command's help answers at once. What needs the model, its metric or the file
# system is checked where these are at hand.


# ---- what a value may be -------------------------------------------------------------------------------------------


class Kind:
    """Any value, or any text on the command line. Others check values, and read what the command was given.

    ``metavar`` stands for the value in the command's help.
    """

    metavar: str | None = None

    def __init__(self, metavar: str | None = None) -> None:
        self.metavar = metavar or self.metavar

    def check(self, name: str, value: Any) -> Any:
        """The value, or an error that names the option, what came and what is allowed."""
        return value

    def parse(self, text: str) -> Any:
        """The value that a text of the command line stands for, or a ValueError; the command names the option."""
        return text


class Flag(Kind):
    """True or False."""

    def check(self, name: str, value: Any) -> bool:  # noqa: D102
        return flag(name, value)


class Word(Kind):
    """One of some words, or numbers that are read like words."""

    def __init__(self, *allowed: Any, unsaid: tuple[Any, ...] = (), metavar: str | None = None) -> None:
        super().__init__(metavar)
        self.allowed, self.unsaid = allowed, unsaid

    def check(self, name: str, value: Any) -> Any:
        one_of(name, value, (*self.unsaid, *self.allowed))
        return value

    def parse(self, text: str) -> Any:
        known = {str(choice): choice for choice in self.allowed}
        if text not in known:
            near = get_close_matches(text, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"{text!r} is not one of {', '.join(known)}{hint}")
        return known[text]


class Whole(Kind):
    """A whole number from ``least`` to ``most``."""

    metavar = "N"

    def __init__(self, least: int = 1, most: int = 2**63 - 1) -> None:
        super().__init__()
        self.least, self.most = least, most

    def check(self, name: str, value: Any) -> int:
        return positive_int(name, value, least=self.least, most=self.most)

    def parse(self, text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number") from None
        if number < self.least:
            raise ValueError(f"{number} is too small; the least is {self.least}")
        if number > self.most:
            raise ValueError(f"{number} is too large; the most is {self.most}")
        return number


class Positive(Kind):
    """A finite number greater than zero."""

    metavar = "X"

    def check(self, name: str, value: Any) -> float:
        return finite_number(name, value, above=0)

    def parse(self, text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a number") from None
        if not (math.isfinite(number) and number > 0):
            raise ValueError(f"{text} is not a finite number greater than 0")
        return number


class Bytes(Whole):
    """A number of bytes; in the command with K, M, G or T for powers of 1024."""

    metavar = "SIZE"

    def parse(self, text: str) -> int:
        number, unit = (
            (text[:-1], text[-1].upper()) if text[-1:].upper() in ("K", "M", "G", "T") else (text, "")
        )
        try:
            size = int(float(number) * 1024 ** " KMGT".index(unit or " "))
        except (ValueError, OverflowError):
            raise ValueError(f"{text!r} is not a size; write 500M or 8G") from None
        if size < self.least:
            raise ValueError(f"{text} is too small; write 500M or 8G")
        return size


# ---- families ------------------------------------------------------------------------------------------------------


def option(default: Any, kind: Kind, help: str, *flags: str) -> Any:
    """A field of a family.

    Args:
        default: where it is None, None is always allowed.
        kind: what its value may be.
        help: for the docstrings of functions; the command's help shows what stands before the first full stop.
        flags: of the command.
    """
    return field(default=default, metadata={"kind": kind, "help": help, "flags": flags})


def brief(help: str) -> str:
    """The first sentence of a help, without its full stop."""
    return help.split(". ")[0].removesuffix(".")


@dataclass(frozen=True, kw_only=True)
class Family:
    """Options that belong together; making one checks each of them, then :meth:`agree` what they are together."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if value is not None or each.default is not None:
                self._set(each.name, each.metadata["kind"].check(each.name, value))
        self.agree()

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def agree(self) -> None:
        """Raises a ValueError where options contradict each other."""

    def asdict(self) -> dict[str, Any]:
        """The options by name; unlike the function of dataclasses, without copies of what they hold."""
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True, kw_only=True)
class Evaluation(Family):
    """How the points of a landscape are computed: the options of :func:`lla_func.evaluate`."""

    engine: str = option(
        "auto",
        Word("auto", "loop", "vmap", "hoisted", "compiled"),
        'how the points are computed: auto (by a trial), loop, vmap, hoisted or compiled. ``"loop"`` goes point by '
        'point and takes any objective, ``"vmap"`` takes blocks of points, ``"hoisted"`` computes once what all points '
        'share (:mod:`lla_func.landscape.engines`), ``"compiled"`` does the same through ``torch.compile``, for long '
        'jobs. ``"auto"`` takes the fastest in a trial on the job\'s first points, or, in jobs of less than about a '
        "second, the one that a count of operations suggests. Every engine but the loop is checked against the loop on "
        "two points; one that cannot run the objective, or fails the check, gives way to the loop with an "
        ':class:`EngineFallbackWarning` (``"auto"`` takes the loop quietly where the objective cannot be recorded).',
        "--engine",
    )
    points_per_pass: int | None = option(
        None, Whole(), "how many points share each operation. Halved when memory runs out."
    )
    samples_per_tile: int | None = option(
        None, Whole(), "how many samples are computed together, where batches may be cut."
    )
    channels_last: bool | None = option(
        None, Flag(), "whether images have their channels innermost in memory."
    )
    plan: Any = option(
        None,
        Kind(),
        'a plan to follow, such as the ``diagnostics["plan"]`` of an earlier landscape, instead of engine and the '
        "three options before. All engines and plans give the same losses to rounding; the same plan gives the same "
        "bits, while a trial, which goes by the clock, may end with another plan in another run.",
    )
    memory_budget: int | None = option(
        None,
        Bytes(),
        "bytes for everything beyond the data and the directions (default: a quarter of what is free). The hoisted "
        "engine estimates its need from it before it allocates.",
        "--memory",
    )
    sampling: str = option(
        "grid",
        Word("grid", "chebyshev"),
        '``"grid"`` evaluates every point. ``"chebyshev"`` evaluates Chebyshev nodes, more until the estimated error '
        "of a polynomial through them is within ``tol``, and interpolates; the points have to be a mesh. A surface "
        'that is not smooth enough is evaluated at every point. What was done is in ``diagnostics["sampling"]``.',
    )
    tol: float | None = option(
        None,
        Positive(),
        "evaluate fewer points and interpolate with an estimated error of so much of the range of the losses (0.01 is "
        "one percent); a needle narrower than the spacing of the points, about a sixth of the extent, can be missed. "
        'For ``sampling="chebyshev"``, which needs it.',
        "--tol",
    )
    log_tol: bool = option(
        False, Flag(), "whether the log-loss has to be within ``tol`` of its range as well."
    )
    tf32: bool = option(
        False,
        Flag(),
        "let a GPU compute a quick preview with TensorFloat-32. Faster, with ten bits of mantissa and errors of about "
        "1e-3; an engine's check against the loop then compares two such results.",
        "--tf32",
    )
    store: str | Path | None = option(
        None,
        Kind("DIR"),
        "keep finished points in a folder: the same call goes on where it stopped, and several processes that make it "
        "share the work. It goes on along the same plan, so that the losses are bit for bit those of an unbroken run; "
        "each process returns the whole landscape. :func:`lla_func.landscape.load_landscape` reads a finished folder, "
        "and so does the same call.",
        "--store",
    )
    progress: bool = option(False, Flag(), "whether to show a progress bar.")

    def agree(self) -> None:  # noqa: D102
        if self.sampling == "chebyshev" and self.tol is None:
            raise ValueError(
                "sampling='chebyshev' needs tol, the estimated error allowed as a part of the surface's range"
            )
        if self.sampling == "grid" and self.tol is not None:
            raise ValueError(f"tol={self.tol!r} is for sampling='chebyshev'; a grid has no error")

    @property
    def cut(self) -> Mapping[str, Any]:
        """How an engine is asked to cut the work."""
        names = ("points_per_pass", "samples_per_tile", "memory_budget", "channels_last")
        return {name: getattr(self, name) for name in names}
