"""The kinds of sharpness, by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches

from lla_func.assessment._average import average
from lla_func.assessment._distances import basin, critical_lr, pac_bayes
from lla_func.assessment._worst_case import asam, asam_max, sam, sam_max
from lla_func.errors import one_of
from lla_func.spectrum import Estimate

SHARPNESS: Mapping[str, Callable[..., Estimate]] = {
    "sam": sam,
    "sam_max": sam_max,
    "asam": asam,
    "asam_max": asam_max,
    "average": average,
    "critical_lr": critical_lr,
    "basin": basin,
    "pac_bayes": pac_bayes,
}
"""Functions of an Objective, and options, each of which gives an Estimate."""


def options_of(kind: str) -> tuple[str, ...]:
    """The names of the options that a kind of sharpness takes.

    Example:
        >>> options_of("asam")
        ('rho', 'eta', 'over_data')
    """
    one_of("kind", kind, SHARPNESS)
    return tuple(inspect.signature(SHARPNESS[kind]).parameters)[1:]


def check_options(kind: str, options: Iterable[str]) -> None:
    """Raises a ValueError unless there is such a kind, and it takes the options of these names."""
    known = options_of(kind)
    for name in options:
        if name not in known:
            nearest = get_close_matches(name, known, n=1)
            hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
            raise ValueError(f"kind={kind!r} takes no option {name!r}; it takes {', '.join(known)}{hint}")
