"""Which operations keep a value affine in the coefficients: one table, and the walk over a graph that applies it.

With theta = origin + sum_k c_k d_k every value of the loss's graph is constant, affine or something else in the
coefficients c. An affine value f(c) = f_0 + sum_k c_k f_k is known for all points from K + 1 tensors: the value f_0 at
the origin and one for each direction.

Each rule is a polynomial in the positions of an operation's arguments. ``"0 + 1*2"`` for addmm(bias, a, b) says: a sum
of two terms, the first linear in argument 0, the second linear in 1 and in 2. The result is affine if no term holds two
varying arguments, and if nothing else varies that the rule does not name. Its direction f_k is the same operation with
every varying argument replaced by its own direction, and every term without one by zero.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx

from lla_func.graph._record import dtype_of, shape_of

aten = torch.ops.aten

VIEWS = frozenset(
    {
        aten.view.default,
        aten.reshape.default,
        aten.slice.Tensor,
        aten.select.int,
        aten.t.default,
        aten.transpose.int,
        aten.permute.default,
        aten.expand.default,
        aten.unsqueeze.default,
        aten.squeeze.dim,
        aten.squeeze.default,
        aten.alias.default,
    }
)
"""Operations on argument 0 that move no data (``reshape`` where it can)."""

_LINEAR = VIEWS | {
    aten._unsafe_view.default,
    aten.clone.default,
    aten._to_copy.default,
    aten.neg.default,
    aten.sum.default,
    aten.sum.dim_IntList,
    aten.mean.default,
    aten.mean.dim,
    aten.cumsum.default,
    aten.flip.default,
    aten.roll.default,
    aten.repeat.default,
    aten.tril.default,
    aten.triu.default,
    aten.index.Tensor,
    aten.index_select.default,
    aten.gather.default,
    aten.embedding.default,
    aten.avg_pool2d.default,
    aten._adaptive_avg_pool2d.default,
    aten.upsample_nearest2d.default,
    aten.upsample_bilinear2d.default,
}

RULES: Mapping[Callable[..., Any], str] = {
    **dict.fromkeys(_LINEAR, "0"),
    aten.constant_pad_nd.default: "0 + 2",
    aten.add.Tensor: "0 + 1",
    aten.add.Scalar: "0 + 1",
    aten.sub.Tensor: "0 + 1",
    aten.sub.Scalar: "0 + 1",
    aten.rsub.Scalar: "0 + 1",
    aten.where.self: "1 + 2",
    aten.masked_fill.Scalar: "0 + 2",
    aten.cat.default: "0",
    aten.stack.default: "0",
    aten.mul.Tensor: "0*1",
    aten.mul.Scalar: "0",
    aten.div.Tensor: "0",
    aten.div.Scalar: "0",
    aten.mm.default: "0*1",
    aten.bmm.default: "0*1",
    aten.mv.default: "0*1",
    aten.dot.default: "0*1",
    aten.addmm.default: "0 + 1*2",
    aten.addmv.default: "0 + 1*2",
    aten.baddbmm.default: "0 + 1*2",
    aten.convolution.default: "0*1 + 2",
}

CONSTANT, AFFINE, GENERAL = "constant", "affine", "general"


def classify(graph: fx.Graph) -> dict[fx.Node, str]:
    """Says for each node whether it is ``"constant"``, ``"affine"`` or ``"general"`` in theta, the first input."""
    kinds: dict[fx.Node, str] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            kinds[node] = CONSTANT if kinds else AFFINE
        elif node.op == "output":
            continue
        elif all(kinds[arg] == CONSTANT for arg in node.all_input_nodes):
            kinds[node] = CONSTANT
        else:
            kinds[node] = AFFINE if _keeps_affine(node, kinds) else GENERAL
    return kinds


def is_view(node: fx.Node) -> bool:
    """Whether a node is theta or a chain of views of it."""
    while node.op == "call_function" and node.target in VIEWS:
        node = node.args[0]  # type: ignore[assignment]
    return node.op == "placeholder" and node.prev.op == "root"


def directions(node: fx.Node, kinds: Mapping[fx.Node, str], values: Mapping[fx.Node, Any], k: int) -> Tensor:
    """The k-th direction f_k of an affine node.

    Args:
        node: an affine node of the graph.
        kinds: the kind of each node, by :func:`classify`.
        values: for constant nodes their value, for affine ones the list of f_0, f_1, ... f_K.
        k: from 1 to K.
    """
    args: list[Any] = [
        fx.node.map_arg(a, lambda n: values[n][k] if kinds[n] == AFFINE else values[n]) for a in node.args
    ]
    for term in _terms(node):
        if not any(_varies(node.args[i], kinds) for i in term if i < len(node.args)):
            first = term[0]
            if first < len(args) and args[first] is not None:
                args[first] = torch.zeros_like(args[first]) if isinstance(args[first], Tensor) else 0.0
        elif isinstance(args[term[0]], (list, tuple)):  # the members of a cat: zero those that are constant
            args[term[0]] = [
                value if kinds[member] == AFFINE else torch.zeros_like(value)
                for member, value in zip(node.args[term[0]], args[term[0]], strict=True)  # type: ignore[arg-type]
            ]
    kwargs = fx.node.map_arg(dict(node.kwargs), lambda n: values[n])
    return node.target(*args, **kwargs)  # type: ignore[operator]


def _keeps_affine(node: fx.Node, kinds: Mapping[fx.Node, str]) -> bool:
    """Whether the rule of a node's operation makes it affine, given the kinds of its arguments."""
    if node.op != "call_function" or node.target not in RULES or shape_of(node) is None:
        return False
    if any(kinds[arg] == GENERAL for arg in node.all_input_nodes):
        return False
    if _varies(node.kwargs, kinds) or not _floating(node):
        return False
    varying = {i for i, arg in enumerate(node.args) if _varies(arg, kinds)}
    terms = _terms(node)
    return varying <= {i for term in terms for i in term} and all(len(varying & set(t)) < 2 for t in terms)


def _terms(node: fx.Node) -> list[tuple[int, ...]]:
    """The rule of a node's operation as tuples of argument positions."""
    rule = RULES[node.target]  # type: ignore[index]
    return [tuple(int(i) for i in term.split("*")) for term in rule.split("+")]


def _varies(argument: Any, kinds: Mapping[fx.Node, str]) -> bool:
    """Whether an argument, or a member of it, depends on theta."""
    found: list[fx.Node] = []
    fx.node.map_arg(argument, lambda n: found.append(n))
    return any(kinds[n] != CONSTANT for n in found)


def _floating(node: fx.Node) -> bool:
    dtype = dtype_of(node)
    return dtype is not None and dtype.is_floating_point
