"""Fewer points: a smooth surface sampled at nested Chebyshev nodes and interpolated to the grid, its error estimated.

Loss surfaces along normalized directions are smooth, and polynomial interpolation of an analytic function converges
geometrically if the nodes crowd at the ends like Chebyshev points (Trefethen 2013, Approximation Theory and
Approximation Practice, chapter 8). Chebyshev points themselves are nested only when the degree doubles; taken in Leja's
order, each the one with the largest product of distances to those before (Reichel 1990), they are nested for every
degree. How good an interpolant is, is not assumed: it is compared with the losses at points of the grid that it has not
seen, and with the two interpolants of lower degree. No such comparison sees what lies between all its points: a needle
narrower than their spacing is missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Losses = Callable[[Tensor], Tensor]

DEGREES = (4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32)
FINEST = 64

HELD_OUT = 0.23
"""How many points are held out for each node, and how many at least."""
FEWEST_HELD_OUT = 12
SURROUNDINGS = 0.1
"""How far from each other points held out should be where interpolants differ most, as a part of the extent."""

# An estimated error is the largest of three, each a multiple of a difference that was seen. The factors are such that
# of 300 surfaces of random networks, waves, kinks, peaks and ripples (tests/surfaces.py) at three tolerances less than
# 1 % exceed tol, and none by more than a factor of 2.
BEYOND_HELD_OUT = 1.9
"""The largest error over the grid, in units of the largest at the points held out."""
BEYOND_CHANGE = 1.75
"""The largest error, in units of the largest change that the last raise of the degree made."""
BEYOND_CHANGE_BEFORE = 0.3
"""The same for the raise before: at an error that falls so slowly, one small change is a coincidence."""


class Sampling(NamedTuple):
    """A surface reconstructed from fewer evaluations than it has points.

    Attributes:
        losses: at the requested points, [N] float64.
        true: which of them are evaluated rather than interpolated, [N] bool.
        evaluations: how many losses were computed in all.
        error: the estimated error, the largest over the grid relative to the surface's range (and for the log-loss to
            its own, if asked for): the largest at points that were held out and the largest changes that the last two
            raises of the degree made, with factors of safety. 0 if all points are true.
        degree: of the interpolant along each axis; None if the whole grid was evaluated.
        reason: why the whole grid was evaluated, or None.
    """

    losses: Tensor
    true: Tensor
    evaluations: int
    error: float
    degree: int | None
    reason: str | None


def nodes(degree: int, low: float, high: float) -> Tensor:
    """The first degree + 1 of 65 Chebyshev points on [low, high], in Leja's order: both ends, the middle, and on.

    Example:
        >>> [round(x, 3) for x in nodes(4, -1.0, 1.0).tolist()]
        [-1.0, 1.0, 0.0, -0.596, 0.672]
    """
    unit = torch.cos(torch.arange(FINEST, -1, -1, dtype=torch.float64) * (math.pi / FINEST))
    unit[FINEST // 2] = 0.0
    chosen = [0]
    logs = torch.zeros_like(unit)
    while len(chosen) <= degree:
        logs += (unit - unit[chosen[-1]]).abs().log()
        chosen.append(int(logs.argmax()))
    return low + (high - low) * (0.5 * (unit[chosen] + 1))


def interpolate(values: Tensor, sites: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """The polynomial through values on a mesh of distinct sites, at another mesh.

    Barycentric formula (Berrut and Trefethen 2004, equation 4.2), one axis after another.

    Args:
        values: [n_1, ..., n_C].
        sites: the coordinates of each axis, [n_c], in any order.
        targets: the coordinates of each axis of the other mesh, [m_c].

    Returns:
        [m_1, ..., m_C].

    Example:
        >>> x = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
        >>> interpolate(x**2, [x], [torch.tensor([0.5, 2.0], dtype=torch.float64)])
        tensor([0.2500, 4.0000], dtype=torch.float64)
    """
    for axis, (site, target) in enumerate(zip(sites, targets, strict=True)):
        matrix = _barycentric(site, target)
        values = torch.movedim(torch.tensordot(matrix, values, dims=([1], [axis])), 0, axis)
    return values


def sample(
    losses: Losses,
    axes: Sequence[Tensor],
    *,
    tol: float,
    log: bool = False,
) -> Sampling:
    """Reconstructs a surface on a mesh from as few evaluations as reach an estimated error.

    Args:
        losses: maps coordinates [n, C] to losses [n] float64 on the CPU.
        axes: the mesh's axes, each sorted, [m_c]; the points are in the order of :func:`lla_func.geometry.mesh`.
        tol: the largest estimated error allowed, as a part of the surface's range. It is an estimate from the points
            that were evaluated: a needle narrower than their spacing, about a sixth of the extent, can be missed.
        log: whether the log-loss has to be within ``tol`` of its own range too, for the bottom of a valley.

    Returns:
        the surface. The whole grid is evaluated if the losses are not finite, not positive where ``log`` asks for
        it, or if no degree that is cheaper than the grid reaches ``tol``; ``reason`` says which.

    Example:
        >>> axis = torch.linspace(-1, 1, 41, dtype=torch.float64)
        >>> bowl = sample(lambda c: c.square().sum(1), (axis, axis), tol=1e-3)
        >>> bowl.degree, bowl.evaluations < 41 * 41 / 10, bowl.error < 1e-12
        (8, True, True)
    """
    shape = [len(axis) for axis in axes]
    count = math.prod(shape)
    mesh = torch.cartesian_prod(*axes).reshape(count, len(axes))
    known = torch.full((count,), math.nan, dtype=torch.float64)
    true = torch.zeros(count, dtype=torch.bool)
    spent = 0

    def evaluate_grid_points(places: Tensor) -> None:
        nonlocal spent
        if len(places):
            known[places] = losses(mesh[places])
            true[places] = True
            spent += len(places)

    def everything(reason: str) -> Sampling:
        evaluate_grid_points((~true).nonzero().flatten())
        return Sampling(known, true, spent, 0.0, None, reason)

    values, before, change_before, error = None, None, math.inf, math.inf
    for degree in DEGREES:
        sites = [nodes(degree, float(a[0]), float(a[-1])) if len(a) > 1 else a for a in axes]
        size = math.prod(map(len, sites))
        held_out = max(FEWEST_HELD_OUT, int(HELD_OUT * size))
        if size + held_out >= count:
            return everything(f"an interpolant of degree {degree} would take as many points as the grid")
        values, cost = _refine(losses, sites, values)
        spent += cost
        if not torch.isfinite(values).all():
            return everything("the losses are not finite everywhere")
        if log and not (values > 0).all():
            return everything("the losses are not positive everywhere, so there is no log-loss")
        surface = interpolate(values, sites, axes).reshape(-1)
        if before is not None:
            more = held_out - int(true.sum())
            evaluate_grid_points(_doubtful(axes, sites, true, surface, before, more, log=log))
            seen = torch.cat([known[true], values.reshape(-1)])
            change = _error(before, surface, seen, log=log)
            error = max(
                BEYOND_HELD_OUT * _error(surface[true], known[true], seen, log=log),
                BEYOND_CHANGE * change,
                BEYOND_CHANGE_BEFORE * change_before,
            )
            if error <= tol:
                return Sampling(torch.where(true, known, surface), true, spent, error, degree, None)
            change_before = change
        before = surface
    return everything(
        f"degree {DEGREES[-1]} leaves an estimated error of {error:.2g} of the range, tol={tol:g}"
    )


def _doubtful(
    axes: Sequence[Tensor],
    sites: Sequence[Tensor],
    true: Tensor,
    surface: Tensor,
    before: Tensor,
    count: int,
    *,
    log: bool,
) -> Tensor:
    """The places of the grid where an interpolant is most likely to be wrong, at most ``count`` of them.

    Half of them fill the largest holes between the points evaluated so far, one after another; at the others
    interpolants of neighboring degrees differ most, and a new place leaves its surroundings alone.

    Args:
        axes: of the grid, [m_c].
        sites: of the nodes, [n_c].
        true: which points of the grid are evaluated, [N].
        surface, before: the interpolant on the grid, and that of the degree before, [N].
        count: how many places.
        log: whether the interpolants' logarithms matter.
    """
    units = [(axis - axis[0]) / (axis[-1] - axis[0]).clamp_min(1e-300) for axis in axes]
    gaps = [
        (axis[:, None] - site).abs().amin(1) / (axis[-1] - axis[0]).clamp_min(1e-300)
        for axis, site in zip(axes, sites, strict=True)
    ]
    grid = torch.cartesian_prod(*units).reshape(len(true), -1)
    hole = torch.cartesian_prod(*gaps).reshape(len(true), -1).norm(dim=1)  # to the closest node, axis by axis
    for place in true.nonzero().flatten().tolist():
        hole = torch.minimum(hole, (grid - grid[place]).norm(dim=1))
    difference = (surface.log() - before.log() if log else surface - before).abs().nan_to_num(nan=math.inf)
    places: list[int] = []
    for number in range(count):
        doubt = hole if number < count / 2 else difference.where(hole > 0, -1.0)
        place = int(doubt.argmax())
        if hole[place] == 0:
            break
        places.append(place)
        distance = (grid - grid[place]).norm(dim=1)
        hole = torch.minimum(hole, distance)
        difference = difference * (distance / SURROUNDINGS).clamp_max(1.0)
    return torch.tensor(places, dtype=torch.long)


def _refine(losses: Losses, sites: Sequence[Tensor], values: Tensor | None) -> tuple[Tensor, int]:
    """Losses on the mesh of sites, those known on the mesh of the first sites reused, and how many are new."""
    shape = [len(site) for site in sites]
    result = torch.full(shape, math.nan, dtype=torch.float64)
    new = torch.ones(shape, dtype=torch.bool)
    if values is not None:
        known = tuple(slice(0, size) for size in values.shape)
        result[known] = values
        new[known] = False
    coords = torch.cartesian_prod(*sites).reshape(-1, len(sites))
    result[new] = losses(coords[new.reshape(-1)])
    return result, int(new.sum())


def _barycentric(site: Tensor, target: Tensor) -> Tensor:
    """The matrix [m, n] from values at sites to values at targets."""
    gaps = site[:, None] - site[None, :]
    gaps.fill_diagonal_(1.0)
    capacity = max(float(site.max() - site.min()) / 4, 1e-300)
    weights = 1 / (gaps / capacity).prod(1)
    gap = target[:, None].to(torch.float64) - site[None, :]
    hit = gap == 0
    terms = weights / torch.where(hit, 1.0, gap)
    matrix = terms / terms.sum(1, keepdim=True)
    return torch.where(hit.any(1, keepdim=True), hit.to(torch.float64), matrix)


def _error(guess: Tensor, truth: Tensor, seen: Tensor, *, log: bool) -> float:
    """The largest error relative to the range of the losses seen; infinite where the truth is not finite."""
    if not torch.isfinite(truth).all():
        return math.inf
    span = float(seen.max() - seen.min())
    error = float((guess - truth).abs().max())
    worst = error / span if span > 0 else (0.0 if error == 0 else math.inf)
    if log:
        if not ((guess > 0).all() and (truth > 0).all()):
            return math.inf
        worst = max(worst, _error(guess.log(), truth.log(), seen.log(), log=False))
    return worst
