"""Curves with one coordinate: Bezier curves and polygonal chains, theta(t) = coefficients(t) @ control points."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lla_func.errors import finite_tensor
from lla_func.geometry._chart import Chart, plane


def bezier(points: Tensor) -> Chart:
    """The Bezier curve of control points, as a chart with the coordinate t in [0, 1].

    Args:
        points: control points, [K, P]. The first and the last are the curve's ends, bit for bit; K = 2 is a line,
            K = 3 the quadratic curve with one bend.

    Raises:
        ValueError: there are fewer than two points, or one is not finite.

    Source:
        Garipov et al., Loss surfaces, mode connectivity, and fast ensembling of DNNs (2018), section 3.2.

    Example:
        >>> from lla_func.geometry import chart
        >>> curve = bezier(torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 0.0]]))
        >>> chart.point(curve, torch.tensor([[0.0], [0.5], [1.0]]))
        tensor([[0., 0.],
                [1., 1.],
                [2., 0.]])
    """
    count = _counted(points)
    binomials = torch.tensor([math.comb(count - 1, k) for k in range(count)], dtype=torch.float64)
    powers = torch.arange(count, dtype=torch.float64)

    def coefficients(coords: Tensor) -> Tensor:
        t = coords.to("cpu", torch.float64)
        return (binomials * t**powers * (1 - t) ** powers.flip(0)).to(coords.device)

    return Chart(torch.zeros_like(points[0]), points, coefficients, 1, "bezier", ("t",), None)


def chain(points: Tensor) -> Chart:
    """The polygonal chain through points, as a chart with the coordinate t in [0, 1], equal shares for the segments.

    Args:
        points: [K, P]. All are on the chain, the first and the last bit for bit; K = 2 is the straight line between
            two points. Beyond its ends a chain goes on straight. The same chain with whole numbers at its points is
            :func:`lla_func.chart.polygonal_chain`.

    Raises:
        ValueError: there are fewer than two points, or one is not finite.

    Example:
        >>> chain(torch.eye(3)).coefficients(torch.tensor([[0.0], [0.25], [1.0]]))
        tensor([[1.0000, 0.0000, 0.0000],
                [0.5000, 0.5000, 0.0000],
                [0.0000, 0.0000, 1.0000]], dtype=torch.float64)
    """
    segments = _counted(points) - 1

    def coefficients(coords: Tensor) -> Tensor:
        return piecewise_linear(coords.to("cpu", torch.float64) * segments, segments).to(coords.device)

    return Chart(torch.zeros_like(points[0]), points, coefficients, 1, "chain", ("t",), None)


def piecewise_linear(along: Tensor, segments: int) -> Tensor:
    """The coefficients [N, segments + 1] of a chain's points at places [N, 1], the ith point at i, in their dtype.

    At a point its coefficient is 1 and all others are 0, exactly, so that a chain goes through its points bit for bit.

    Example:
        >>> piecewise_linear(torch.tensor([[1.0], [1.25], [3.0]]), 2)
        tensor([[ 0.0000,  1.0000,  0.0000],
                [ 0.0000,  0.7500,  0.2500],
                [ 0.0000, -1.0000,  2.0000]])
    """
    first = along.floor().clamp(0, segments - 1)
    share = along - first
    found = along.new_zeros(len(along), segments + 1)
    found.scatter_(1, first.long(), 1 - share)
    return found.scatter_(1, first.long() + 1, share)


CURVES = {"bezier": bezier, "chain": chain}
"""The curves through or along given points, by name."""


class CurvePlane(NamedTuple):
    """The plane that shows most of a curve, and the curve on it.

    Attributes:
        chart: the plane: (0, 0) is the curve's first end, (1, 0) its last, and both axes have the same length.
        marks: the coordinates of the control points, [K, 2] float64.
        path: the coordinates of points along the curve, [N, 2] float64.
        distances: how far these are from the plane, [N] float64; zero to rounding where all control points lie on it.
    """

    chart: Chart
    marks: Tensor
    path: Tensor
    distances: Tensor


def plane_of(curve: Chart, t: Tensor) -> CurvePlane:
    """The plane through both ends of a curve and, as nearly as there is one, its other control points.

    Args:
        curve: a :func:`bezier` curve or a :func:`chain`.
        t: where along the curve its points are marked, [N].

    Raises:
        ValueError: the curve is straight, or its ends are the same, so that no plane is distinguished.

    Source:
        Garipov et al. (2018), appendix A.1, for three control points; of more, the principal axis of what is left.
    """
    points = curve.basis
    relative = points.double() - points[0].double()
    chord = relative[-1]
    length = float(chord.norm())
    if not length:
        raise ValueError("the curve ends where it begins, so there is no plane through both ends")
    inner = relative[1:-1]
    rest = inner - torch.outer(inner @ chord / length**2, chord)
    size = float(rest.norm())
    if size <= 4 * torch.finfo(points.dtype).eps * float(points.double().norm()):
        raise ValueError("the curve is straight, so there is no plane that it lies on")
    weights = torch.linalg.eigh(rest @ rest.T).eigenvectors[:, -1]  # the Gram matrix: no P x P
    across = weights @ rest
    across = across * (float((inner @ across).sum().sign()) or 1.0) * (length / float(across.norm()))
    axes = torch.stack([chord, across])

    def coordinates(coefficients: Tensor) -> tuple[Tensor, Tensor]:
        offsets = coefficients @ relative
        found = offsets @ axes.T / length**2
        return found, (offsets - found @ axes).norm(dim=1)

    marks, _ = coordinates(torch.eye(len(points), dtype=torch.float64))
    path, distances = coordinates(curve.coefficients(t.to("cpu", torch.float64)[:, None]))
    chart = plane(points[0], chord.to(points), across.to(points))
    return CurvePlane(chart._replace(labels=("along the chord", "across")), marks, path, distances)


def _counted(points: Tensor) -> int:
    """How many control points there are, if they can be those of a curve."""
    finite_tensor("points", points, ("K", "P"))
    if len(points) < 2:
        raise ValueError(f"points has shape {list(points.shape)}; a curve needs at least two points [K, P]")
    return len(points)
