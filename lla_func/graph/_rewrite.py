"""Cheaper operations with the same value, where no gradient is asked for.

Each rewrite takes a graph and changes it in place. They are exact up to rounding:

- :func:`slice_splits`: the pieces of a split become slices, one tensor each, which all other rules know.
- :func:`pool_by_maximum`: max pooling also computes indices that only its gradient needs, and takes ten times as long
  as the maximum over strided slices. Slices of an affine value are affine, so they can be hoisted besides.
- :func:`rectify_after_pooling`: max(relu(x)) = relu(max(x)), on fewer elements.
- :func:`pick_log_probability`: the negative log likelihood as the mean over picked entries, which also has a rule for
  blocks of points.
- :func:`normalize_classes_as_rows`: softmax over few classes, many samples at a time.
- :mod:`._matmuls`: a bias added within a product, and one product where a matrix is shared by a batch.
- :func:`forget_strides`: views that demand one memory layout become reshapes, which take any.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial, reduce
from itertools import accumulate
from typing import Any

import torch
from torch import fx

from lla_func.graph._matmuls import add_in_product, share_matrix
from lla_func.graph._record import arguments, dtype_of, shape_of

aten = torch.ops.aten

FEW_CLASSES = 64


def slice_splits(graph: fx.Graph) -> None:
    """The pieces of a split become slices: operations with several results have no rule of their own."""
    for target in (aten.split_with_sizes.default, aten.split.Tensor):
        for whole in graph.find_nodes(op="call_function", target=target):
            x, _, *rest = arguments(whole)
            axis = (rest[0] if rest else whole.kwargs.get("dim", 0)) % len(shape_of(x) or (0,))
            ends = list(accumulate(value.shape[axis] for value in whole.meta["values"]))
            for piece in [*whole.users]:
                end = ends[i := arguments(piece)[1]]
                with graph.inserting_before(piece):
                    part = graph.call_function(aten.slice.Tensor, (x, axis, ends[i - 1] if i else 0, end))
                piece.replace_all_uses_with(part)
                graph.erase_node(piece)


def rectify_after_pooling(graph: fx.Graph) -> None:
    """Relu then max pooling becomes max pooling then relu, if nothing else reads the rectified values."""
    for pool in graph.find_nodes(op="call_function", target=aten.max_pool2d_with_indices.default):
        relu = arguments(pool)[0]
        value = _only_first_output(pool)
        if value is None or relu.target is not aten.relu.default or len(relu.users) > 1:
            continue
        pool.replace_input_with(relu, arguments(relu)[0])
        with graph.inserting_after(value):
            after = graph.call_function(aten.relu.default, (value,))
        value.replace_all_uses_with(after)
        after.replace_input_with(after, value)
        graph.erase_node(relu)


def pool_by_maximum(graph: fx.Graph) -> None:
    """Max pooling becomes a maximum over the strided slices that hold the k-th element of every window."""
    for pool in graph.find_nodes(op="call_function", target=aten.max_pool2d_with_indices.default):
        value = _only_first_output(pool)
        shape, out = shape_of(arguments(pool)[0]), shape_of(value) if value is not None else None
        if value is None or shape is None or out is None:
            continue
        kernel, stride, padding, dilation, ceil = _pooling(pool)
        if dilation != (1, 1) or ceil or kernel[0] * kernel[1] > 16:
            continue
        with graph.inserting_before(pool):
            x = arguments(pool)[0]
            rows, columns = (
                partial(
                    _places,
                    graph,
                    axis=axis,
                    size=shape[axis],
                    count=out[axis],
                    kernel=kernel[axis],
                    step=stride[axis],
                    first=-padding[axis],
                )
                for axis in (-2, -1)
            )
            if kernel == stride:  # windows do not overlap: slice first, so that slices can be hoisted
                result = _maximum(graph, [place for row in rows(x) for place in columns(row)])
            else:  # windows share rows: take the maximum over rows once for all columns
                result = _maximum(graph, columns(_maximum(graph, rows(x))))
        value.replace_all_uses_with(result)


def pick_log_probability(graph: fx.Graph) -> None:
    """The mean or summed negative log likelihood of class indices [B] under log-probabilities [B, C]."""
    for node in graph.find_nodes(op="call_function", target=aten.nll_loss_forward.default):
        logs, targets, weight, reduction, ignored = arguments(node)
        value = _only_first_output(node)
        if weight is not None or reduction == 0 or value is None or len(shape_of(logs) or ()) != 2:
            continue
        with graph.inserting_before(node):
            call = graph.call_function
            counted = call(aten.ne.Scalar, (targets, ignored))
            places = call(aten.unsqueeze.default, (call(aten.mul.Tensor, (targets, counted)), 1))
            weights = call(aten._to_copy.default, (counted,), {"dtype": dtype_of(logs)})
            if reduction == 1:
                weights = call(aten.div.Tensor, (weights, call(aten.sum.default, (weights,))))
            picked = call(aten.squeeze.dim, (call(aten.gather.default, (logs, 1, places)), 1))
            result = call(aten.neg.default, (call(aten.dot.default, (picked, weights)),))
        value.replace_all_uses_with(result)


def normalize_classes_as_rows(graph: fx.Graph) -> None:
    """The logarithm of softmax over few classes [..., classes] runs over rows of the transpose.

    torch's kernel takes classes that lie side by side in memory one sample at a time; with one row a class it works on
    many samples at once. With 10 classes, transposing included, that took 0.6 of the time for 64 samples and 0.2 for
    2,048; with 1,000 classes it took longer. The limit of 64 lies between.
    """
    for node in graph.find_nodes(op="call_function", target=aten._log_softmax.default):
        logits, axis, half = arguments(node)
        shape = shape_of(logits)
        if (
            shape is None
            or len(shape) < 2
            or axis not in (-1, len(shape) - 1)
            or shape[-1] > FEW_CLASSES
            or half
        ):
            continue
        with graph.inserting_before(node):
            call = graph.call_function
            flat = call(aten.reshape.default, (logits, [-1, shape[-1]]))
            rows = call(
                aten.clone.default,
                (call(aten.t.default, (flat,)),),
                {"memory_format": torch.contiguous_format},
            )
            logs = call(aten._log_softmax.default, (rows, 0, False))
            result = call(aten.reshape.default, (call(aten.t.default, (logs,)), list(shape)))
        node.replace_all_uses_with(result)


def forget_strides(graph: fx.Graph) -> None:
    """``view`` fails on a memory layout other than the recorded one; ``reshape`` copies then."""
    for node in graph.nodes:
        if node.target in (aten.view.default, aten._unsafe_view.default):
            node.target = aten.reshape.default


REWRITES: tuple[Callable[[fx.Graph], None], ...] = (
    slice_splits,
    rectify_after_pooling,
    pool_by_maximum,
    pick_log_probability,
    normalize_classes_as_rows,
    share_matrix,
    add_in_product,
    forget_strides,
)
"""In the order in which they apply."""


def _only_first_output(node: fx.Node) -> fx.Node | None:
    """The node that reads the first of several outputs, if no other output is read."""
    users = list(node.users)
    if len(users) == 1 and users[0].target is operator.getitem and users[0].args[1] == 0:
        return users[0]
    return None


def _pooling(node: fx.Node) -> tuple[Any, Any, Any, Any, bool]:
    """Kernel, stride, padding, dilation and ceil mode of a pooling node, with torch's defaults filled in."""
    args = list(arguments(node)[1:]) + [None] * (6 - len(arguments(node)))
    kernel = _pair(args[0])
    return (
        kernel,
        _pair(args[1]) if args[1] else kernel,
        _pair(args[2] or 0),
        _pair(args[3] or 1),
        bool(args[4]),
    )


def _pair(value: Any) -> tuple[int, int]:
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return (values[0], values[-1])


def _places(
    graph: fx.Graph, x: fx.Node, *, axis: int, size: int, count: int, kernel: int, step: int, first: int
) -> list[fx.Node]:
    """For each place in a window the elements of x that lie there, one for each of ``count`` windows along an axis.

    The first window begins at ``first``. Beyond the ends of the axis everything is minus infinity; a place that lies
    there in all windows is left out.
    """
    places = []
    for start in range(first, first + kernel):
        inside = [i for i in range(count) if 0 <= start + step * i < size]
        if inside:
            begin, end = (start + step * i for i in (inside[0], inside[-1]))
            place = graph.call_function(aten.slice.Tensor, (x, axis, begin, end + 1, step))
            if len(inside) < count:
                edges = [0, 0] * (-1 - axis) + [inside[0], count - 1 - inside[-1]]
                place = graph.call_function(aten.constant_pad_nd.default, (place, edges, -torch.inf))
            places.append(place)
    return places


def _maximum(graph: fx.Graph, values: list[fx.Node]) -> fx.Node:
    return reduce(lambda most, value: graph.call_function(aten.maximum.default, (most, value)), values)
