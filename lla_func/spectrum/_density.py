"""Spectral density: the weighted nodes of Lanczos quadrature as a smooth curve, on a linear or a log axis."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lla_func.errors import finite_number, numbers_of, positive_int
from lla_func.spectrum._criteria import rules
from lla_func.spectrum._operator import Operator
from lla_func.spectrum._quadrature import Quadrature, quadrature


class Curve(NamedTuple):
    """A smoothed density on a grid.

    Attributes:
        grid: [G] float64.
        values: mean over the probes, [G]; integrates to 1.
        standard_error: of that mean, over the probes, [G]; NaN for a single one.
        bandwidth: standard deviation of the Gaussian each node became, in the grid's unit.
    """

    grid: Tensor
    values: Tensor
    standard_error: Tensor
    bandwidth: float


class Density(NamedTuple):
    """A spectral density: the smoothed curve and the quadrature that it shows."""

    grid: Tensor
    values: Tensor
    standard_error: Tensor
    bandwidth: float
    quadrature: Quadrature

    @property
    def nodes(self) -> Tensor:
        """The quadrature's nodes [B, M]."""
        return self.quadrature.nodes

    @property
    def weights(self) -> Tensor:
        """Their weights [B, M]."""
        return self.quadrature.weights

    @property
    def products(self) -> int:
        """Matrix-vector products spent."""
        return self.quadrature.products


class LogDensity(NamedTuple):
    """Densities over decades of |eigenvalue|, one for each sign.

    Attributes:
        grid: log10 of the magnitude, [G] float64.
        positive: density of the positive part over the decades, [G].
        negative: the same for the negative part, [G].
        zero: the share of the spectrum below the floor in magnitude. The two integrals and ``zero`` sum to 1.
        bandwidth: in decades.
    """

    grid: Tensor
    positive: Tensor
    negative: Tensor
    zero: float
    bandwidth: float


def density(
    operator: Operator,
    steps: int = 100,
    probes: int = 1,
    *,
    points: int = 1001,
    relative_bandwidth: float = 0.005,
    **options: Any,
) -> Density:
    """The eigenvalue density of an operator: ``quadrature``, then ``smooth``; see there for the arguments.

    Args:
        operator, steps, probes, options: as for :func:`lla_func.spectrum.quadrature`.
        points, relative_bandwidth: as for :func:`lla_func.spectrum.smooth`.

    Example:
        >>> from lla_func.spectrum import from_matrix
        >>> found = density(from_matrix(torch.diag(torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64))), 3, 2)
        >>> found.nodes.round(decimals=9)
        tensor([[1., 2., 4.],
                [1., 2., 4.]], dtype=torch.float64)
        >>> round(float(torch.trapezoid(found.values, found.grid)), 4), found.products
        (1.0, 6)
    """
    rules = quadrature(operator, steps, probes, **options)
    curve = smooth(rules.nodes, rules.weights, points=points, relative_bandwidth=relative_bandwidth)
    return Density(*curve, rules)


def smooth(nodes: Tensor, weights: Tensor, *, points: int = 1001, relative_bandwidth: float = 0.005) -> Curve:
    """Turns weighted nodes into a curve: each node becomes a Gaussian of its weight.

    The bandwidth is ``relative_bandwidth`` times the range of all nodes of all runs (times their largest
    magnitude where that range vanishes, and times 1 where everything is zero), so that a scaled spectrum
    gives the same picture. The grid reaches five bandwidths beyond the outermost nodes of any run.

    Args:
        nodes: [B, M], or [M] for one run.
        weights: of the same shape, each row summing to 1.
        points: G. At the default bandwidth the default grid has about five points per bandwidth.
        relative_bandwidth: see above.

    Returns:
        the curve, with its standard error over the runs.

    Raises:
        ValueError: nodes and weights don't fit together, or an option is out of range.

    The original LLA takes a variance of 1e-5 max(1, range), which blurs spectra narrower than 0.01 into one
    bump, and a grid up to the mean of the runs' extremes, which cuts off the outer ones.

    Example:
        >>> curve = smooth(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 0.5]]))
        >>> round(curve.bandwidth, 6), round(float(curve.grid[0]), 6), round(float(curve.grid[-1]), 6)
        (0.005, -0.025, 1.025)
    """
    points = positive_int("points", points, least=2)
    relative_bandwidth = finite_number("relative_bandwidth", relative_bandwidth, above=0.0)
    nodes, weights = _rules(nodes, weights)
    low, high, size = float(nodes.min()), float(nodes.max()), float(nodes.abs().max())
    width = high - low if high - low > 1e-9 * size else size or 1.0
    bandwidth = relative_bandwidth * width
    grid = torch.linspace(low - 5 * bandwidth, high + 5 * bandwidth, points, dtype=torch.float64)
    curves = torch.stack([_mixture(grid, *rule, bandwidth) for rule in zip(nodes, weights, strict=True)])
    error = curves.std(0) / math.sqrt(len(curves)) if len(curves) > 1 else torch.full_like(grid, math.nan)
    return Curve(grid, curves.mean(0), error, bandwidth)


def log_density(
    nodes: Tensor, weights: Tensor, *, points: int = 501, decades: float = 0.05, floor: float = 1e-8
) -> LogDensity:
    """Spreads the spectrum over decades of magnitude, each sign by itself: bulk and outliers are both seen.

    Args:
        nodes: [B, M], or [M] for one run.
        weights: of the same shape, each row summing to 1.
        points: G.
        decades: bandwidth in decades.
        floor: nodes below this share of the largest magnitude count as zero.

    Returns:
        the densities, averaged over the runs.

    Raises:
        ValueError: nodes and weights don't fit together, or an option is out of range.

    Example:
        >>> found = log_density(torch.tensor([-0.01, 0.0, 1.0]), torch.tensor([0.25, 0.25, 0.5]))
        >>> area = [float(torch.trapezoid(side, found.grid)) for side in (found.positive, found.negative)]
        >>> [round(a, 4) for a in area], found.zero
        ([0.5, 0.25], 0.25)
    """
    points = positive_int("points", points, least=2)
    decades = finite_number("decades", decades, above=0.0)
    floor = finite_number("floor", floor, above=0.0, most=1)
    nodes, weights = _rules(nodes, weights)
    weights = weights / len(nodes)
    least = floor * float(nodes.abs().max())
    seen = nodes.abs() > least
    spots = nodes[seen].abs().log10()
    ends = (float(spots.min()), float(spots.max())) if len(spots) else (0.0, 0.0)
    grid = torch.linspace(ends[0] - 5 * decades, ends[1] + 5 * decades, points, dtype=torch.float64)
    sides = (seen & (nodes > 0), seen & (nodes < 0))
    positive, negative = (_mixture(grid, nodes[side].abs().log10(), weights[side], decades) for side in sides)
    return LogDensity(grid, positive, negative, float(weights[~seen].sum()), decades)


def _rules(nodes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Checked nodes and weights as float64 [B, M] on the CPU."""
    nodes, weights = numbers_of("nodes", nodes), numbers_of("weights", weights)
    if not bool(nodes.isfinite().all() and weights.isfinite().all()):
        raise ValueError(
            "nodes or weights hold NaN or infinite values; the Lanczos runs they come from have failed"
        )
    nodes, weights = rules(nodes, weights)
    if bool((weights < 0).any()) or not torch.allclose(weights.sum(1), weights.new_ones(()), atol=1e-3):
        raise ValueError(
            "weights has a row that is negative somewhere or does not sum to 1; pass those of a quadrature"
        )
    return nodes, weights


def _mixture(grid: Tensor, nodes: Tensor, weights: Tensor, bandwidth: float) -> Tensor:
    """The sum of Gaussians at ``nodes``, on ``grid``."""
    distance = (grid[:, None] - nodes) / bandwidth
    return (torch.exp(-distance.square() / 2) @ weights) / (bandwidth * math.sqrt(2 * math.pi))
