"""What the value of an option may be: checked in a call, and read from the command line."""

from __future__ import annotations

import math
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from lla_func.errors import finite_number, flag, names, one_of, positive_int


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

    def check(self, name: str, value: Any) -> bool:
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


class Fraction(Positive):
    """A finite number of at least zero, of at most ``most``."""

    def __init__(self, most: float = 100.0) -> None:
        super().__init__()
        self.most = most

    def check(self, name: str, value: Any) -> float:
        return finite_number(name, value, least=0, most=self.most)

    def parse(self, text: str) -> float:
        number = super().parse(text) if text.strip("0.") else 0.0
        if number > self.most:
            raise ValueError(f"{text} is too large; the most is {self.most:g}")
        return number


class Texts(Kind):
    """One or more texts."""

    def check(self, name: str, value: Any) -> tuple[str, ...]:
        return names(name, value)


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


class Axes(Word):
    """A word, or directions, which are looked at where there is an objective to compare them with."""

    def check(self, name: str, value: Any) -> Any:
        plain = value is None or isinstance(value, (str, bytes, int, float))
        return super().check(name, value) if plain else value


class Dtype(Word):
    """A dtype, or its name; the metric knows which it can take."""

    def check(self, name: str, value: Any) -> Any:
        return value


class Names(Kind):
    """One or more name patterns."""

    metavar = "PATTERN"

    def check(self, name: str, value: Any) -> tuple[str, ...]:
        return names(name, value, otherwise=", or None for all parameters")


class Frozen(Kind):
    """A number of parameter tensors, or name patterns; which of them there are, the model knows."""

    metavar = "N|PATTERN"

    def check(self, name: str, value: Any) -> Any:
        return tuple(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else value

    def parse(self, text: str) -> int | str:
        try:
            return int(text)
        except ValueError:
            return text
