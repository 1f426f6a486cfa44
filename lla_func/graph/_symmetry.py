"""Which axes of a function's inputs may be permuted together: the symmetries of a recorded graph.

A walk over the graph says of each operation how it moves the factors of axes (:mod:`._factors`): a product ties what it
sums over, a residual connection what it adds, a convolution keeps pixels in place. Every rule is sufficient for the
operation to commute with permutations, so whatever is not fixed in the end is a symmetry of the whole function. Rules
may fix more than they have to: channels that are concatenated stay in place unless their pieces have one length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import fx

from lla_func.graph import _symmetry_rules  # noqa: F401  (its rules join those of the walk)
from lla_func.graph._factors import Axis, Factors
from lla_func.graph._record import Recording, shape_of
from lla_func.graph._symmetry_walk import RULES, Walk

POINTWISE = frozenset(
    {
        *(
            "clone",
            "_to_copy",
            "alias",
            "detach",
            "lift_fresh",
            "copy",
            "fill",
            "masked_fill",
            "where",
            "dropout",
        ),
        *(
            "gelu",
            "silu",
            "mish",
            "elu",
            "celu",
            "leaky_relu",
            "hardswish",
            "hardsigmoid",
            "hardtanh",
            "softplus",
        ),
        *("softshrink", "hardshrink", "threshold", "_prelu_kernel", "log_sigmoid_forward"),
    }
)
"""Operations on each element alone that torch does not tag as such."""


class UnknownOperationError(ValueError):
    """An operation for which it is not known how permutations pass through it."""

    def __init__(self, operation: str, layer: str) -> None:
        super().__init__(f"{layer}: {operation}")
        self.operation, self.layer = operation, layer


class Factor(NamedTuple):
    """A factor of an axis: its length, and the number of the group that permutes it, None where nothing does."""

    size: int
    group: int | None


class Symmetry(NamedTuple):
    """The permutations that a function is invariant under.

    Attributes:
        axes: of each input, by name, each axis as a product of factors, the first one outermost.
        sizes: how many elements each group permutes.
    """

    axes: Mapping[str, tuple[tuple[Factor, ...], ...]]
    sizes: tuple[int, ...]


def symmetry(recording: Recording, names: Sequence[str]) -> Symmetry:
    """The permutations of a graph's inputs that leave its output, element by element, as it is.

    Args:
        recording: of a function of tensors.
        names: a name for each input, in order; inputs after those that are named are data, which stay as they are.

    Raises:
        UnknownOperationError: an operation has no rule.

    Example:
        >>> from lla_func.graph import record
        >>> x = torch.ones(5, 2)
        >>> def network(w, v):
        ...     return torch.relu(x @ w) @ v
        >>> found = symmetry(record(network, torch.ones(2, 4), torch.ones(4, 3)), ["w", "v"])
        >>> found.sizes, found.axes["w"]
        ((4,), ((Factor(size=2, group=None),), (Factor(size=4, group=0),)))
    """
    walk = Walk(Factors(), {})
    inputs: list[fx.Node] = []
    for node in recording.graph.nodes:
        if node.op == "placeholder":
            inputs.append(node)
            data = len(inputs) > len(names)
            walk.axes[node] = _new(walk.factors, shape_of(node) or (), fixed=data)
        elif node.op == "get_attr":
            walk.axes[node] = _new(walk.factors, shape_of(node) or (), fixed=True)
        elif node.op == "output":
            for axis in walk.of(node.args[0]):
                walk.factors.fix(axis)
        else:
            walk.axes[node] = _passed(walk, node)
    return _collected(walk, dict(zip(names, inputs, strict=False)))


def _new(factors: Factors, shape: Sequence[int], *, fixed: bool) -> list[Axis]:
    return [factors.axis(size, fixed=fixed) for size in shape]


def _passed(walk: Walk, node: fx.Node) -> Any:
    """The axes of a node's value, or of its values."""
    if not isinstance(node.target, torch._ops.OpOverload):  # getitem
        source, index = node.args
        return walk.axes[source][index]  # type: ignore[index]
    name = node.target._schema.name.removeprefix("aten::")
    if name in RULES:
        return RULES[name](walk, node)
    if torch.Tag.pointwise in node.target.tags or name in POINTWISE:
        axes = walk.broadcast(node)
        return [axes] * len(node.meta["values"]) if "values" in node.meta else axes
    raise UnknownOperationError(str(node.target), str(node.meta.get("layer", "")))


def _collected(walk: Walk, inputs: Mapping[str, fx.Node]) -> Symmetry:
    factors = walk.factors
    groups: dict[int, int] = {}

    def described(factor: int) -> Factor:
        group = None if factors.is_fixed(factor) else groups.setdefault(factor, len(groups))
        return Factor(factors.size(factor), group)

    axes = {
        name: tuple(tuple(map(described, factors.leaves(axis))) for axis in walk.axes[node])
        for name, node in inputs.items()
    }
    return Symmetry(axes, tuple(map(factors.size, groups)))
