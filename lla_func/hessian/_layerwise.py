"""The Hessian layer by layer: a table of each layer's own curvature."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lla_func.errors import names, positive_int
from lla_func.hessian import _products as products
from lla_func.hessian._exact import estimate, exact_shares
from lla_func.hessian._split import piecewise
from lla_func.objective import Layout, Objective, check
from lla_func.spectrum import Estimate, analyse


class LayerCurvature(NamedTuple):
    """The Hessian restricted to one layer's parameters, a diagonal block of the whole.

    Attributes:
        layer: the name, or pattern, of the layer.
        parameters: how many it has.
        largest: the largest eigenvalue of the block.
        smallest: the smallest.
        residual: the larger of the two residual norms, within which both are exact.
        trace: the trace of the block, with its standard error. The traces of all layers add up to the model's. Exact
            where the loss is piecewise affine in each single parameter (:mod:`lla_func.graph._piecewise`).
        products: matrix-vector products spent, each only as dear as the layer.
    """

    layer: str
    parameters: int
    largest: float
    smallest: float
    residual: float
    trace: Estimate
    products: int


def layerwise(
    objective: Objective,
    layers: Iterable[str] | None = None,
    *,
    tol: float = 1e-2,
    max_products: int = 100,
    seed: int = 0,
) -> list[LayerCurvature]:
    """The extreme eigenvalues and the trace of each layer's block of the Hessian.

    Args:
        objective: the loss.
        layers: name patterns, one row for each; by default every module that has parameters (:func:`layers_of`).
        tol: relative residual of the eigenvalues, and relative standard error of the trace.
        max_products: the most products for each of the two, in each layer.
        seed: of the random vectors.

    Example:
        >>> import torch
        >>> from lla_func import from_loss
        >>> def loss(p, _):
        ...     return (p["a.weight"] ** 2).sum() - 3 * (p["b.weight"] ** 2).sum()
        >>> rows = layerwise(from_loss(loss, {"a.weight": torch.zeros(2), "b.weight": torch.zeros(3)}))
        >>> [(row.layer, round(row.largest, 3), round(row.trace.value, 3)) for row in rows]
        [('a', 2.0, 4.0), ('b', -6.0, -18.0)]
    """
    check(objective)
    max_products = positive_int("max_products", max_products)
    blocks = layers_of(objective.layout)
    if layers is not None:
        blocks = {layer: (layer,) for layer in names("layers", layers)}
    for patterns in blocks.values():
        objective.layout.matching(patterns, name="layers")
    exact = exact_shares(objective, piecewise).shares
    rows = []
    for layer, patterns in blocks.items():
        operator = products.hessian(objective, parameters=patterns)
        found = analyse(
            operator,
            top_n=min(2, operator.dim),
            which="both",
            eigs_tol=tol,
            eigs_products=max_products,
            trace_products=0 if exact is not None else max_products,
            trace_tol=tol,
            seed=seed,
        )
        assert found.eigenpairs is not None
        trace = found.trace
        if exact is not None:
            trace = estimate(exact, objective.layout.matching(patterns))
        assert trace is not None
        values, spent = found.eigenpairs.values, sum(found.products.values())
        ends = float(values.max()), float(values.min()), float(found.eigenpairs.residuals.max())
        rows.append(LayerCurvature(layer, operator.dim, *ends, trace, spent))
    return rows


def layers_of(layout: Layout) -> dict[str, tuple[str, ...]]:
    """The parameters that each module owns itself, by its name; those without a module stand for themselves.

    Example:
        >>> import torch
        >>> layers_of(Layout.of({name: torch.zeros(1) for name in ("conv.weight", "conv.bias", "scale")}))
        {'conv': ('conv.weight', 'conv.bias'), 'scale': ('scale',)}
    """
    layers: dict[str, tuple[str, ...]] = {}
    for name in layout.names:
        owner = name.rpartition(".")[0] or name
        layers[owner] = (*layers.get(owner, ()), name)
    return layers


def table(rows: Iterable[LayerCurvature]) -> str:
    """The rows as a table in plain text (also valid Markdown)."""
    lines = [
        "| layer | parameters | largest eigenvalue | smallest eigenvalue | trace | products |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        trace = f"{row.trace.value:.4g} ± {row.trace.standard_error:.1g}"
        numbers = f"{row.largest:.4g} | {row.smallest:.4g} | {trace} | {row.products}"
        lines.append(f"| {row.layer} | {row.parameters} | {numbers} |")
    return "\n".join(lines)
