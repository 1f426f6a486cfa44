"""The loss as a graph: what it computes from theta and a batch, recorded once as pure tensor operations.

A graph can be taken apart (what doesn't depend on theta, what is affine in it) and its operations exchanged for cheaper
equal ones. It is only right for what a recording can hold: the same operations for all weights and all data. Whatever a
recording would bake in wrongly raises :class:`TraceError` here instead.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.passes.shape_prop import ShapeProp
from torch.utils import _pytree as pytree

from lla_func.objective import Batch, Loss

__all__ = ["TraceError", "arguments", "elements", "itemsize", "shape_of", "signature", "tensors", "trace"]


class TraceError(ValueError):
    """The loss does something that a recorded graph can not repeat faithfully."""


def trace(loss: Loss, theta: Tensor, batch: Batch) -> fx.GraphModule:
    """Records ``loss(theta, batch)`` as a graph of functional aten operations.

    In-place operations become out-of-place ones. The graph's first input is theta, the others are the batch's tensors
    in the order of :func:`tensors`; all other leaves of the batch and all shapes are baked in (:func:`signature`).

    Args:
        loss: maps theta [P] and a batch to a scalar.
        theta: an example, [P].
        batch: an example; the graph serves all batches of the same signature.

    Returns:
        the graph; each node's ``meta["tensor_meta"]`` holds shape and dtype.

    Raises:
        TraceError: the loss draws random numbers, branches on values, or writes to tensors that outlive it.

    Example:
        >>> graph = trace(lambda theta, batch: (batch @ theta).relu_().sum(), torch.ones(2), torch.ones(3, 2))
        >>> [node.target.__name__ for node in graph.graph.nodes if node.op == "call_function"]
        ['mv.default', 'relu.default', 'sum.default']
    """
    with torch.no_grad():
        loss(theta, batch)  # what a model remembers of its first pass must not come from the recording
    leaves, spec = pytree.tree_flatten(batch)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def flat(theta: Tensor, *values: Tensor) -> Tensor:
        filled = list(leaves)
        for place, value in zip(places, values, strict=True):
            filled[place] = value
        return loss(theta, pytree.tree_unflatten(filled, spec))

    inputs = (theta, *tensors(batch))
    with torch.no_grad():
        try:
            graph = make_fx(torch.func.functionalize(flat, remove="mutations"))(*inputs)
        except RuntimeError as error:
            if "data-dependent" in str(error) or "item()" in str(error):
                raise TraceError("it branches on values or reads them out with item()") from error
            raise
        _refuse(graph)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        ShapeProp(graph).propagate(*inputs)
    return graph


def tensors(batch: Batch) -> tuple[Tensor, ...]:
    """The tensors of a batch, in a fixed order."""
    return tuple(leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor))


def signature(batch: Batch) -> Hashable:
    """What two batches must share to share a graph: structure, shapes, dtypes and all leaves that aren't tensors."""
    leaves, spec = pytree.tree_flatten(batch)
    described = (
        (tuple(leaf.shape), leaf.dtype) if isinstance(leaf, Tensor) else repr(leaf) for leaf in leaves
    )
    return (str(spec), *described)


def shape_of(node: fx.Node) -> tuple[int, ...] | None:
    """The shape of a node's value, or None if it isn't one tensor."""
    meta = node.meta.get("tensor_meta")
    return tuple(meta.shape) if meta is not None and hasattr(meta, "shape") else None


def elements(node: fx.Node) -> int:
    """The number of elements of a node's value, 0 if it isn't one tensor."""
    shape = shape_of(node)
    return torch.Size(shape).numel() if shape is not None else 0


def itemsize(node: fx.Node) -> int:
    """The bytes of one element of a node's value."""
    meta = node.meta.get("tensor_meta")
    return meta.dtype.itemsize if meta is not None and hasattr(meta, "dtype") else 0


def arguments(node: fx.Node) -> tuple[Any, ...]:
    """The positional arguments of a node, of any type."""
    return node.args


def _refuse(graph: fx.GraphModule) -> None:
    """Raises if the graph holds what it would repeat wrongly."""
    for node in graph.graph.nodes:
        op = node.target
        if not isinstance(op, torch._ops.OpOverload):
            continue
        if torch.Tag.nondeterministic_seeded in op.tags and _draws(op, node):
            raise TraceError(f"it draws random numbers ({op})")
        if op._schema.is_mutable and op.namespace == "aten":
            written = [node.args[i] for i in _written(op) if i < len(node.args)]
            if not all(isinstance(arg, fx.Node) and arg.op == "call_function" for arg in written):
                raise TraceError(f"it writes to a tensor that outlives it ({op})")


def _draws(op: torch._ops.OpOverload, node: fx.Node) -> bool:
    """Whether an operation that may draw random numbers really does: attention without dropout doesn't."""
    arguments = op._schema.arguments
    given: dict[str, Any] = {a.name: a.default_value for a in arguments if a.has_default_value()}
    given |= {a.name: value for a, value in zip(arguments, node.args, strict=False)} | node.kwargs
    return given.get("dropout_p", 1.0) != 0.0


def _written(op: torch._ops.OpOverload) -> list[int]:
    """The positions of the arguments that an operation writes to."""
    places = enumerate(op._schema.arguments)
    return [i for i, a in places if a.alias_info is not None and a.alias_info.is_write]
