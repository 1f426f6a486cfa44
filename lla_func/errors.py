"""Error messages that name the argument, what came, what is allowed and what to do."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

__all__ = ["finite_number", "one_of", "positive_int"]


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raises a ValueError unless ``value`` is one of ``allowed``; suggests the nearest spelling.

    Example:
        >>> one_of("axes", "hesian", ("random", "adam", "hessian"))
        Traceback (most recent call last):
        ...
        ValueError: axes='hesian' is not one of 'random', 'adam', 'hessian'; did you mean 'hessian'?
    """
    allowed = tuple(allowed)
    if any(value is choice or value == choice for choice in allowed):
        return
    message = f"{name}={value!r} is not one of {', '.join(repr(choice) for choice in allowed)}"
    spellings = [choice for choice in allowed if isinstance(choice, str)]
    nearest = difflib.get_close_matches(value, spellings, n=1) if isinstance(value, str) else []
    raise ValueError(message + (f"; did you mean {nearest[0]!r}?" if nearest else ""))


def positive_int(name: str, value: Any, *, least: int = 1) -> int:
    """Returns ``value`` as an int, or raises unless it is a whole number of at least ``least``."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}={value!r} is not a whole number; pass an int of at least {least}")
    if (number := value.__index__()) < least:
        raise ValueError(f"{name}={number} is too small; pass an int of at least {least}")
    return number


def finite_number(name: str, value: Any, *, above: float = -math.inf) -> float:
    """Returns ``value`` as a float, or raises unless it is finite and greater than ``above``."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}={value!r} is not a number") from None
    if not math.isfinite(number) or number <= above:
        bound = "" if above == -math.inf else f" greater than {above:g}"
        raise ValueError(f"{name}={value!r} is not allowed; pass a finite number{bound}")
    return number
