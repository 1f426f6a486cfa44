"""Cheaper matrix products with the same value: a bias added within, and one product where a batch shares a matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from lla_func.graph._record import arguments, shape_of

aten = torch.ops.aten

_RESHAPES = (aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.expand.default)


def add_in_product(graph: fx.Graph) -> None:
    """A bias that is added to a matrix product becomes part of the product."""
    for add in graph.find_nodes(op="call_function", target=aten.add.Tensor):
        rows, bias = arguments(add)
        if add.kwargs or not isinstance(rows, fx.Node) or not isinstance(bias, fx.Node):
            continue
        shape = shape_of(rows) or ()
        product: fx.Node = _source(rows, 2) if rows.target in _RESHAPES else rows
        if product.target is not aten.mm.default or _reader(product) != add:
            continue
        if (
            len(shape_of(bias) or ()) != 1
            or shape_of(bias) != shape[-1:]
            or (shape_of(product) or ())[1:] != shape[-1:]
        ):
            continue
        with graph.inserting_before(add):
            fused = graph.call_function(aten.addmm.default, (bias, *arguments(product)))
            result = graph.call_function(aten.reshape.default, (fused, list(shape)))
        add.replace_all_uses_with(result)


def share_matrix(graph: fx.Graph) -> None:
    """A batched product whose right factor is one matrix for the whole batch becomes a single product."""
    for product in graph.find_nodes(op="call_function", target=aten.bmm.default):
        left, right = arguments(product)
        matrix = _source(right, 2)
        if len(shape_of(matrix) or ()) != 2 or shape_of(matrix) != (shape_of(right) or ())[1:]:
            continue
        batch, rows, inner = shape_of(left) or ()
        with graph.inserting_before(product):
            flat = graph.call_function(aten.reshape.default, (left, [batch * rows, inner]))
            flat = graph.call_function(aten.mm.default, (flat, matrix))
            result = graph.call_function(aten.reshape.default, (flat, list(shape_of(product) or ())))
        product.replace_all_uses_with(result)


def _source(node: Any, axes: int) -> fx.Node:
    """The nearest node before reshapes that has this many axes, seen through expansions that change nothing."""
    while node.target in _RESHAPES and len(shape_of(node) or ()) != axes:
        node = arguments(node)[0]
    while node.target is aten.expand.default and shape_of(node) == shape_of(arguments(node)[0]):
        node = arguments(node)[0]
    return node


def _reader(node: fx.Node) -> fx.Node | None:
    """The one node that reads this one, seen through reshapes; None if there are several."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        if node.target not in _RESHAPES:
            return node
    return None
