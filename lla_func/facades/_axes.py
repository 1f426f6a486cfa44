"""Directions that a caller gives in any form, as the rows of one matrix [K, P]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lla_func.errors import finite_tensor
from lla_func.facades._common import bridge
from lla_func.objective import Objective


def directions_from(axes: Any, objective: Objective) -> str | Tensor:
    """The directions [K, P] that ``axes`` stands for; a name, or a tensor, as it is.

    Args:
        axes: an array [K, P]; or a list with one item a direction: a vector [P]; named tensors, such as the difference
            of two state dicts, of which those that are not in theta are left out; a list of one tensor a parameter; or
            another model, for the direction from here to there. For a line the item alone will do.
        objective: with the layout of the directions, and the point that they start from.

    Raises:
        TypeError: an item is none of these.
        ValueError: its tensors are not those of theta.

    Example:
        >>> from lla_func import from_loss
        >>> here = from_loss(lambda p, _: p["a"].sum(), {"a": torch.zeros(2), "b": torch.zeros(1)})
        >>> directions_from([{"a": torch.ones(2), "b": torch.ones(1), "steps": torch.tensor(3)}], here)
        tensor([[1., 1., 1.]])
    """
    if isinstance(axes, (str, Tensor)):
        return axes
    if isinstance(axes, np.ndarray):
        return _tensor("axes", axes).to(objective.theta)
    items = list(axes) if isinstance(axes, (list, tuple)) else [axes]
    if not items:
        raise ValueError("axes is empty; pass a name, or one item for each direction")
    return torch.stack([_direction(f"axes[{i}]", item, objective) for i, item in enumerate(items)])


def _direction(name: str, item: Any, objective: Objective) -> Tensor:
    """One direction, [P]."""
    layout, theta = objective.layout, objective.theta
    if isinstance(item, (Tensor, np.ndarray)):
        vector = _tensor(name, item).to(theta)
        if vector.shape != theta.shape:
            raise ValueError(f"{name} has shape {list(vector.shape)}; a direction is a vector [{len(theta)}]")
        return vector
    if isinstance(item, (list, tuple)):
        if len(item) != len(layout.names):
            raise ValueError(
                f"{name} has {len(item)} tensors, the model has {len(layout.names)} parameters that move; pass one "
                "tensor for each, or named tensors"
            )
        item = dict(zip(layout.names, item, strict=True))
    if isinstance(item, Mapping):
        return _ravel(name, item, objective)
    if isinstance(item, torch.nn.Module):
        return _ravel(name, bridge().parameters_of(item), objective) - theta
    raise TypeError(
        f"{name} is of type {type(item).__name__}; a direction is a vector [P], named tensors, a list of one tensor a "
        "parameter, or another model"
    )


def theta_from(name: str, item: Any, objective: Objective) -> Tensor:
    """A point in weight space, [P], that is given as a vector or as named tensors.

    Raises:
        TypeError, ValueError: it is neither, or does not fit the objective.
    """
    if not isinstance(item, (Tensor, np.ndarray, Mapping)):
        raise TypeError(
            f"{name} is of type {type(item).__name__}; with an Objective pass vectors [P] or named tensors"
        )
    found = _direction(name, item, objective).detach()
    return finite_tensor(name, found, (len(objective.theta),))


def _ravel(name: str, tensors: Mapping[str, Any], objective: Objective) -> Tensor:
    """Named tensors as a vector [P]."""
    layout, found = objective.layout, {}
    for own, shape in zip(layout.names, layout.shapes, strict=True):
        if own not in tensors:
            raise ValueError(f"{name} lacks {own!r}, a parameter of the model that moves")
        found[own] = _tensor(f"{name}[{own!r}]", tensors[own]).detach().to(objective.theta)
        if found[own].shape != shape:
            raise ValueError(
                f"{name} has {own!r} of shape {list(found[own].shape)}, in the model it has {list(shape)}"
            )
    return layout.ravel(found)


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        return torch.from_numpy(value if value.flags.writeable else value.copy())
    what = f"of type {type(value).__name__}"
    if isinstance(value, np.ndarray):
        what = f"an array of {value.dtype}"
    raise TypeError(f"{name} is {what}; a tensor or an array of real numbers is needed")
