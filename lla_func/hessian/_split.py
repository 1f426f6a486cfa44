"""A loss split into a network and a criterion: the split that the objective names, or one found on the recorded loss.

For both a :class:`Split` gives, for any tile of data, a recording of the network, and the criterion as a function of
what crosses the cut.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from lla_func._torch import tensors
from lla_func.graph import Cut, Recording, cut, cut_at_output, record_named
from lla_func.objective import Batch, Objective, samples

Values = Sequence[Tensor]


class RefusedError(Exception):
    """There is no such split; the message says why."""


class Program(NamedTuple):
    """A split loss, recorded for tiles of one signature.

    Attributes:
        recording: of the network; its first inputs are the parameters, the others the tensors of the tile.
        cut: which operations are the network's, and what crosses the cut.
        criterion: maps what crosses the cut, and all values that do not move, to the loss on the tile.
        inputs: the nodes of parameters and data.
    """

    recording: Recording
    cut: Cut
    criterion: Callable[[Values, Mapping[fx.Node, Any], Batch], Tensor]
    inputs: tuple[fx.Node, ...]


Split = Callable[[Batch], Program]
"""Records a tile."""


def parameters_of(objective: Objective) -> dict[str, Tensor]:
    """The tensors that the loss takes: named ones, or theta as it is."""
    theta = objective.theta.detach()
    return objective.layout.unravel(theta) if objective.named else {"theta": theta}


def moving_in(objective: Objective, chosen: Sequence[int] | None) -> frozenset[int]:
    """The indices of parameters that move: all, or those chosen."""
    everything = frozenset(range(len(parameters_of(objective))))
    if chosen is None:
        return everything
    if not objective.named and set(chosen) != set(range(len(objective.layout.names))):
        raise RefusedError("the loss takes theta in one piece")
    return frozenset(chosen) if objective.named else everything


def piecewise(objective: Objective, chosen: Sequence[int] | None = None) -> Split:
    """The split where the loss stops being piecewise affine in each single parameter.

    Raises, when it is called with a tile:
        RefusedError: not all that moves is before it.
    """
    parameters, moving = parameters_of(objective), moving_in(objective, chosen)

    def loss(named: Any, batch: Batch) -> Tensor:
        return objective.loss(named if objective.named else named["theta"], batch)

    def of(batch: Batch) -> Program:
        recording = record_named(loss, parameters, batch)
        found = cut(recording.graph, len(parameters), moving)
        inputs = tuple(recording.graph.find_nodes(op="placeholder"))
        if isinstance(found, str):
            names = {node.name: name for node, name in zip(inputs, parameters, strict=False)}
            raise RefusedError(" ".join(names.get(word, word) for word in found.split(" ")))
        (outlet,) = recording.graph.find_nodes(op="output")

        def criterion(values: Values, fixed: Mapping[fx.Node, Any], _: Batch) -> Tensor:
            known = {**fixed, **dict(zip(found.values, values, strict=True))}
            run(found.back, known, recording)
            return known[outlet.args[0]]

        return Program(recording, found, criterion, inputs)

    return of


def composed(objective: Objective, chosen: Sequence[int] | None = None) -> Split:
    """The split into ``outputs`` and ``criterion`` that the objective names.

    Raises:
        RefusedError: it names none.
    """
    outputs, judge = objective.outputs, objective.criterion
    if outputs is None or judge is None:
        raise RefusedError("the objective does not say which part of the loss is the model")
    parameters, moving = parameters_of(objective), moving_in(objective, chosen)

    def of(batch: Batch) -> Program:
        count = samples(batch)
        shapes: list[Any] = []

        def flat(named: Any, batch: Batch) -> Tensor:
            given = named if objective.named else named["theta"]
            leaves, structure = pytree.tree_flatten(outputs(given, batch))
            if any(not isinstance(x, Tensor) or x.numel() % count or x.ndim == 0 for x in leaves):
                raise RefusedError("outputs are not a tensor for each sample")
            shapes[:] = structure, [leaf.shape for leaf in leaves]
            return torch.cat([leaf.reshape(count, -1) for leaf in leaves], 1)

        recording = record_named(flat, parameters, batch)

        def criterion(values: Values, _: Mapping[fx.Node, Any], batch: Batch) -> Tensor:
            structure, of_leaves = shapes
            pieces = values[0].split([shape.numel() // count for shape in of_leaves], 1)
            leaves = [piece.reshape(shape) for piece, shape in zip(pieces, of_leaves, strict=True)]
            return judge(pytree.tree_unflatten(leaves, structure), batch)

        found = cut_at_output(recording.graph, len(parameters), moving)
        return Program(recording, found, criterion, tuple(recording.graph.find_nodes(op="placeholder")))

    return of


def run(nodes: Sequence[fx.Node], known: dict[fx.Node, Any], recording: Recording) -> None:
    """Computes nodes in order, and adds their values to those known."""
    constants = recording.constants

    def value(node: fx.Node) -> Any:
        return constants[node.target] if node.op == "get_attr" else known[node]  # type: ignore[index]

    for node in nodes:
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), value)
        known[node] = node.target(*args, **kwargs)  # type: ignore[operator]


def supplied(program: Program, parameters: Sequence[Tensor], batch: Batch) -> dict[fx.Node, Any]:
    """The values of a program's inputs."""
    return dict(zip(program.inputs, (*parameters, *tensors(batch)), strict=True))
