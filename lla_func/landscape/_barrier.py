"""The barrier between two points of a line: how high the loss rises above the chord of its ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from lla_func._torch import full_precision, raise_if_interrupted
from lla_func.errors import finite_number, instance, positive_int
from lla_func.geometry import Chart, point
from lla_func.landscape._evaluate import evaluate
from lla_func.landscape._landscape import Landscape
from lla_func.objective import Objective, risk
from lla_func.spectrum import Estimate

GOLDEN = (math.sqrt(5) - 1) / 2
TOLERANCE = 1e-5
"""The search ends when no more than this part of the barrier can be missing."""

COARSE = 1e-4
"""The same beside an end, which is no rise by itself, as a part of the largest distance from the chord."""

MOST_STEPS = 40
CANDIDATES = 3
"""How many of the highest maxima among the evaluated points are refined."""

ROUNDINGS = 4
"""Losses are known to so many roundings of the largest one."""


class Barrier(NamedTuple):
    """How high the loss rises between two points of a line.

    Attributes:
        estimate: max over t of L(t) - ((1 - t) L(start) + t L(end)), at least 0. Its error is what the last step of
            the search, and rounding, leave open; a rise and fall between two evaluated points is not seen.
        at: the coordinate of the maximum; that of the start where the barrier is 0.
        ends: the losses at both ends.
    """

    estimate: Estimate
    at: float
    ends: tuple[float, float]


def barrier(
    objective: Objective,
    chart: Chart,
    landscape: Landscape | None = None,
    *,
    between: tuple[float, float] = (0.0, 1.0),
    steps: int = 41,
    **evaluation: Any,
) -> Barrier:
    """The height of the loss above the chord between two points of a line, refined between the evaluated points.

    The highest of the evaluated points are the middles of brackets, in which golden sections find the maximum of the
    continuous line; the top of the last parabola is evaluated, too.

    Args:
        objective: the loss.
        chart: with one coordinate, such as :func:`lla_func.chart.linear_interpolation`.
        landscape: the losses along it, of which those between the two points are used; by default evaluated here.
        between: the coordinates of the two points.
        steps: points that are evaluated, both ends counted, where no landscape is given.
        evaluation: options of :func:`lla_func.evaluate` for these.

    Raises:
        ValueError, TypeError: the chart has more coordinates than one, or the two points are no interval.

    Source:
        Frankle et al., Linear mode connectivity and the lottery ticket hypothesis (2020), section 2.

    Example:
        >>> from lla_func import chart, from_loss
        >>> well = from_loss(lambda theta, _: ((theta**2 - 1) ** 2).sum(), torch.ones(1, dtype=torch.float64))
        >>> found = barrier(well, chart.linear_interpolation(-well.theta, well.theta), steps=10)
        >>> round(found.estimate.value, 9), round(found.at, 6)
        (1.0, 0.5)
    """
    instance("chart", chart, Chart, "a Chart of one coordinate, such as chart.linear_interpolation(a, b)")
    if chart.dim != 1:
        raise ValueError(f"chart has {chart.dim} coordinates; a barrier is sought along one")
    start, end = (finite_number(f"between[{i}]", between[i]) for i in range(2))
    if not start < end:
        raise ValueError(f"between={between!r} is no interval; pass (start, end) with start < end")
    if landscape is None:
        steps = positive_int("steps", steps, least=2)
        coords = torch.linspace(start, end, steps, dtype=torch.float64)[:, None]
        landscape = evaluate(objective, chart, coords, **evaluation)
    losses: list[float] = []

    def loss(t: float) -> float:
        coords = torch.tensor([[t]], dtype=torch.float64, device=chart.basis.device)
        with torch.no_grad(), full_precision():
            losses.append(float(risk(objective, point(chart, coords)[0])))
        raise_if_interrupted()
        return losses[-1]

    first, last = loss(start), loss(end)

    def chord(t: float) -> float:
        share = (t - start) / (end - start)
        return (1 - share) * first + share * last

    inside = (landscape.coords[:, 0] > start) & (landscape.coords[:, 0] < end)
    order = landscape.coords[inside, 0].argsort()
    known = landscape.losses[inside][order]
    ts = [start, *landscape.coords[inside, 0][order].tolist(), end]
    heights = [0.0, *(value - chord(t) for t, value in zip(ts[1:-1], known.tolist(), strict=True)), 0.0]
    ends = (first, last)
    if not all(map(math.isfinite, (*ends, *heights))):
        return _unbounded(ts, heights, ends)
    rounding = (
        ROUNDINGS * torch.finfo(chart.basis.dtype).eps * float(torch.tensor([*ends, *known]).abs().max())
    )
    best = _Found(start, 0.0, 0.0)
    for index in _maxima(heights):
        left, right = ts[max(index - 1, 0)], ts[min(index + 1, len(ts) - 1)]
        inner = 0 < index < len(ts) - 1
        floor = rounding if inner else max(rounding, COARSE * max(map(abs, heights)))
        found = _maximum(lambda t: loss(t) - chord(t), left, right, ts[index], floor=floor)
        best = max(best, found, key=lambda each: each.height)
    if not math.isfinite(best.height):
        return _unbounded([best.at], [best.height], ends)
    flat = best.height <= rounding
    error = best.error + rounding
    note = "no barrier" if flat else f"at {best.at:.4g} on [{start:g}, {end:g}]"
    settled = error <= TOLERANCE * best.height + 2 * rounding
    return Barrier(Estimate(best.height, error, converged=settled, note=note), best.at, ends)


class _Found(NamedTuple):
    """The maximum in a bracket: where, how high, and how much higher it may be."""

    at: float
    height: float
    error: float


def _maxima(heights: list[float]) -> list[int]:
    """The places of the highest local maxima, both ends among them, the highest first."""
    padded = [-math.inf, *heights, -math.inf]
    tops = [i for i in range(len(heights)) if padded[i] <= padded[i + 1] >= padded[i + 2]]
    return sorted(tops, key=lambda i: -heights[i])[:CANDIDATES]


def _maximum(
    height: Callable[[float], float], left: float, right: float, middle: float, *, floor: float
) -> _Found:
    """Golden sections (Kiefer 1953) of a bracket, until there is no room above the best point; then a parabola's top.

    Args:
        height: the function.
        left, right: the bracket.
        middle: a point in it that may be the best one, and is evaluated as well.
        floor: what rounding leaves open.
    """
    seen = {t: height(t) for t in {left, middle, right}}
    low, high = right - GOLDEN * (right - left), left + GOLDEN * (right - left)
    seen |= {t: height(t) for t in (low, high)}
    for _ in range(MOST_STEPS):
        if _room(seen) <= max(TOLERANCE * max(seen.values()), floor):
            break
        if seen[low] >= seen[high]:
            right, high = high, low
            low = right - GOLDEN * (right - left)
            seen[low] = height(low)
        else:
            left, low = low, high
            high = left + GOLDEN * (right - left)
            seen[high] = height(high)
    error = _room(seen)
    top = _top(seen)
    seen[top] = height(top)
    at = max(seen, key=lambda t: seen[t])
    return _Found(at, seen[at], error)


def _around(seen: dict[float, float]) -> tuple[float, float, float]:
    """The best point and its neighbors; of an end, the two next to it."""
    ts = sorted(seen)
    index = max(range(len(ts)), key=lambda i: seen[ts[i]])
    index = min(max(index, 1), len(ts) - 2)
    return ts[index - 1], ts[index], ts[index + 1]


def _room(seen: dict[float, float]) -> float:
    """How much higher the maximum may be than the best point: what a concave function, smooth or not, allows."""
    a, b, c = _around(seen)
    before, after = (seen[b] - seen[a]) / (b - a), (seen[c] - seen[b]) / (c - b)
    best = max(seen.values())
    beyond = max(seen[b] + max(before, 0) * (c - b), seen[b] + max(-after, 0) * (b - a))
    return max(beyond - best, 0.0)


def _top(seen: dict[float, float]) -> float:
    """Where the parabola through the best point and its neighbors is highest."""
    a, b, c = _around(seen)
    before, after = (seen[b] - seen[a]) / (b - a), (seen[c] - seen[b]) / (c - b)
    bend = (after - before) / (c - a)
    if not bend < 0:
        return max((a, b, c), key=lambda t: seen[t])
    return min(max((a + b) / 2 - before / (2 * bend), a), c)


def _unbounded(ts: list[float], heights: list[float], ends: tuple[float, float]) -> Barrier:
    """What is said where losses are not finite: infinite if one is, NaN otherwise."""
    at = next((t for t, height in zip(ts, heights, strict=True) if not math.isfinite(height)), ts[0])
    infinite = all(map(math.isfinite, ends)) and math.inf in heights
    value = math.inf if infinite else math.nan
    return Barrier(
        Estimate(value, math.nan, converged=False, note=f"the loss is not finite at {at:.4g}"), at, ends
    )
