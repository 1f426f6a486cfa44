"""Charts through several models: the line, the chain, the plane and the volume on which they lie, exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lla_func.errors import finite_tensor, names, shown
from lla_func.geometry._chart import Chart
from lla_func.geometry._curves import piecewise_linear

COLLINEAR = 1e-5
"""The sine of the angle below which a model counts as lying in the span of those before it."""

PIECE = 1 << 18
"""Elements that are taken to float64 at once."""

ACROSS = ("", "distance across", "distance from the plane")
"""Labels of the second and the third axis."""


def linear_interpolation(a: Tensor, b: Tensor, *, labels: Sequence[str] = ("a", "b")) -> Chart:
    """The line theta(t) = (1 - t) a + t b through two models; theta(0) is a and theta(1) is b, exactly.

    Its origin is zero and its basis the models themselves, since a + 1 (b - a) is rounded. Beyond [0, 1] the line
    goes on.

    Args:
        a, b: [P], of one dtype and device.
        labels: a name for each, for the chart's :attr:`~lla_func.geometry.Chart.points`.

    Raises:
        ValueError, TypeError: they are no finite vectors alike, or they are equal.

    Source:
        Goodfellow, Vinyals and Saxe, Qualitatively characterizing neural network optimization problems (2015),
        section 2.

    Example:
        >>> from lla_func.geometry import chart
        >>> a, b = torch.tensor([0.1, 0.7]), torch.tensor([0.3, -0.2])
        >>> ends = chart.point(chart.linear_interpolation(a, b), torch.tensor([[0.0], [1.0]]))
        >>> torch.equal(ends, torch.stack([a, b]))
        True
    """
    return polygonal_chain(a, b, labels=labels)._replace(kind="linear interpolation")


def polygonal_chain(*thetas: Tensor, labels: Sequence[str] | None = None) -> Chart:
    """Straight pieces from each model to the next: theta(i) is the ith model, exactly, counted from 0.

    The same points as a curve with t in [0, 1], whatever their number, are :func:`lla_func.chart.chain`.

    Args:
        thetas: two or more models [P].
        labels: a name for each; by default ``a``, ``b``, ...

    Raises:
        ValueError, TypeError: as :func:`linear_interpolation`, of neighbors.

    Example:
        >>> from lla_func.geometry import chart
        >>> chain = chart.polygonal_chain(torch.zeros(1), torch.ones(1), torch.tensor([5.0]))
        >>> chart.point(chain, torch.tensor([[0.5], [1.5]])).tolist()
        [[0.5], [3.0]]
    """
    known = _checked(thetas, labels)
    for first, second in zip(range(len(thetas)), range(1, len(thetas)), strict=False):
        if torch.equal(thetas[first], thetas[second]):
            raise ValueError(
                f"{known[first]!r} and {known[second]!r} are equal, so nothing lies between them"
            )
    pieces = len(thetas) - 1

    def coefficients(coords: Tensor) -> Tensor:
        return piecewise_linear(coords.double(), pieces)

    points = {name: (float(number),) for number, name in enumerate(known)}
    label = "t" if pieces == 1 else "t (" + ", ".join(f"{i}: {name}" for i, name in enumerate(known)) + ")"
    return _through(thetas, coefficients, "polygonal chain", (label,), points)


def planar_interpolation(
    a: Tensor, b: Tensor, c: Tensor, *, labels: Sequence[str] = ("a", "b", "c")
) -> Chart:
    """The plane through three models, with orthonormal axes: coordinates are distances in weight space.

    The first axis goes from a to b, the second across it towards c: a lies at (0, 0), b at (|b - a|, 0), and the
    chart's ``points`` hold the coordinates of all three, at which the chart gives them exactly.

    Args:
        a, b, c: [P], of one dtype and device.
        labels: a name for each.

    Raises:
        ValueError, TypeError: they are no finite vectors alike, or they lie on one line.

    Source:
        Garipov et al., Loss surfaces, mode connectivity, and fast ensembling of DNNs (2018), section 3 and appendix.

    Example:
        >>> from lla_func.geometry import chart
        >>> models = [torch.tensor(x) for x in ([1.0, 0.0, 0.0], [4.0, 0.0, 0.0], [2.0, 2.0, 0.0])]
        >>> chart.planar_interpolation(*models).points
        {'a': (0.0, 0.0), 'b': (3.0, 0.0), 'c': (1.0, 2.0)}
    """
    return _affine_hull((a, b, c), labels, "planar interpolation")


def spatial_interpolation(
    a: Tensor, b: Tensor, c: Tensor, d: Tensor, *, labels: Sequence[str] = ("a", "b", "c", "d")
) -> Chart:
    """The volume through four models, with orthonormal axes, as :func:`planar_interpolation` is for three.

    Args:
        a, b, c, d: [P], of one dtype and device.
        labels: a name for each.

    Raises:
        ValueError, TypeError: they are no finite vectors alike, or they lie in one plane.

    Example:
        >>> from lla_func.geometry import chart
        >>> chart.spatial_interpolation(torch.zeros(3), *torch.eye(3)).dim
        3
    """
    return _affine_hull((a, b, c, d), labels, "spatial interpolation")


def _affine_hull(thetas: Sequence[Tensor], labels: Sequence[str], kind: str) -> Chart:
    """The chart through K + 1 models by K orthonormal axes, the first ones from the first model on."""
    known = _checked(thetas, labels)
    places = _triangular(thetas, known)
    count = len(places)

    def coefficients(coords: Tensor) -> Tensor:
        # Back substitution. At a model all shares are 0 or 1 exactly: x / x is 1, and x - 1 x is 0.
        left = [coords[:, j].double() for j in range(count)]
        shares: list[Tensor] = []
        for i in reversed(range(count)):
            share = left[i] / places[i][i]
            left = [rest - share * places[i][j] for j, rest in enumerate(left)]
            shares.insert(0, share)
        first = 1 - torch.stack(shares).sum(0)
        return torch.stack([first, *shares], dim=1)

    rows = [(0.0,) * count, *(tuple(place) for place in places)]
    axes = (f"distance along {known[0]} to {known[1]}", *ACROSS[1:count])
    return _through(thetas, coefficients, kind, axes, dict(zip(known, rows, strict=True)))


def _triangular(thetas: Sequence[Tensor], known: Sequence[str]) -> list[list[float]]:
    """The coordinates [K][K] of all models but the first: the Cholesky factor of their differences' Gram matrix."""
    count = len(thetas) - 1
    gram = torch.zeros(count, count, dtype=torch.float64)
    for parts in zip(*(theta.split(PIECE) for theta in thetas), strict=True):
        first, *others = (part.to("cpu", torch.float64) for part in parts)
        differences = torch.stack([other - first for other in others])
        gram += differences @ differences.T
    places = [[0.0] * count for _ in range(count)]
    for i in range(count):
        for j in range(i):
            rest = float(gram[i, j]) - sum(places[i][k] * places[j][k] for k in range(j))
            places[i][j] = rest / places[j][j]
        length = float(gram[i, i])
        rest = length - sum(places[i][k] ** 2 for k in range(i))
        if not rest > COLLINEAR**2 * length:
            raise ValueError(_degenerate(known, i + 1))
        places[i][i] = math.sqrt(rest)
    return places


def _degenerate(known: Sequence[str], index: int) -> str:
    if index == 1:
        return f"{known[0]!r} and {known[1]!r} are equal, so nothing lies between them"
    span = {2: "on the line", 3: "in the plane"}[index]
    others = ", ".join(repr(name) for name in known[:index])
    return f"{known[index]!r} lies {span} through {others}; draw them as a polygonal chain, or leave one out"


def _through(
    thetas: Sequence[Tensor],
    coefficients: Callable[[Tensor], Tensor],
    kind: str,
    labels: tuple[str, ...],
    points: Mapping[str, tuple[float, ...]],
) -> Chart:
    """The chart whose basis is the models: with the origin zero, one of them alone is summed without rounding."""
    return Chart(
        origin=torch.zeros_like(thetas[0]),
        basis=torch.stack(list(thetas)),
        coefficients=coefficients,
        dim=len(labels),
        kind=kind,
        labels=labels,
        center=None,
        points=points,
    )


def _checked(thetas: Sequence[Tensor], labels: Sequence[str] | None) -> tuple[str, ...]:
    """The names of the models, if these are finite vectors alike."""
    if len(thetas) < 2:
        raise ValueError(f"there are {len(thetas)} models; pass two or more")
    if labels is None:
        labels = [chr(ord("a") + i) if len(thetas) <= 26 else f"model {i + 1}" for i in range(len(thetas))]
    known = names("labels", labels)
    if len(known) != len(thetas) or len(set(known)) != len(known):
        raise ValueError(f"labels={shown(labels)} does not name {len(thetas)} models; pass one name for each")
    for name, theta in zip(known, thetas, strict=True):
        finite_tensor(name, theta, ("P",))
        for what in ("shape", "dtype", "device"):
            if getattr(theta, what) != getattr(thetas[0], what):
                raise ValueError(
                    f"{name} has {what} {getattr(theta, what)}, {known[0]} has {getattr(thetas[0], what)}; "
                    "all must be alike"
                )
    return known
