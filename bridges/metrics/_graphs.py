"""Graphs of PyTorch Geometric as pytrees, so that their tensors can be moved, compared and followed as any others."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from lla_func.objective import Batch, samples


class Packed:
    """A graph of PyTorch Geometric, or a batch of them, as a pytree of its tensors."""

    def __init__(self, template: Any, tensors: Mapping[tuple[int, str], Tensor] | None = None) -> None:
        self.template = template
        found = {
            (number, str(key)): value
            for number, store in enumerate(template.stores)
            for key, value in store.items()
            if isinstance(value, Tensor)
        }
        self.tensors = dict(found if tensors is None else tensors)

    def graph(self) -> Any:
        """The graph, with these tensors."""
        made = copy.copy(self.template)
        stores = list(made.stores)
        for (number, key), tensor in self.tensors.items():
            stores[number][key] = tensor
        return made


class _Template:
    """What is left of a graph without its tensors; compared and printed by what it says."""

    def __init__(self, template: Any, keys: tuple[tuple[int, str], ...]) -> None:
        self.template, self.keys = template, keys

    def __repr__(self) -> str:
        rest = [
            (number, key, value)
            for number, store in enumerate(self.template.stores)
            for key, value in store.items()
            if not isinstance(value, Tensor)
        ]
        count = getattr(self.template, "num_graphs", 1)
        return f"{type(self.template).__name__}({count}, {self.keys}, {rest})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Template) and repr(self) == repr(other)

    __hash__ = None  # type: ignore[assignment]


def _flatten(graph: Packed) -> tuple[list[Tensor], _Template]:
    return list(graph.tensors.values()), _Template(graph.template, tuple(graph.tensors))


def _flatten_with_keys(graph: Packed) -> tuple[list[tuple[Any, Tensor]], _Template]:
    tensors, rest = _flatten(graph)
    keys: Iterable[Any] = (pytree.MappingKey(key) for _, key in rest.keys)
    return list(zip(keys, tensors, strict=True)), rest


def _unflatten(tensors: Iterable[Any], rest: _Template) -> Packed:
    return Packed(rest.template, dict(zip(rest.keys, tensors, strict=True)))


pytree.register_pytree_node(Packed, _flatten, _unflatten, flatten_with_keys_fn=_flatten_with_keys)


def packed(batch: Batch) -> Packed | None:
    """The first graph in a batch, if there is any."""
    found = pytree.tree_leaves(batch, is_leaf=lambda part: isinstance(part, Packed))
    return next((leaf for leaf in found if isinstance(leaf, Packed)), None)


def graphs_in(batch: Batch) -> int:
    """How many graphs a batch has, which its tensors do not say; the samples where there is no graph."""
    graph = packed(batch)
    return samples(batch) if graph is None else int(getattr(graph.template, "num_graphs", 1))
