"""Checks of arguments, whose errors name the argument, what came, what is allowed and what to do."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # those that need torch import it when called: the command's help is read without it
    import torch
    from torch import Tensor

__all__ = [
    "finite_number",
    "finite_tensor",
    "flag",
    "instance",
    "names",
    "numbers_of",
    "one_of",
    "positive_int",
    "seed_number",
    "shown",
    "usable_device",
]


def shown(value: Any, *, width: int = 80) -> str:
    """A value for a message: its repr, but of tensors and arrays the shape, and never longer than ``width``."""
    if getattr(value, "shape", ()) and hasattr(value, "dtype"):
        return f"{type(value).__name__} of shape {list(value.shape)}"
    text = " ".join(repr(value).split())
    return text if len(text) <= width else f"{text[: width - 3]}..."


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Raises a ValueError unless ``value`` is one of ``allowed``; suggests the nearest spelling.

    Example:
        >>> one_of("axes", "hesian", ("random", "adam", "hessian"))
        Traceback (most recent call last):
        ...
        ValueError: axes='hesian' is not one of 'random', 'adam', 'hessian'; did you mean 'hessian'?
    """
    allowed = tuple(allowed)
    plain = isinstance(value, (str, numbers.Number)) and not isinstance(value, bool)  # True is no 1 here
    if any(value is choice or (plain and value == choice) for choice in allowed):
        return
    message = f"{name}={shown(value)} is not one of {', '.join(repr(choice) for choice in allowed)}"
    spellings = [choice for choice in allowed if isinstance(choice, str)]
    nearest = difflib.get_close_matches(value, spellings, n=1) if isinstance(value, str) else []
    raise ValueError(message + (f"; did you mean {nearest[0]!r}?" if nearest else ""))


def flag(name: str, value: Any) -> bool:
    """Returns ``value`` as a bool, or raises unless it is one: the word "no" would count as yes.

    Example:
        >>> flag("to_save", "no")
        Traceback (most recent call last):
        ...
        TypeError: to_save='no' is neither True nor False; pass one of these
    """
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):  # NumPy's own, too
        return bool(value)
    raise TypeError(f"{name}={shown(value)} is neither True nor False; pass one of these")


def positive_int(name: str, value: Any, *, least: int = 1, most: int = 2**63 - 1) -> int:
    """Returns ``value`` as an int, or raises unless it is a whole number from ``least`` to ``most``."""
    try:
        number = None if isinstance(value, bool) or type(value).__name__ == "bool_" else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{name}={shown(value)} is not a whole number; pass an int of at least {least}")
    if number < least:
        raise ValueError(f"{name}={number} is too small; pass an int of at least {least}")
    if number > most:
        raise ValueError(f"{name}={shown(number)} is too large; pass an int of at most {most}")
    return number


def seed_number(name: str, value: Any) -> int:
    """Returns ``value`` as a seed, or raises unless it is a whole number that fits 64 bits without a sign."""
    return positive_int(name, value, least=0, most=2**64 - 1)


def finite_number(
    name: str, value: Any, *, above: float = -math.inf, least: float = -math.inf, most: float = math.inf
) -> float:
    """Returns ``value`` as a float, or raises unless it is finite, greater than ``above``, and in [least, most]."""
    try:
        number = None if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = None
    if number is None:
        raise TypeError(f"{name}={shown(value)} is not a number")
    if not math.isfinite(number) or number <= above or not least <= number <= most:
        bounds = [f"greater than {above:g}"] if above > -math.inf else []
        bounds += [f"of at least {least:g}"] if least > -math.inf else []
        bounds += [f"of at most {most:g}"] if most < math.inf else []
        raise ValueError(
            f"{name}={shown(value)} is not allowed; pass a finite number {' and '.join(bounds)}".rstrip()
        )
    return number


def finite_tensor(
    name: str, value: Any, shape: Sequence[int | str] | None = None, *, floating: bool = True
) -> Tensor:
    """Returns ``value``, or raises unless it is a dense tensor of finite real numbers.

    Args:
        name: of the argument.
        value: what came.
        shape: its axes, each a length or a letter for any length; None for any shape.
        floating: whether whole numbers are refused, too.

    Example:
        >>> import torch
        >>> finite_tensor("axes", torch.zeros(3, 5), (2, "P"))
        Traceback (most recent call last):
        ...
        ValueError: axes has shape [3, 5]; pass [2, P]
    """
    import torch

    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} is of type {type(value).__name__}; pass a tensor")
    if value.is_complex() or value.dtype == torch.bool or (floating and not value.is_floating_point()):
        kind = "real floating" if floating else "real"
        raise TypeError(f"{name} has dtype {value.dtype}; pass {kind} numbers ({name}.float())")
    if value.layout != torch.strided or value.is_meta:
        held = "has no data (device meta)" if value.is_meta else f"is stored as {value.layout}"
        raise TypeError(f"{name} {held}; pass a dense tensor ({name}.to_dense())")
    if shape is not None and (
        value.ndim != len(shape)
        or any(isinstance(n, int) and n != m for n, m in zip(shape, value.shape, strict=True))
    ):
        raise ValueError(
            f"{name} has shape {list(value.shape)}; pass [{', '.join(str(axis) for axis in shape)}]"
        )
    if value.numel() and not all(bool(end.isfinite()) for end in torch.aminmax(value.detach())):
        raise ValueError(f"{name} has NaN or infinite values; pass finite numbers")
    return value


def instance(name: str, value: Any, kind: type | tuple[type, ...], instead: str) -> None:
    """Raises a TypeError unless ``value`` is of the type; ``instead`` says what to pass."""
    if not isinstance(value, kind):
        came = f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"
        raise TypeError(f"{name} is {came}; pass {instead}")


def names(name: str, value: Any, *, otherwise: str = "") -> tuple[str, ...]:
    """Returns one or more name patterns as a tuple, or raises unless they are words, and at least one."""
    several = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    found = tuple(value) if several else (value,)
    if not all(isinstance(pattern, str) for pattern in found):
        raise TypeError(
            f"{name}={shown(value)} is no name pattern; pass a str such as 'fc1.*', or a list of them"
        )
    if not found:
        raise ValueError(f"{name} is empty; pass at least one name pattern{otherwise}")
    return found


def numbers_of(name: str, value: Any) -> Tensor:
    """A tensor, an array or nested lists of numbers as a tensor, or a TypeError."""
    import torch

    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"{name}={shown(value)} holds no numbers; pass a tensor") from error


def usable_device(name: str, value: Any) -> torch.device:
    """The device, or a ValueError that says why it cannot be used here."""
    import torch

    try:
        if isinstance(value, bytes):
            raise TypeError("bytes are no name of a device")
        found = torch.device(value)
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, AssertionError) as error:  # torch raises any of these
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{name}={shown(value)} cannot be used here ({reason}); pass {name}='cpu'"
        ) from error
    return found
