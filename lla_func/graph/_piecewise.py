"""Where a loss stops being affine, piece by piece, in each single parameter: one table, and the walk that applies it.

A network of linear layers, ReLU and max pooling is a piecewise affine function of every single parameter, whatever the
others are: each layer multiplies what comes in with parameters that did not go into it. The second derivative of its
outputs with respect to one parameter vanishes wherever it exists, at kinks too as torch defines derivatives there. So
the diagonal of the Hessian of a smooth criterion of these outputs is that of the Gauss-Newton matrix, exactly.

The rules are those of :mod:`lla_func.graph._affine` in another sense: in ``"0*1 + 2"`` both operands of the product may
depend on parameters, if they have none in common. ``PIECEWISE`` adds operations that are linear between kinks.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Set
from typing import Any, NamedTuple

import torch
from torch import fx

from lla_func.graph._affine import RULES
from lla_func.graph._record import dtype_of, shape_of

aten = torch.ops.aten

BETWEEN_KINKS = (
    "relu leaky_relu threshold hardtanh hardsigmoid hardshrink softshrink abs max_pool2d_with_indices "
    "max_pool3d_with_indices adaptive_max_pool2d adaptive_max_pool3d max.dim min.dim max min amax amin sort topk "
    "median.dim clamp clamp_min clamp_max"
)
LINEAR = (
    "split_with_sizes split.Tensor unbind.int narrow diagonal unfold im2col col2im pixel_shuffle pixel_unshuffle "
    "reflection_pad1d reflection_pad2d replication_pad1d replication_pad2d avg_pool1d avg_pool3d _adaptive_avg_pool3d "
    "_unsafe_index.Tensor squeeze.dims upsample_nearest1d upsample_linear1d _reshape_alias nll_loss_forward "
    "nll_loss2d_forward"
)
OTHERS = {
    "maximum": "0 + 1",
    "minimum": "0 + 1",
    "addcmul": "0 + 1*2",
    "_prelu_kernel": "0*1",
    "native_batch_norm": "0*1 + 2",
    "cudnn_batch_norm": "0*1 + 2",
    "_native_batch_norm_legit_no_training": "0*1 + 2",
    "slice_scatter": "0 + 1",
    "select_scatter": "0 + 1",
    "index_add": "0 + 3",
    "scatter_add": "0 + 3",
    "where.ScalarOther": "1",
    "where.ScalarSelf": "2",
}


def _operation(name: str) -> Any:
    """The operation of a name such as ``"max.dim"``, or None where this version of torch has none."""
    packet, _, overload = name.partition(".")
    return getattr(getattr(aten, packet, None), overload or "default", None)


PIECEWISE: Mapping[Any, str] = {
    **RULES,
    **{op: "0" for name in f"{BETWEEN_KINKS} {LINEAR}".split() if (op := _operation(name)) is not None},
    **{op: rule for name, rule in OTHERS.items() if (op := _operation(name)) is not None},
    operator.getitem: "0",
}
TRAINING = {
    op: 5 for name in ("native_batch_norm", "cudnn_batch_norm") if (op := _operation(name)) is not None
}
"""Where an operation says by which statistics it normalizes: those of the batch depend on what comes in."""


class Cut(NamedTuple):
    """A loss in two parts.

    Attributes:
        front: the operations up to the cut that depend on what moves, in order.
        values: the nodes whose values cross the cut.
        back: the operations behind it, in order; they meet no parameter that moves but in these values.
        fixed: the operations that depend on nothing that moves, in order.
        of_parameters: nodes that depend on parameters that move and on no data.
    """

    front: tuple[fx.Node, ...]
    values: tuple[fx.Node, ...]
    back: tuple[fx.Node, ...]
    fixed: tuple[fx.Node, ...]
    of_parameters: Set[fx.Node]


def cut(graph: fx.Graph, parameters: int, moving: Set[int]) -> Cut | str:
    """Cuts a loss where it stops being piecewise affine in each parameter.

    Args:
        graph: of the loss; its first inputs are the parameters, the others the data.
        parameters: how many there are.
        moving: the indices of those that move.

    Returns:
        the cut; or in words why there is none with all that moves before it.

    Example:
        >>> from lla_func.graph import record
        >>> loss = record(lambda w, v, x: ((x @ w).relu() @ v).exp().sum(), *torch.ones(3, 2, 2))
        >>> [node.target.__name__ for node in cut(loss.graph, 2, {0, 1}).front]
        ['mm.default', 'relu.default', 'mm.default']
        >>> loss = record(lambda w, v, x: ((x @ w).exp() @ v).sum(), *torch.ones(3, 2, 2))
        >>> cut(loss.graph, 2, {0, 1})
        'exp is not piecewise linear, and input_1 comes behind it'
    """
    depends, of_data, why = _walk(graph, parameters, moving)
    back = [node for node in depends if depends[node] is None]
    (outlet,) = graph.find_nodes(op="output")
    crossing = dict.fromkeys(arg for node in back for arg in node.all_input_nodes if depends[arg])
    late = [node for node in crossing if node not in of_data]
    if late:
        inputs = graph.find_nodes(op="placeholder")
        name = inputs[min(depends[late[0]] or ())].name
        reasons = [why[node] for node in back if node in why]
        return f"{reasons[0]}, and {name} comes behind it"
    if not back and depends[outlet.args[0]] and outlet.args[0] not in of_data:
        return "the loss depends on no data"
    return _parted(graph, depends, of_data, tuple(crossing))


def cut_at_output(graph: fx.Graph, parameters: int, moving: Set[int]) -> Cut:
    """The cut of a function at its own value."""
    depends, of_data, _ = _walk(graph, parameters, moving, everything=True)
    (outlet,) = graph.find_nodes(op="output")
    return _parted(graph, depends, of_data, tuple(outlet.all_input_nodes))


def _parted(
    graph: fx.Graph,
    depends: Mapping[fx.Node, Set[int] | None],
    of_data: Set[fx.Node],
    values: tuple[fx.Node, ...],
) -> Cut:
    needed, waiting = set(), list(values)
    while waiting:
        if (node := waiting.pop()) not in needed:
            needed.add(node)
            waiting.extend(node.all_input_nodes)
    calls = [node for node in graph.nodes if node.op == "call_function"]
    return Cut(
        front=tuple(node for node in calls if depends[node] and node in needed),
        values=values,
        back=tuple(node for node in calls if depends[node] is None),
        fixed=tuple(node for node in calls if depends[node] is not None and not depends[node]),
        of_parameters=frozenset(node for node in depends if depends[node] and node not in of_data),
    )


def _walk(
    graph: fx.Graph, parameters: int, moving: Set[int], *, everything: bool = False
) -> tuple[dict[fx.Node, Set[int] | None], set[fx.Node], dict[fx.Node, str]]:
    """What each node depends on (None behind the cut), which ones depend on data, and why the first behind are there.

    With ``everything`` all operations count as before the cut.
    """
    depends: dict[fx.Node, Set[int] | None] = {}
    of_data: set[fx.Node] = set()
    why: dict[fx.Node, str] = {}
    count = 0
    for node in graph.nodes:
        if node.op == "output":
            continue
        if node.op == "placeholder":
            depends[node] = frozenset({count} & moving)
            if count >= parameters:
                of_data.add(node)
            count += 1
            continue
        inputs = node.all_input_nodes
        if any(arg in of_data for arg in inputs):
            of_data.add(node)
        if any(depends[arg] is None for arg in inputs):
            depends[node] = None
            continue
        union = frozenset().union(*(depends[arg] or frozenset() for arg in inputs))
        if not union or not _has_derivative(node):
            depends[node] = frozenset()
        elif everything or not (reason := _leaves(node, depends)):
            depends[node] = union
        else:
            depends[node], why[node] = None, reason
    return depends, of_data, why


def _leaves(node: fx.Node, depends: Mapping[fx.Node, Set[int] | None]) -> str:
    """Why a node is not piecewise affine in each parameter that moves; empty if it is."""
    name = getattr(node.target, "__name__", str(node.target)).removesuffix(".default")
    if node.target not in PIECEWISE:
        return f"{name} is not piecewise linear"
    if (place := TRAINING.get(node.target)) is not None and len(node.args) > place and node.args[place]:
        return f"{name} normalizes by statistics of the batch"
    terms = [tuple(int(i) for i in term.split("*")) for term in PIECEWISE[node.target].split("+")]
    on = [_of(argument, depends) for argument in node.args]
    named = {i for term in terms for i in term}
    if any(of for i, of in enumerate(on) if i not in named) or _of(list(node.kwargs.values()), depends):
        return f"{name} is not piecewise linear in all that it takes"
    for term in terms:
        both = [on[i] for i in term if i < len(on)]
        if len(both) == 2 and both[0] & both[1]:
            return f"{name} multiplies values that depend on the same parameters"
    return ""


def _of(argument: Any, depends: Mapping[fx.Node, Set[int] | None]) -> Set[int]:
    """The parameters that an argument, or a member of it, depends on."""
    found: list[fx.Node] = []
    fx.node.map_arg(argument, found.append)
    return frozenset().union(*(depends[node] or frozenset() for node in found))


def _has_derivative(node: fx.Node) -> bool:
    """Whether a node's value is of a floating dtype, or several values."""
    dtype = dtype_of(node)
    if shape_of(node) is None:
        return True
    return dtype is not None and dtype.is_floating_point
