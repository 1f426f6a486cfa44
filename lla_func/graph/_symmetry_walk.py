"""The walk that carries factors of axes through a graph, and its rules for views, which move axes but no elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import fx

from lla_func.graph._factors import Axis, Factors
from lla_func.graph._record import shape_of


class Walk(NamedTuple):
    """The factors found so far, and the axes of each node: a list, or a list of lists where it has several values."""

    factors: Factors
    axes: dict[fx.Node, Any]

    def of(self, argument: Any) -> list[Axis]:
        """The axes of an argument; of a number none."""
        return self.axes[argument] if isinstance(argument, fx.Node) else []

    def fresh(self, shape: Sequence[int], *, fixed: bool = True) -> list[Axis]:
        """Axes that no other tensor has."""
        return [self.factors.axis(size, fixed=fixed) for size in shape]

    def broadcast(self, node: fx.Node) -> list[Axis]:
        """The axes of an operation on each element: all arguments' axes are tied, from the last one on."""
        operands: list[list[Axis]] = []
        fx.node.map_arg((node.args, dict(node.kwargs)), lambda n: operands.append(self.of(n)))
        shape = value_shapes(node)[0] if "values" in node.meta else shape_of(node)
        return self.joined(operands, len(shape or ()))

    def joined(self, operands: Sequence[Sequence[Axis]], ndim: int) -> list[Axis]:
        """The common axes of operands that are broadcast."""
        found: list[Axis] = [()] * ndim
        for axes in operands:
            for i, axis in enumerate(axes, start=ndim - len(axes)):
                if axis and found[i]:
                    self.factors.tie(found[i], axis)
                found[i] = found[i] or axis
        return found

    def fix(self, *axes: Axis) -> None:
        """Keeps these axes in place."""
        for axis in axes:
            self.factors.fix(axis)

    def part(self, axis: Axis, length: int, size: int) -> Axis:
        """A piece of this size of an axis of this length: where all are alike, they stay in order, permuted alike."""
        if size == length or not axis:
            return axis
        if size == 1 or length % size:
            self.fix(axis)
            return self.factors.axis(size, fixed=True)
        outer, inner = self.factors.cut([axis], [length // size, size])
        self.fix(outer)
        return inner


Rule = Callable[[Walk, fx.Node], Any]
RULES: dict[str, Rule] = {}
"""A rule for each operation, by its name without namespace and overload; other modules of this package add theirs."""


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Makes a function the rule of operations with these names."""

    def register(rule: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def argument_of(node: fx.Node, index: int, default: Any = None) -> Any:
    """An argument of a node by its position, given by position, by name, or not at all."""
    schema = node.target._schema.arguments[index]  # type: ignore[union-attr]
    if index < len(node.args):
        return node.args[index]
    return node.kwargs.get(schema.name, schema.default_value if schema.has_default_value() else default)


def axis_lengths(node: Any) -> tuple[int, ...]:
    """The shape of a node's value."""
    return shape_of(node) or ()


def value_shapes(node: fx.Node) -> list[tuple[int, ...] | None]:
    """The shapes of a node's values, where it has several."""
    return [None if value is None else value.shape for value in node.meta["values"]]


# ---- views ---------------------------------------------------------------------------------------------------------


@rule("view", "reshape", "_unsafe_view", "_reshape_alias")
def _view(walk: Walk, node: fx.Node) -> list[Axis]:
    return walk.factors.cut(walk.of(node.args[0]), axis_lengths(node))


@rule("t", "transpose", "permute")
def _permute(walk: Walk, node: fx.Node) -> list[Axis]:
    axes = walk.of(node.args[0])
    if len(node.args) == 1:
        return axes[::-1]
    if isinstance(node.args[1], (list, tuple)):
        return [axes[i] for i in node.args[1]]  # type: ignore[index]
    i, j = node.args[1:3]
    axes = list(axes)
    axes[i], axes[j] = axes[j], axes[i]  # type: ignore[index]
    return axes


@rule("expand")
def _expand(walk: Walk, node: fx.Node) -> list[Axis]:
    shape, axes = axis_lengths(node), walk.of(node.args[0])
    before = [1] * (len(shape) - len(axes)) + list(axis_lengths(node.args[0]))
    axes = [()] * (len(shape) - len(axes)) + list(axes)
    return [
        walk.factors.axis(new) if old != new else axis
        for axis, old, new in zip(axes, before, shape, strict=True)
    ]


@rule("unsqueeze", "squeeze")
def _squeeze(walk: Walk, node: fx.Node) -> list[Axis]:
    return walk.factors.cut(walk.of(node.args[0]), axis_lengths(node))


@rule("select")
def _select(walk: Walk, node: fx.Node) -> list[Axis]:
    axes, dim = list(walk.of(node.args[0])), int(node.args[1])  # type: ignore[arg-type]
    walk.fix(axes.pop(dim))
    return axes


@rule("slice")
def _slice(walk: Walk, node: fx.Node) -> list[Axis]:
    axes, dim = list(walk.of(node.args[0])), int(argument_of(node, 1, 0))
    before, after = axis_lengths(node.args[0])[dim], axis_lengths(node)[dim]
    first = int(argument_of(node, 2, 0) or 0)
    aligned = int(argument_of(node, 4, 1)) == 1 and after and (first % before + before) % before % after == 0
    if aligned:
        axes[dim] = walk.part(axes[dim], before, after)
    else:
        walk.fix(axes[dim])
        axes[dim] = walk.factors.axis(after, fixed=True) if after else ()
    return axes


@rule("split", "split_with_sizes", "unbind")
def _split(walk: Walk, node: fx.Node) -> list[list[Axis]]:
    unbinds = "unbind" in str(node.target)
    axes, dim = walk.of(node.args[0]), int(argument_of(node, 1 if unbinds else 2, 0))
    length = axis_lengths(node.args[0])[dim]
    if unbinds:
        walk.fix(axes[dim])
        rest = [axis for i, axis in enumerate(axes) if i != dim % len(axes)]
        return [rest] * length
    sizes = [shape[dim] for shape in value_shapes(node) if shape is not None]
    found = []
    for size in sizes:
        if len(set(sizes)) == 1:
            piece = walk.part(axes[dim], length, size)
        else:
            walk.fix(axes[dim])
            piece = walk.factors.axis(size, fixed=True)
        found.append([piece if i == dim % len(axes) else axis for i, axis in enumerate(axes)])
    return found


@rule("cat")
def _cat(walk: Walk, node: fx.Node) -> list[Axis]:
    parts: list[Any] = [n for n in node.args[0] if 0 not in axis_lengths(n)]  # type: ignore[union-attr]
    ndim, dim = len(axis_lengths(node)), int(argument_of(node, 1, 0)) % len(axis_lengths(node))
    pieces = [walk.of(part)[dim] for part in parts]
    lengths = {axis_lengths(part)[dim] for part in parts}
    others = [[() if i == dim else axis for i, axis in enumerate(walk.of(part))] for part in parts]
    found = walk.joined(others, ndim)
    if len(parts) == 1:
        found[dim] = pieces[0]
    elif len(lengths) == 1 and all(pieces):
        for piece in pieces[1:]:
            walk.factors.tie(pieces[0], piece)
        found[dim] = walk.factors.axis(len(parts), fixed=True) + pieces[0]
    else:
        walk.fix(*pieces)
        found[dim] = walk.factors.axis(axis_lengths(node)[dim], fixed=True)
    return found


@rule("stack")
def _stack(walk: Walk, node: fx.Node) -> list[Axis]:
    ndim, dim = len(axis_lengths(node)), int(argument_of(node, 1, 0)) % len(axis_lengths(node))
    found = walk.joined([walk.of(part) for part in node.args[0]], ndim - 1)  # type: ignore[union-attr]
    found.insert(dim, walk.factors.axis(axis_lengths(node)[dim], fixed=True))
    return found


@rule("repeat")
def _repeat(walk: Walk, node: fx.Node) -> list[Axis]:
    times: Sequence[int] = node.args[1]  # type: ignore[assignment]
    axes = [()] * (len(times) - len(walk.of(node.args[0]))) + list(walk.of(node.args[0]))
    return [walk.factors.axis(n) + axis for n, axis in zip(times, axes, strict=True)]
