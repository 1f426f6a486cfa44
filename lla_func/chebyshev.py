"""Fewer points: a smooth surface sampled at nested Chebyshev nodes and interpolated to the grid, its error measured.

Loss surfaces along normalised directions are smooth, and polynomial interpolation of an analytic function converges
geometrically if the nodes crowd at the ends like Chebyshev points (Trefethen 2013, Approximation Theory and
Approximation Practice, chapter 8). Chebyshev points themselves are nested only when the degree doubles; taken in Leja's
order, each the one with the largest product of distances to those before (Reichel 1990), they are nested for every
degree. How good an interpolant is, is not assumed but measured: at points of the requested grid that it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Sampling", "interpolate", "nodes", "sample"]

Losses = Callable[[Tensor], Tensor]

DEGREES = (6, 8, 10, 12, 14, 16, 20, 24, 28, 32)
HELD_OUT = 12
FINEST = 64


class Sampling(NamedTuple):
    """A surface reconstructed from fewer evaluations than it has points.

    Attributes:
        losses: at the requested points, [N] float64.
        true: which of them are evaluated rather than interpolated, [N] bool.
        evaluations: how many losses were computed in all.
        error: the larger of the largest error at points of the grid that were held out, and of half the largest change
            over the whole grid that the last raise of the degree made; relative to the surface's range (and for the
            log-loss to its own, if asked for). 0 if all points are true.
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
    held_out: int = HELD_OUT,
    seed: int = 0,
) -> Sampling:
    """Reconstructs a surface on a mesh from as few evaluations as reach an error.

    Args:
        losses: maps coordinates [n, C] to losses [n] float64 on the CPU.
        axes: the mesh's axes, each sorted, [m_c]; the points are in the order of :func:`lla_func.chart.mesh`.
        tol: the largest error allowed, as a part of the surface's range.
        log: whether the log-loss has to be within ``tol`` of its own range too, for the bottom of a valley.
        held_out: how many more points of the grid measure the error of each degree.
        seed: for the choice of these points.

    Returns:
        the surface. The whole grid is evaluated if the losses are not finite, not positive where ``log`` asks for
        it, or if no degree that is cheaper than the grid reaches ``tol``; ``reason`` says which.

    Example:
        >>> axis = torch.linspace(-1, 1, 41, dtype=torch.float64)
        >>> bowl = sample(lambda c: c.square().sum(1), (axis, axis), tol=1e-3)
        >>> bowl.degree, bowl.evaluations < 41 * 41 / 10, bowl.error < 1e-12
        (8, True, True)
    """
    shape = tuple(len(axis) for axis in axes)
    count = math.prod(shape)
    mesh = torch.cartesian_prod(*axes).reshape(count, len(axes))
    known = torch.full((count,), math.nan, dtype=torch.float64)
    true = torch.zeros(count, dtype=torch.bool)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    spent = 0

    def evaluate_grid_points(places: Tensor) -> None:
        nonlocal spent
        places = places[~true[places]]
        if len(places):
            known[places] = losses(mesh[places])
            true[places] = True
            spent += len(places)

    def everything(reason: str) -> Sampling:
        evaluate_grid_points(torch.arange(count))
        return Sampling(known, true, spent, 0.0, None, reason)

    values, sites, before = None, [], None
    for step, degree in enumerate(DEGREES):
        sites = [nodes(degree, float(a[0]), float(a[-1])) if len(a) > 1 else a for a in axes]
        if math.prod(map(len, sites)) + (step + 1) * held_out >= count:
            return everything(f"an interpolant of degree {degree} would take as many points as the grid")
        values, cost = _refine(losses, sites, values)
        spent += cost
        if not torch.isfinite(values).all():
            return everything("the losses are not finite everywhere")
        if log and not (values > 0).all():
            return everything("the losses are not positive everywhere, so there is no log-loss")
        evaluate_grid_points(order[step * held_out : (step + 1) * held_out])
        surface = interpolate(values, sites, axes).reshape(-1)
        error = _error(surface[true], known[true], values, log=log)
        if before is not None:
            error = max(error, 0.5 * _error(before, surface, values, log=log))
        if error <= tol and before is not None:
            return Sampling(torch.where(true, known, surface), true, spent, error, degree, None)
        before = surface
    return everything(f"degree {DEGREES[-1]} leaves an error of {error:.2g} of the range, tol={tol:g}")


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


def _error(guess: Tensor, truth: Tensor, values: Tensor, *, log: bool) -> float:
    """The largest error relative to the range of the losses; infinite where the truth is not finite."""
    if not torch.isfinite(truth).all():
        return math.inf
    everything = torch.cat([truth, values.reshape(-1)])
    span = float(everything.max() - everything.min())
    error = float((guess - truth).abs().max())
    worst = error / span if span > 0 else (0.0 if error == 0 else math.inf)
    if log:
        if not ((guess > 0).all() and (truth > 0).all()):
            return math.inf
        worst = max(worst, _error(guess.log(), truth.log(), values.log(), log=False))
    return worst
