"""Chart: a surface in weight space, theta(c) = origin + coefficients(c) @ basis."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from lla_func._torch import inner, without_autocast
from lla_func.errors import finite_tensor, flag, instance, names, shown


class Chart(NamedTuple):
    """Coordinates for a part of weight space.

    Attributes:
        origin: theta where all coefficients vanish, [P].
        basis: directions of weight space, [K, P].
        coefficients: maps coordinates [N, C] to coefficients [N, K] of the basis.
        dim: C, the number of coordinates.
        kind: the chart's name, for results and plots.
        labels: a name for each coordinate axis.
        center: the coordinates of the point of interest, where the origin is reached; None where there is none.
        points: coordinates [C] of what lies on the chart by its name, such as the models that it goes through.
    """

    origin: Tensor
    basis: Tensor
    coefficients: Callable[[Tensor], Tensor]
    dim: int
    kind: str
    labels: tuple[str, ...]
    center: tuple[float, ...] | None
    points: Mapping[str, tuple[float, ...]] = {}


def line(origin: Tensor, direction: Tensor) -> Chart:
    """The line origin + a direction; origin and direction [P]."""
    return span(origin, direction, kind="line")


def plane(origin: Tensor, first: Tensor, second: Tensor) -> Chart:
    """The plane origin + a first + b second; all three [P].

    Example:
        >>> chart = plane(torch.zeros(3), torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))
        >>> point(chart, torch.tensor([[2.0, 3.0]]))
        tensor([[2., 3., 0.]])
    """
    return span(origin, first, second, kind="plane")


def volume(origin: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Chart:
    """The volume origin + a first + b second + c third; all four [P]."""
    return span(origin, first, second, third, kind="volume")


def span(
    origin: Tensor, *directions: Tensor, kind: str = "span", labels: Sequence[str] | None = None
) -> Chart:
    """The affine chart with one coordinate for each direction: the update rule ``add`` of LLA.

    Args:
        origin: [P].
        directions: one or more vectors [P] of the origin's dtype and device.
        kind: a name for results.
        labels: a name for each axis; by default ``direction 1``, ``direction 2``, ...

    Raises:
        ValueError: a direction has another shape, dtype or device than the origin, or is not finite.
    """
    if not directions:
        raise ValueError("directions is empty; a chart needs at least one")
    finite_tensor("origin", origin, ("P",))
    for number, direction in enumerate(directions, start=1):
        instance(f"direction {number}", direction, Tensor, "a tensor [P]")
        for what in ("shape", "dtype", "device"):
            if getattr(direction, what) != getattr(origin, what):
                raise ValueError(
                    f"direction {number} has {what} {getattr(direction, what)}, the origin has {getattr(origin, what)}"
                )
        finite_tensor(f"direction {number}", direction)
    count = len(directions)
    if labels is not None and len(names("labels", labels)) != count:
        raise ValueError(f"labels={shown(labels)} does not name {count} directions; pass one label for each")
    return Chart(
        origin=origin,
        basis=torch.stack(directions),
        coefficients=lambda coords: coords,
        dim=count,
        kind=kind,
        labels=tuple(labels) if labels is not None else tuple(f"direction {i + 1}" for i in range(count)),
        center=(0.0,) * count,
    )


def adameq(origin: Tensor, step: Tensor, *, b_sqrt: bool = True) -> Chart:
    """The update rule ``adameq`` of LLA: Adam's own update with scaled moments.

    With bias-corrected moments m and v, learning rate lr and eps, Adam's step is s = -lr m / (sqrt(v) + eps)
    (Kingma and Ba 2015, algorithm 1). Scaling m by the first coordinate a and v by the second, b, gives

        theta(a, b) = origin + a / sqrt(b) s        (a / b with ``b_sqrt=False``)

    so a = 0 is the trained point, (a, b) = (1, 1) repeats the last step that Adam took, and a < 0 goes back along it,
    with (-1, 1) where Adam came from. Since b only divides a, the surface is a curve drawn in two coordinates: it
    collapses to one dimension everywhere, constant along a / sqrt(b) = const, and b >> 1 magnifies the neighborhood
    of a = 0.

    The scale b is applied to sqrt(v) + eps as a whole, which is what keeps the family exactly one-dimensional;
    scaling v alone would differ where sqrt(v) is as small as eps. The original takes the raw moments without bias
    correction, its own eps of 1e-6, a step of length one for lr, and the opposite sign of Adam's.

    Args:
        origin: the trained point, [P].
        step: Adam's step s, [P] (:func:`lla_func.geometry.adam_step`).
        b_sqrt: whether b scales the second moment (True) or its square root (False).
    """
    flag("b_sqrt", b_sqrt)
    affine = line(origin, step)

    def coefficients(coords: Tensor) -> Tensor:
        a, b = coords[:, :1], coords[:, 1:]
        if not (b > 0).all():
            raise ValueError(
                f"adameq needs b > 0 since it divides by it; the smallest b is {float(b.min()):g}"
            )
        return a / b.sqrt() if b_sqrt else a / b

    return affine._replace(
        coefficients=coefficients,
        dim=2,
        kind="adameq",
        labels=("a (scale of the first moment)", "b (scale of the second moment)"),
        center=(0.0, 1.0),
    )


def point(chart: Chart, coords: Tensor) -> Tensor:
    """The parameter vectors [N, P] at coordinates [N, C]."""
    instance("chart", chart, Chart, "a Chart, such as chart.plane(theta, first, second)")
    finite_tensor("coords", coords, ("N", chart.dim), floating=False)
    coefficients = chart.coefficients(coords).to(chart.basis)
    with without_autocast():  # which would round theta
        return torch.addmm(chart.origin, coefficients, chart.basis)


def mesh(*axes: Tensor) -> Tensor:
    """All combinations of values along C axes, [N, C] float64; the last axis varies fastest.

    Example:
        >>> mesh(torch.tensor([0.0, 1.0]), torch.tensor([5.0, 6.0])).tolist()
        [[0.0, 5.0], [0.0, 6.0], [1.0, 5.0], [1.0, 6.0]]
    """
    if not axes:
        raise ValueError("axes is empty; pass the values along at least one axis")
    for number, axis in enumerate(axes, start=1):
        if len(finite_tensor(f"axis {number}", axis, ("N",), floating=False)) == 0:
            raise ValueError(f"axis {number} is empty; pass at least one value")
    grids = torch.meshgrid(*(axis.to("cpu", torch.float64) for axis in axes), indexing="ij")
    return rearrange(list(grids), "coordinate ... -> (...) coordinate")


def mesh_axes(coords: Tensor) -> tuple[Tensor, ...]:
    """The C sorted axes whose :func:`mesh` the coordinates [N, C] are.

    Raises:
        ValueError: they are not a full mesh in the order of :func:`mesh`.
    """
    finite_tensor("coords", coords, ("N", "C"), floating=False)
    columns = tuple(torch.unique(column) for column in coords.T)
    sizes = [len(column) for column in columns]
    if torch.Size(sizes).numel() == len(coords) and torch.equal(mesh(*columns), coords):
        return columns
    raise ValueError(
        f"coords [{len(coords)}, {len(columns)}] is not a mesh of {sizes} values; use chart.mesh"
    )


def summary(chart: Chart) -> dict[str, Any]:
    """What results keep of a chart: its kind and axes, the basis vectors' norms and the angles between them.

    Returns:
        A dict of plain numbers and strings: ``kind``, ``labels``, ``center``, ``norms`` (K L2 norms) and ``angles``
        (degrees between each pair of basis vectors, in the order 12, 13, 23; NaN where one is zero), and ``points``.
    """
    instance("chart", chart, Chart, "a Chart, such as chart.plane(theta, first, second)")
    norms = [inner(vector, vector).sqrt() for vector in chart.basis]
    pairs = itertools.combinations(zip(chart.basis, norms, strict=True), 2)
    cosines = [float((inner(v, w) / (length * other)).clamp(-1, 1)) for (v, length), (w, other) in pairs]
    return {
        "kind": chart.kind,
        "labels": list(chart.labels),
        "center": None if chart.center is None else list(chart.center),
        "norms": [float(norm) for norm in norms],
        "angles": torch.tensor(cosines, dtype=torch.float64).arccos().rad2deg().tolist(),
        "points": {name: list(place) for name, place in chart.points.items()},
    }
