"""Memory reused: activations and sums written over a value that nobody else reads.

A recorded graph is functional, every operation allocates its result. Where the argument of an activation is a fresh
value with no other reader, writing over it saves the memory and half of the traffic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from lla_func.graph._record import dtype_of, shape_of

aten = torch.ops.aten

IN_PLACE: Mapping[Any, Any] = {
    aten.relu.default: aten.relu_.default,
    aten.tanh.default: aten.tanh_.default,
    aten.sigmoid.default: aten.sigmoid_.default,
    aten.add.Tensor: aten.add_.Tensor,
}
"""Operations element by element, and the form that writes over its first argument."""

INTO: Mapping[Any, Any] = {
    aten.maximum.default: aten.maximum.out,
    aten.addcmul.default: aten.addcmul.out,
}
"""Operations element by element, and the form that writes into any tensor, such as one of its arguments."""


def make_inplace(graph: fx.Graph, *, fresh: int = 0) -> None:
    """Makes operations of :data:`IN_PLACE` and :data:`INTO` write over an argument that nothing else reads.

    Args:
        graph: changed in place.
        fresh: how many of its first inputs may be written over as well.

    Example:
        >>> from lla_func.graph import record
        >>> graph = record(lambda x: (2 * x).relu().sum(), torch.ones(2))
        >>> make_inplace(graph.graph)
        >>> [node.target.__name__ for node in graph.graph.nodes if node.op == "call_function"]
        ['mul.Tensor', 'relu_.default', 'sum.default']
    """
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        if node.target in IN_PLACE and _free(node, node.args[0], inputs[:fresh]):
            node.target = IN_PLACE[node.target]
        elif node.target in INTO:
            free = next((argument for argument in node.args if _free(node, argument, inputs[:fresh])), None)
            if free is not None:
                node.target = INTO[node.target]
                node.kwargs = {**node.kwargs, "out": free}


def _free(node: fx.Node, argument: Any, fresh: list[fx.Node]) -> bool:
    """Whether a node may write its value over one of its arguments."""
    return (
        isinstance(argument, fx.Node)
        and (shape_of(argument), dtype_of(argument)) == (shape_of(node), dtype_of(node))
        and node.args.count(argument) == 1
        and _owned(argument, fresh)
    )


def _owned(node: fx.Node, fresh: list[fx.Node]) -> bool:
    """Whether a value, seen through views, is a fresh one that only one node reads."""
    while len(node.users) == 1:
        if node in fresh:
            return True
        operation = node.target
        if node.op != "call_function" or not isinstance(operation, torch._ops.OpOverload):
            return False
        if operation is aten.expand.default:
            return False
        if not (operation.is_view or operation in (aten.reshape.default, aten.squeeze.dim)):
            return operation.namespace == "aten" and not operation._schema.is_mutable
        (node, *_) = node.all_input_nodes
    return False
