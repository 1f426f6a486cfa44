"""Cheaper matrix products with the same value: fused attention, and one product where a matrix is shared by a batch.

A framework's attention takes its heads apart by a dozen operations that move data two or three times, though the result
is a plain strided view of the projection that it starts from. Numbering the elements of that projection and sending the
numbers through the chain shows it: if they come out as offset + sum_d stride_d i_d, one ``as_strided`` does it all
(:func:`strided`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.nn.functional import scaled_dot_product_attention

from lla_func.graph._affine import VIEWS
from lla_func.graph._record import arguments, shape_of

aten = torch.ops.aten

_RESHAPES = (aten.view.default, aten._unsafe_view.default, aten.reshape.default, aten.expand.default)


MOVES = VIEWS | {aten._unsafe_view.default, aten.clone.default}
"""Operations that rearrange the elements of argument 0, or choose among them, by positions alone."""

FRESH = frozenset({aten.mm.default, aten.addmm.default})
"""Operations whose results are dense, row after row."""


def attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """softmax(scale Q K^T + mask) V by torch's fused kernel, with the batching rule that it lacks.

    Args:
        query, key, value: [B, H, S, E]; key and value may have another S.
        mask: added to the scores, or None.
        scale: of the scores.
    """
    return _Attention.apply(query, key, value, mask, scale)


class _Attention(torch.autograd.Function):
    """For blocks of points: they join the batch, since the fused kernel takes exactly four axes."""

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        return scaled_dot_product_attention(query, key, value, mask, scale=scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: there is no gradient here."""

    @staticmethod
    def vmap(info: Any, in_dims: Any, *operands: Any) -> tuple[Tensor, int]:
        points = info.batch_size
        *tensors, mask, scale = operands
        batch = tensors[0].movedim(in_dims[0], 0).shape[1] if in_dims[0] is not None else len(tensors[0])

        def join(x: Tensor, axis: int | None) -> Tensor:
            x = x.expand(points, *x.shape) if axis is None else x.movedim(axis, 0)
            x = x.reshape(points, *(1,) * (5 - x.ndim), *x.shape[1:])  # a mask may lack leading axes
            return x.expand(-1, batch, -1, -1, -1).flatten(0, 1)

        query, key, value = (join(x, axis) for x, axis in zip(tensors, in_dims[:3], strict=True))
        mask = None if mask is None else join(mask, in_dims[3])
        return attention(query, key, value, mask, scale).unflatten(0, (points, batch)), 0


def fuse_attention(graph: fx.Graph) -> None:
    """softmax(a Q (a K)^T + mask) V becomes one fused operation that never holds the matrix of attention weights.

    The loss is recorded with attention made of matrix products, the only form that has all derivatives; without
    gradients the fused kernel does.
    """
    for target in (aten._safe_softmax.default, aten._softmax.default):
        for softmax in graph.find_nodes(op="call_function", target=target):
            _fuse(graph, softmax)


def _fuse(graph: fx.Graph, softmax: fx.Node) -> None:
    shape = shape_of(softmax) or ()
    if len(shape) != 4 or arguments(softmax)[1] not in (-1, 3):
        return
    result = _reader(softmax)
    if (
        result is None
        or result.target is not aten.bmm.default
        or _source(arguments(result)[0], 4) is not softmax
    ):
        return
    output = next(iter(result.users))
    if output.target not in _RESHAPES or len(result.users) > 1:
        return
    scores, mask = _score(arguments(softmax)[0]), None
    if scores.target is aten.add.Tensor and not scores.kwargs and len(scores.users) == 1:
        scores, mask = _score(arguments(scores)[0]), arguments(scores)[1]
    if scores.target is not aten.bmm.default or _reader(scores) is None:
        return
    (query, first), (key, second) = (_scaled(_source(arg, 4)) for arg in arguments(scores))
    value = _source(arguments(result)[1], 4)
    if key.target is not aten.transpose.int or {a % 4 for a in arguments(key)[1:]} != {2, 3}:
        return
    key = arguments(key)[0]
    shapes = [shape_of(node) or () for node in (query, key, value)]
    if any(len(other) != 4 or other[:2] != shape[:2] for other in shapes):
        return
    if shape_of(output) != (*shape[:3], shapes[2][3]):
        return
    with graph.inserting_before(output):
        query, key, value = (_as_view(graph, node) for node in (query, key, value))
        fused = graph.call_function(attention, (query, key, value, mask, first * second))
    output.replace_all_uses_with(fused)


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


class Strided(NamedTuple):
    """A value as a view of a dense one."""

    root: fx.Node
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


def strided(node: fx.Node) -> Strided | None:
    """A value as a strided view of the matrix product that it is made of; None if it is not one.

    Example:
        >>> from lla_func.graph import record
        >>> turned = lambda a, b: (a @ b).reshape(2, 3, 2).permute(2, 0, 1).clone()
        >>> graph = record(turned, torch.ones(6, 4), torch.ones(4, 2))
        >>> strided(graph.graph.find_nodes(op="output")[0].args[0])[1:]
        ((2, 2, 3), (1, 6, 2), 0)
    """
    chain: list[fx.Node] = []
    root = node
    while root.target in MOVES:
        chain.append(root)
        root = arguments(root)[0]
    shape = shape_of(root)
    if root.target not in FRESH or shape is None:
        return None
    count = math.prod(shape)
    numbers = torch.arange(count, dtype=torch.int32).reshape(shape)
    for link in reversed(chain):
        operation = (
            aten.reshape.default
            if link.target in (aten.view.default, aten._unsafe_view.default)
            else link.target
        )
        numbers = operation(numbers, *link.args[1:], **link.kwargs)  # type: ignore[operator]
    offset = int(numbers.flatten()[0])
    stride = tuple(
        int(_second(numbers, axis)) - offset if size > 1 else 0 for axis, size in enumerate(numbers.shape)
    )
    last = offset + sum(step * (size - 1) for step, size in zip(stride, numbers.shape, strict=True))
    if last >= count:
        return None
    view = torch.arange(count, dtype=torch.int32).as_strided(numbers.shape, stride, offset)
    return Strided(root, tuple(numbers.shape), stride, offset) if torch.equal(view, numbers) else None


def _as_view(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """The same value without moving data, where that is possible."""
    view = strided(node)
    if view is None or view.stride[-1] != 1:  # the fused kernel wants the features of a head side by side
        return node
    return graph.call_function(
        aten.as_strided.default, (view.root, list(view.size), list(view.stride), view.offset)
    )


def _source(node: Any, axes: int) -> fx.Node:
    """The nearest node before reshapes that has this many axes, seen through expansions that change nothing."""
    while node.target in _RESHAPES and len(shape_of(node) or ()) != axes:
        node = arguments(node)[0]
    while node.target is aten.expand.default and shape_of(node) == shape_of(arguments(node)[0]):
        node = arguments(node)[0]
    return node


def _score(node: Any) -> fx.Node:
    """The product that a reshape to four axes shows, or the node itself."""
    return (
        arguments(node)[0]
        if node.target in _RESHAPES and len(shape_of(arguments(node)[0]) or ()) == 3
        else node
    )


def _scaled(node: fx.Node) -> tuple[fx.Node, float]:
    """A node as another one times a number."""
    if node.target in (aten.mul.Scalar, aten.mul.Tensor) and isinstance(arguments(node)[1], (int, float)):
        return arguments(node)[0], float(arguments(node)[1])
    return node, 1.0


def _reader(node: fx.Node) -> fx.Node | None:
    """The one node that reads this one, seen through reshapes; None if there are several."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        if node.target not in _RESHAPES:
            return node
    return None


def _second(numbers: Tensor, axis: int) -> Tensor:
    """The element after the first one along an axis."""
    return numbers[tuple(int(i == axis) for i in range(numbers.ndim))]
