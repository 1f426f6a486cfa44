"""Chains of views: what a chain of reshapes and transpositions comes to, found by sending indices through it.

A framework's attention takes its heads apart by a dozen operations that move data two or three times, though the result
is a plain strided view of the projection that it starts from. Numbering the elements of that projection and sending the
numbers through the chain shows it: if they come out as offset + sum_d stride_d i_d, one ``as_strided`` does it all.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, fx

from lla_func.graph._affine import VIEWS
from lla_func.graph._record import arguments, shape_of

__all__ = ["Strided", "strided"]

aten = torch.ops.aten

MOVES = VIEWS | {aten._unsafe_view.default, aten.clone.default}
"""Operations that rearrange the elements of argument 0, or choose among them, by positions alone."""

FRESH = frozenset({aten.mm.default, aten.addmm.default})
"""Operations whose results are dense, row after row."""


class Strided(NamedTuple):
    """A value as a view of a dense one."""

    root: fx.Node
    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int


def strided(node: fx.Node) -> Strided | None:
    """A value as a strided view of the matrix product that it is made of; None if it isn't one.

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


def _second(numbers: Tensor, axis: int) -> Tensor:
    """The element after the first one along an axis."""
    return numbers[tuple(int(i == axis) for i in range(numbers.ndim))]
