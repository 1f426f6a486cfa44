"""Curvature over a plane: the Hessian's extreme eigenvalues at Chebyshev nodes, interpolated to a surface's points.

Li et al. 2018 (Visualizing the Loss Landscape of Neural Nets, section 6) color a plane by |lambda_min / lambda_max| to
see whether what looks convex is: a plane shows two of the P dimensions, the Hessian knows all. They compute it at every
point. Here it is computed at a few nodes, each warm-started from the eigenvectors of its neighbor, and interpolated by
the polynomial through the nodes (:mod:`lla_func.landscape`), whose error is estimated and kept.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lla_func import hessian as products
from lla_func._torch import raise_if_interrupted
from lla_func.errors import finite_number, flag, instance, one_of, positive_int
from lla_func.geometry import Chart, mesh_axes
from lla_func.geometry import chart as charts
from lla_func.landscape import Landscape, interpolate, nodes
from lla_func.objective import Objective
from lla_func.spectrum import criteria, eigenpairs

NAMES = ("largest eigenvalue", "smallest eigenvalue", "r_e")
"""What the map adds to a landscape."""

FINEST = 64


def curvature_map(
    objective: Objective,
    chart: Chart,
    landscape: Landscape,
    *,
    degree: int = 8,
    tol: float = 1e-2,
    max_iter: int = 300,
    curvature: str = "hessian",
    kernel: str = "auto",
    parameters: str | Iterable[str] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Landscape:
    """The largest and the smallest eigenvalue of the Hessian, and their ratio r_e, at the points of a landscape.

    Args:
        objective, chart: what was evaluated, and where.
        landscape: on a mesh of the chart's coordinates.
        degree: of the polynomials, from 2 to 64; (degree + 1)^C Hessians are looked at, as many as the mesh has points
            at most.
        tol: the largest residual of eigenpairs, relative to the largest eigenvalue.
        max_iter: the most Hessian products at a node.
        curvature: ``"hessian"``, ``"ggn"`` or ``"fisher"``.
        kernel: how Hessian products are formed (:func:`lla_func.hessian.hessian`).
        parameters: name patterns of the parameters to restrict the Hessian to; all by default.
        seed: of the random vectors.
        progress: whether to show a progress bar.

    Returns:
        the landscape with three more metrics, ``"largest eigenvalue"``, ``"smallest eigenvalue"`` and ``"r_e"``, their
        ratio in magnitude (:func:`lla_func.criteria.r_e`): near 0 where the loss is convex or nearly so. Its
        ``diagnostics["curvature"]`` has the ``nodes`` with their ``eigenvalues`` and ``residuals``, the ``products``
        spent, and the estimated ``error`` of interpolating either eigenvalue: the largest change that the last two
        degrees made. Where the largest eigenvalue changes its eigenvector it has a kink, which no polynomial follows.

    Raises:
        ValueError, TypeError: the landscape is not a mesh, the objective has no Hessian, or an option is wrong.

    Warns:
        RuntimeWarning: eigenpairs at some nodes did not reach ``tol``.

    Source: Li et al. 2018, section 6 (arXiv 1712.09913).

    Example:
        >>> from lla_func import chart, evaluate, from_loss
        >>> curve = from_loss(lambda x, _: (x**4).sum() + x[0] ** 2, torch.zeros(2).double())
        >>> line = chart.line(curve.theta, torch.tensor([1.0, 0.0]).double())
        >>> land = evaluate(curve, line, torch.linspace(-1, 1, 21)[:, None])
        >>> found = curvature_map(curve, line, land, degree=4).metrics["largest eigenvalue"]
        >>> [round(float(found[i]), 6) for i in (0, 10, 20)]  # 12 x^2 + 2
        [14.0, 2.0, 14.0]
    """
    instance("objective", objective, Objective, "an Objective, such as metric.objective(model)")
    instance("chart", chart, Chart, "a Chart, such as chart.plane(theta, first, second)")
    instance("landscape", landscape, Landscape, "the Landscape that evaluate gave on this chart")
    degree = positive_int("degree", degree, least=2, most=FINEST)
    tol, max_iter = finite_number("tol", tol, above=0.0), positive_int("max_iter", max_iter, least=4)
    one_of("curvature", curvature, ("hessian", "ggn", "fisher"))
    flag("progress", progress)
    if curvature != "hessian" and kernel != "auto":
        raise ValueError(f"kernel={kernel!r} is for curvature='hessian'; {curvature!r} has only one way")
    axes = mesh_axes(landscape.coords)
    if len(axes) != chart.dim:
        raise ValueError(f"landscape has {len(axes)} coordinates, the chart {chart.dim}")
    if len(objective.theta) < 2:
        raise ValueError("theta has one element, so its Hessian has one eigenvalue; at least two are needed")

    start = time.perf_counter()
    sites = [nodes(degree, float(a[0]), float(a[-1])) if len(a) > degree + 1 else a for a in axes]
    shape = [len(site) for site in sites]
    values = torch.empty(*shape, 2, dtype=torch.float64)
    residuals = torch.empty(*shape, 2, dtype=torch.float64)
    spent, missed, vectors = 0, 0, None
    for place in tqdm(list(_snake(sites)), unit="node", disable=not progress, leave=False):
        raise_if_interrupted()
        coords = torch.stack([site[i] for site, i in zip(sites, place, strict=True)])[None]
        theta = charts.point(chart, coords)[0]
        options: dict[str, Any] = {"kernel": kernel} if curvature == "hessian" else {}
        options |= {} if parameters is None else {"parameters": parameters}
        operator = getattr(products, curvature)(
            objective._replace(theta=theta), probe=vectors is None, **options
        )
        pairs = eigenpairs(operator, 2, which="both", tol=tol, max_iter=max_iter, start=vectors, seed=seed)
        values[place], residuals[place] = pairs.values, pairs.residuals
        vectors = pairs.vectors
        spent += pairs.products
        missed += not pairs.converged
    if missed:
        warnings.warn(
            f"at {missed} of {values[..., 0].numel()} nodes the eigenpairs did not reach tol={tol:g} in {max_iter} "
            f"products; residuals are up to {float(residuals.max()):.2g}. Raise max_iter or tol",
            RuntimeWarning,
            stacklevel=2,
        )
    found = interpolate(values, sites, axes).reshape(-1, 2)
    table = {
        "nodes": torch.cartesian_prod(*sites).reshape(-1, len(sites)).tolist(),
        "eigenvalues": values.reshape(-1, 2).tolist(),
        "residuals": residuals.reshape(-1, 2).tolist(),
        "products": spent,
        "missed": missed,
        "degree": degree,
        "error": _change(values, sites, axes, found),
        "seconds": time.perf_counter() - start,
    }
    ratio = (
        criteria.r_e(found).runs if bool(found.isfinite().all()) else found[:, 1].abs() / found[:, 0].abs()
    )
    more = dict(zip(NAMES, (found[:, 0], found[:, 1], ratio), strict=True))
    return landscape._replace(
        metrics={**landscape.metrics, **more}, diagnostics={**landscape.diagnostics, "curvature": table}
    )


def _snake(sites: Sequence[Tensor]) -> Iterator[tuple[int, ...]]:
    """The places of a mesh of unsorted sites in an order in which each is a neighbor of the one before.

    Example:
        >>> list(_snake([torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0, 1.0])]))
        [(0, 0), (0, 2), (0, 1), (1, 1), (1, 2), (1, 0)]
    """
    if not sites:
        yield ()
        return
    forward = True
    for i in sites[0].argsort().tolist():
        rest = list(_snake(sites[1:]))
        for place in rest if forward else reversed(rest):
            yield (i, *place)
        forward = not forward


def _change(values: Tensor, sites: Sequence[Tensor], axes: Sequence[Tensor], found: Tensor) -> list[float]:
    """How much the last two degrees changed either eigenvalue at the points, [2]: nodes are nested in their order."""
    fewer = [slice(0, len(site) - 2 if len(site) > 4 else len(site)) for site in sites]
    before = interpolate(values[tuple(fewer)], [s[f] for s, f in zip(sites, fewer, strict=True)], axes)
    return (before.reshape(-1, 2) - found).abs().amax(0).tolist()
