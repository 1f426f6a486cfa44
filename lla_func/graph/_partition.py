"""A loss graph in two parts: what is computed once for a tile of data, and what is left to do at each point.

The first part gives the constant values and the affine ones, these as K + 1 tensors each (see
:mod:`lla_func.graph._affine`). The second starts from a point's parameters and its combinations of the affine values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from lla_func._torch import tensors
from lla_func.graph._affine import VIEWS, classify, directions, is_view
from lla_func.graph._codegen import generate
from lla_func.graph._inplace import make_inplace
from lla_func.graph._loss import record_loss
from lla_func.graph._record import Recording, arguments, clean, elements, infer, itemsize
from lla_func.graph._rewrite import REWRITES
from lla_func.objective import Batch, Loss

aten = torch.ops.aten


class Sizes(NamedTuple):
    """What one sample needs at one point, in bytes, and what a point needs whatever the samples.

    Attributes:
        largest: the largest single value.
        live: the most that is alive at one time.
        total: all values together.
        affine: the values that are hoisted and combined.
        theta: the parameters that a point needs.
        operations: how many are called at a point.
        blocks: whether blocks of points may share a pass without being slower for it, however much is computed.
    """

    largest: float
    live: float
    total: float
    affine: float
    theta: int
    operations: int
    blocks: bool


class Partition(NamedTuple):
    """A loss graph for tiles of one signature, taken apart.

    Attributes:
        recording: the whole loss, after the rewrites.
        kinds: ``"constant"``, ``"affine"`` or ``"general"`` for each node.
        once: the nodes to compute once for a tile, in order.
        affine: those of them that points need a combination of.
        constant: those that points need as they are.
        span: the part of theta that points need.
        views: maps theta[span] to the views of it that points need.
        point: maps these views, the combinations of ``affine`` and the values of ``constant`` to the loss.
        point_in_place: the same, writing over values that it does not need any more, which vmap cannot do.
        images: whether it matters at the points how values with four axes lie in memory.
    """

    recording: Recording
    kinds: Mapping[fx.Node, str]
    once: Sequence[fx.Node]
    affine: Sequence[fx.Node]
    constant: Sequence[fx.Node]
    span: slice
    views: Callable[[Tensor], Sequence[Tensor]]
    point: Callable[..., Tensor]
    point_in_place: Callable[..., Tensor]
    images: bool


def partition(loss: Loss, theta: Tensor, batch: Batch) -> Partition:
    """Records the loss on a batch, makes it cheaper, and takes it apart.

    Raises:
        RecordingError: the loss cannot be recorded.
    """
    recording = record_loss(loss, theta, batch)
    graph = recording.graph
    device = "cpu" if theta.device.type == "cpu" else "meta"
    for rewrite in REWRITES:
        rewrite(graph)
        clean(graph)
        infer(graph, device)
    kinds = classify(graph)

    outlet = graph.find_nodes(op="output")[0]
    general = [n for n in graph.nodes if kinds.get(n) == "general"]
    needed = dict.fromkeys(
        arg for n in (*general, outlet) for arg in n.all_input_nodes if kinds[arg] != "general"
    )
    views = [n for n in needed if kinds[n] == "affine" and is_view(n)]
    affine = [n for n in needed if kinds[n] == "affine" and not is_view(n)]
    constant = [n for n in needed if kinds[n] == "constant"]
    once = _ancestors((*affine, *constant))
    before_views = _ancestors(views)
    span = _span(views, len(theta))
    body, in_place = (_part((*views, *affine, *constant), general, outlet.args[0]) for _ in range(2))
    make_inplace(in_place)
    return Partition(
        recording=recording,
        kinds=kinds,
        once=[n for n in graph.nodes if n in once],
        affine=affine,
        constant=constant,
        span=span,
        views=generate(
            _part([next(iter(graph.nodes))], [n for n in graph.nodes if n in before_views], views, span), {}
        ),
        point=generate(body, recording.constants),
        point_in_place=generate(in_place, recording.constants),
        images=any(n.target is aten.convolution.default for n in general)
        and not any("strided" in str(n.target) for n in general),
    )


def hoist(
    parts: Partition, origin: Tensor, basis: Tensor, batch: Batch, *, channels_last: bool = False
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """Computes what the points of a tile share.

    Args:
        parts: the loss graph for tiles of this signature.
        origin, basis: the chart's, [P] and [K, P].
        batch: the tile.
        channels_last: whether affine values with four axes get their channels innermost in memory.

    Returns:
        for each affine value its list f_0, f_1, ... f_K, and the constant values.
    """
    inputs = iter([[origin, *basis], *tensors(batch)])
    supplied = {n: next(inputs) for n in parts.recording.graph.nodes if n.op == "placeholder"}
    kept = {*parts.affine, *parts.constant}
    last_use = {arg: n for n in parts.once for arg in n.all_input_nodes}
    values: dict[fx.Node, Any] = {}
    for node in parts.once:
        values[node] = _compute(node, parts, supplied, values, len(basis))
        for arg in node.all_input_nodes:
            if last_use[arg] is node and arg not in kept:
                del values[arg]
    dense = torch.channels_last if channels_last else torch.contiguous_format

    def laid_out(value: Tensor) -> Tensor:
        return value.contiguous(memory_format=dense if value.ndim == 4 else torch.contiguous_format)

    return [[laid_out(f) for f in values[n]] for n in parts.affine], [values[n] for n in parts.constant]


def footprint(parts: Partition, count: int) -> Sizes:
    """What a plan has to know, from the shapes in the graph of a tile of ``count`` samples."""

    def size(node: fx.Node) -> int:
        return elements(node) * itemsize(node)

    body = [n for n in parts.recording.graph.nodes if parts.kinds.get(n) == "general"]
    last_use = {arg: n for n in body for arg in n.all_input_nodes}
    live = peak = sum(map(size, parts.affine))
    for node in body:
        live += 0 if node.target in VIEWS else size(node)
        peak = max(peak, live)
        live -= sum(
            size(a)
            for a in node.all_input_nodes
            if last_use[a] is node and a.target not in VIEWS and a in body
        )
    theta = next(iter(parts.recording.graph.nodes))
    convolution = any(n.target is aten.convolution.default for n in body)
    return Sizes(
        largest=max(map(size, [*body, *parts.affine]), default=0) / count,
        live=peak / count,
        total=sum(map(size, [*body, *parts.affine])) / count,
        affine=sum(map(size, parts.affine)) / count,
        operations=len(body),
        theta=(parts.span.stop - parts.span.start) * itemsize(theta),
        blocks=not convolution,
    )


def _compute(node: fx.Node, parts: Partition, supplied: Mapping, values: Mapping, count: int) -> Any:
    """The value of a node: one if it is constant, the list of f_0, f_1, ... if it is affine."""
    operation: Any = node.target
    if node.op == "placeholder":
        return supplied[node]
    if node.op == "get_attr":
        return parts.recording.constants[operation]
    if parts.kinds[node] == "affine":
        origins = {a: values[a][0] if parts.kinds[a] == "affine" else values[a] for a in node.all_input_nodes}
        at_origin = operation(*_fill(node.args, origins), **_fill(node.kwargs, origins))
        return [at_origin, *(directions(node, parts.kinds, values, k) for k in range(1, count + 1))]
    return operation(*_fill(node.args, values), **_fill(node.kwargs, values))


def _fill(arguments: Any, values: Mapping[fx.Node, Any]) -> Any:
    return fx.node.map_arg(arguments, lambda n: values[n])


def _ancestors(nodes: Sequence[fx.Node]) -> set[fx.Node]:
    """The nodes and all that they depend on."""
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        if (node := waiting.pop()) not in found:
            found.add(node)
            waiting.extend(node.all_input_nodes)
    return found


def _span(views: Sequence[fx.Node], size: int) -> slice:
    """The smallest part of theta that holds all views, if each starts with a slice of theta; otherwise all of it."""
    if not views:
        return slice(0, 0)
    firsts = [n for n in _ancestors(views) if n.all_input_nodes and arguments(n)[0].op == "placeholder"]
    plain = all(n.target is aten.slice.Tensor and len(n.args) == 4 and n.args[2] is not None for n in firsts)
    if not plain or any(n.op == "placeholder" for n in views):
        return slice(0, size)
    bounds = [arguments(n)[2:] for n in firsts]
    return slice(min(start for start, _ in bounds), max(min(end, size) for _, end in bounds))


def _part(
    inputs: Sequence[fx.Node], body: Sequence[fx.Node], outputs: Any, span: slice | None = None
) -> fx.Graph:
    """A part of a graph as a graph of its own; with a span, its input is that part of theta."""
    part = fx.Graph()
    copies = {node: part.placeholder(f"input_{i}") for i, node in enumerate(inputs)}
    for node in body:
        if node in copies:
            continue
        copies[node] = part.node_copy(node, lambda n: copies[n])
        if span is not None and span.start and node.args[0] is inputs[0]:
            axis, start, end = node.args[1:4]
            copies[node].args = (
                copies[inputs[0]],
                axis,
                start - span.start,
                min(end, span.stop) - span.start,
            )
    part.output(
        fx.node.map_arg(list(outputs) if isinstance(outputs, (list, tuple)) else outputs, lambda n: copies[n])
    )
    return part
