"""The forms that data come in, and how each is divided between the model and the criterion.

    what comes                      goes into the model         goes to the criterion
    (inputs, targets)               model(inputs)               criterion(prediction, targets)
    (a, b, ..., targets)            model(a, b, ...)            criterion(prediction, targets)
    a dict or any other mapping     model(**batch)              criterion(prediction)
    a tensor, or (inputs,)          model(inputs)               criterion(prediction)
    a graph with ``y``              model(graph)                criterion(prediction, graph.y)

Where the criterion is a function whose first argument is called ``model``, it gets the model and the batch, whatever
that is. Where it is None, all of the batch goes into the model, whose output has to hold the loss.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bridges.metrics._reduction import known
from lla_func.objective import Batch, samples

__all__ = [
    "Packed",
    "check_alone",
    "divided",
    "form_of",
    "graphs_in",
    "judged_by",
    "loss_in",
    "opened",
    "output_of",
    "packed",
    "takes_model",
    "translated",
]

MODEL = ("model", "module", "net", "network")
"""What the first argument of a function is called that wants the model instead of its prediction."""


def takes_model(criterion: Any) -> bool:
    """Whether it is a function ``fn(model, batch)``, by the name of its first argument.

    Example:
        >>> takes_model(lambda model, batch: model(batch).sum()), takes_model(lambda p, y: (p - y).sum())
        (True, False)
    """
    return not isinstance(criterion, (nn.Module, type)) and next(iter(_parameters(criterion)), "") in MODEL


def form_of(criterion: Any) -> str:
    """What batches become for a criterion: ``"pair"`` or ``"whole"`` (:func:`bridges.metrics.formed`)."""
    return "whole" if criterion is None or takes_model(criterion) else "pair"


def check_alone(criterion: Any) -> None:
    """Raises a TypeError unless the criterion can do with a prediction alone."""
    function = criterion.forward if isinstance(criterion, nn.Module) else criterion
    needed = [p for p in _parameters(function).values() if p.default is p.empty and p.kind in (0, 1)]
    if known(criterion) or len(needed) > 1:
        raise TypeError(
            "the criterion takes a prediction and targets, but the data have no targets; pass targets=..., or a "
            "function fn(model, batch) that returns the loss, or criterion=None if the model's output holds it"
        )


def judged_by(criterion: Callable[..., Any], prediction: Any, targets: Any) -> Any:
    """The loss of a prediction, given the targets if there are any.

    Raises:
        ValueError: the targets don't fit.
    """
    try:
        return criterion(prediction) if targets is None else criterion(prediction, targets)
    except IndexError as error:
        shape = list(prediction.shape) if isinstance(prediction, Tensor) else type(prediction).__name__
        raise ValueError(
            f"targets don't fit the model's predictions of shape {shape}: {error} Look at the number of classes"
        ) from error


def loss_in(output: Any) -> Any:
    """The loss that a model's output is or holds: a tensor without axes, ``.loss``, ``["loss"]`` or its first item.

    Raises:
        TypeError: there is none.
    """
    held: Any = output
    if isinstance(output, Mapping):
        held = output.get("loss")
    elif isinstance(output, (tuple, list)):
        held = output[0] if output else None
    elif hasattr(output, "loss"):
        held = output.loss
    if isinstance(held, (int, float)) or (isinstance(held, Tensor) and held.ndim == 0):
        return held
    raise TypeError(
        f"the output of type {type(output).__name__} holds no loss (a scalar, .loss or ['loss']); does the model get "
        "its labels? Else pass a criterion, or a function fn(model, batch) that returns the loss"
    )


def output_of(model: Callable[..., Any], inputs: Any) -> Any:
    """What a model gives for a tensor, a tuple of positional inputs or a dict of named ones."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def divided(item: Any) -> tuple[Any, Any]:
    """The pair (inputs, targets) in what a loader yields, targets None where there are none.

    Example:
        >>> a, b, y = torch.zeros(2), torch.ones(2), torch.ones(2)
        >>> [type(part).__name__ for part in divided((a, b, y))]
        ['tuple', 'Tensor']
    """
    item = translated(item)
    if isinstance(item, Packed):
        targets = getattr(item.template, "y", None)
        return item, targets if isinstance(targets, Tensor) else None
    if not isinstance(item, (tuple, list)):
        return item, None
    if len(item) < 3:
        return item[0], item[1] if len(item) == 2 else None
    return tuple(item[:-1]), item[-1]


def translated(tree: Any) -> Any:
    """The same data with arrays as tensors, mappings as dicts and graphs as pytrees.

    Raises:
        TypeError: an array of something else than numbers.
    """
    if isinstance(tree, (Tensor, Packed)) or tree is None:
        return tree
    if isinstance(tree, np.ndarray):
        try:
            return torch.from_numpy(tree if tree.flags.writeable else tree.copy())
        except TypeError as error:
            raise TypeError(
                f"the data have an array of dtype {tree.dtype}, which tensors can't hold; turn it into numbers"
            ) from error
    if isinstance(tree, Mapping):
        return {key: translated(value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*map(translated, tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(map(translated, tree))
    return Packed(tree) if hasattr(tree, "stores") and hasattr(tree, "to") else tree


class Packed:
    """A graph of PyTorch Geometric, or a batch of them, as a pytree of its tensors.

    So that they can be moved, compared and followed through a computation like those of any other data.
    """

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

    @property
    def count(self) -> int:
        """How many graphs it holds."""
        return int(getattr(self.template, "num_graphs", 1))


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
    return [
        (pytree.MappingKey(key), tensor) for (_, key), tensor in zip(rest.keys, tensors, strict=True)
    ], rest


def _unflatten(tensors: Iterable[Any], rest: _Template) -> Packed:
    return Packed(rest.template, dict(zip(rest.keys, tensors, strict=True)))


pytree.register_pytree_node(Packed, _flatten, _unflatten, flatten_with_keys_fn=_flatten_with_keys)


def opened(tree: Any) -> Any:
    """The same data with graphs as the model knows them."""
    if isinstance(tree, Packed):
        return tree.graph()
    if type(tree) in (tuple, list):
        return type(tree)(opened(part) for part in tree)
    return {key: opened(part) for key, part in tree.items()} if type(tree) is dict else tree


def packed(batch: Batch) -> Packed | None:
    """The first graph in a batch, if there is any."""
    found = pytree.tree_leaves(batch, is_leaf=lambda part: isinstance(part, Packed))
    return next((leaf for leaf in found if isinstance(leaf, Packed)), None)


def graphs_in(batch: Batch) -> int:
    """How many graphs a batch has, which its tensors don't say; the samples where there is no graph."""
    graph = packed(batch)
    return samples(batch) if graph is None else graph.count


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a function, none where Python doesn't know them."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
