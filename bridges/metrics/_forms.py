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

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bridges.metrics._graphs import Packed


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
    """The same data with arrays (of numbers, else a TypeError) as tensors, mappings as dicts and graphs as pytrees."""
    if isinstance(tree, (Tensor, Packed)) or tree is None:
        return tree
    if isinstance(tree, np.ndarray):
        try:
            return torch.from_numpy(tree if tree.flags.writeable else tree.copy())
        except TypeError as error:
            raise TypeError(
                f"the data have an array of dtype {tree.dtype}, which tensors cannot hold; turn it into numbers"
            ) from error
    if isinstance(tree, Mapping):
        return {key: translated(value) for key, value in tree.items()}
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*map(translated, tree))
    if isinstance(tree, (tuple, list)):
        return type(tree)(map(translated, tree))
    return Packed(tree) if hasattr(tree, "stores") and hasattr(tree, "to") else tree


def opened(tree: Any) -> Any:
    """The same data with graphs as the model knows them."""
    if isinstance(tree, Packed):
        return tree.graph()
    if type(tree) in (tuple, list):
        return type(tree)(opened(part) for part in tree)
    return {key: opened(part) for key, part in tree.items()} if type(tree) is dict else tree
