"""Where a function of a positive number first exceeds a level: bracketed by doubling, then bisected."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

DOUBLINGS = 40
BISECTIONS = 60
WIDE = 1.1


class Crossing(NamedTuple):
    """Where a function exceeds a level.

    Attributes:
        low: the largest place seen where it does not; 0 where it does everywhere that was looked at.
        high: the smallest place seen above that where it does; infinite where it does nowhere.
        slope: the secant of the function over the last bracket wider than a tenth, which rounding hardly disturbs; NaN
            where there is none.
        evaluations: how often the function was computed.
    """

    low: float
    high: float
    slope: float
    evaluations: int

    @property
    def value(self) -> float:
        """The geometric middle of the bracket; an end where there is no other."""
        return math.sqrt(self.low * self.high) if self.low > 0 and self.high < math.inf else self.high

    @property
    def error(self) -> float:
        """Half of the bracket."""
        return (self.high - self.low) / 2 if self.high < math.inf else math.inf


def crossing(
    function: Callable[[float], float], level: float, *, start: float, tol: float = 1e-2
) -> Crossing:
    """Brackets the first place, of those that doubling sees, where a function exceeds a level.

    NaN counts as above: a loss that is not a number has left what is looked at. Every loop is bounded, whatever the
    function gives. What rises and falls again within a doubling is missed.

    Args:
        function: of a positive number.
        level: to exceed.
        start: where to look first; halved as long as the function is above, else doubled.
        tol: the width of the bracket to reach, relative to its lower end.

    Example:
        >>> found = crossing(lambda x: x * x, 2.0, start=0.01, tol=1e-6)
        >>> round(found.value, 5)
        1.41421
    """
    seen: dict[float, float] = {}

    def above(x: float) -> bool:
        seen[x] = value = function(x)
        return not value <= level

    low, high = 0.0, math.inf
    if above(start):
        high = start
        for _ in range(DOUBLINGS):
            if (x := high / 2) <= 0.0 or not above(x):
                low = x
                break
            high = x
    else:
        low = start
        for _ in range(DOUBLINGS):
            if (x := low * 2) == math.inf or above(x):
                high = x
                break
            low = x
    slope = math.nan
    if low > 0 and high < math.inf:
        slope = (seen[high] - seen[low]) / (high - low)
        for _ in range(BISECTIONS):
            middle = math.sqrt(low) * math.sqrt(high)
            if high - low <= tol * low or not low < middle < high:
                break
            if above(middle):
                high = middle
            else:
                low = middle
            if high > WIDE * low:
                slope = (seen[high] - seen[low]) / (high - low)
    return Crossing(low, high, slope, len(seen))
