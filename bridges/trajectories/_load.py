"""A trajectory made of the checkpoints that a training left: files or state dicts, one in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bridges.models import layout_of, trainable, unwrap, weights
from bridges.trajectories._tensors import buffers_of, dtype_of, kept
from lla_func.errors import instance, shown
from lla_func.geometry import Recording, Trajectory, temporary


def load(
    checkpoints: Iterable[Any],
    *,
    like: nn.Module,
    steps: Sequence[int] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Trajectory:
    """A trajectory from the checkpoints of a training, one in memory at a time.

    Args:
        checkpoints: weights files, written by ``torch.save(model.state_dict(), path)``, or state dicts, in the order
            of training.
        like: the model that they belong to; it is not changed.
        steps: the step of each, increasing; 0, 1, 2, ... by default.
        folder: where to keep the trajectory; by default a temporary folder that goes with it.

    Raises:
        ValueError: there is none, a file is damaged or no weights file, or a checkpoint is of another model: the
            parameter that does not fit is named. So is one that is frozen in ``like`` and differs from it, since it
            would not be recorded, and losses along the path would be those of its value in ``like``.

    Example:
        >>> import torch
        >>> model = nn.Linear(2, 1)
        >>> path = load([model.state_dict(), model.state_dict()], like=model)
        >>> torch.equal(path.theta(0), torch.cat([model.weight[0], model.bias]))
        True
    """
    module = unwrap(like)
    parameters = trainable(module)
    buffers = buffers_of(module)
    every = dict(module.named_parameters(remove_duplicate=False))
    still = {name: x for name, x in every.items() if not x.requires_grad}
    tied = {name: x for name, x in every.items() if name not in parameters and name not in still}
    if isinstance(checkpoints, (str, bytes, os.PathLike, Mapping)) or not isinstance(checkpoints, Iterable):
        raise TypeError(
            f"checkpoints={shown(checkpoints)} is no list; pass weights files or state dicts in order"
        )
    numbers = None if steps is None else list(steps)
    place, held = (folder, None) if folder is not None else temporary()
    recording = Recording(place, layout_of(module), dtype_of(parameters), buffers=kept(buffers), like=module)
    count = 0
    try:
        for count, checkpoint in enumerate(checkpoints, start=1):
            if numbers is not None and count > len(numbers):
                raise ValueError(f"steps has {len(numbers)} numbers, checkpoints has more; pass one for each")
            state, source = _state(checkpoint, count - 1)
            recording.due(step := count - 1 if numbers is None else numbers[count - 1])
            taken = _taken(state, parameters, source)
            _check_still(state, still, source)
            _check_tied(state, tied, dict(zip(parameters, taken, strict=True)), parameters, source)
            recording.add(step, taken, _taken(state, buffers, source))
        if not count:
            raise ValueError("checkpoints is empty; pass at least one weights file or state dict")
        if numbers is not None and len(numbers) != count:
            raise ValueError(f"steps has {len(numbers)} numbers, checkpoints has {count}; pass one for each")
        return recording.finished(held)
    finally:
        recording.close()


def _state(checkpoint: Any, number: int) -> tuple[Mapping[str, Tensor], str]:
    """The named tensors of a checkpoint, and what to call it in messages."""
    if isinstance(checkpoint, (str, os.PathLike)):
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(f"there is no weights file {str(checkpoint)!r} (checkpoint {number})")
        return weights.read(checkpoint), f"weights file {str(checkpoint)!r}"
    instance(f"checkpoints[{number}]", checkpoint, Mapping, "a weights file or a state dict")
    return checkpoint, f"checkpoints[{number}]"


def _taken(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> list[Tensor]:
    """The tensors of these names in a state dict, in the dtypes of those here."""
    found = []
    for name, own in wanted.items():
        tensor = state.get(name)
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{source} is not of this model: it lacks {name!r}")
        if tensor.shape != own.shape:
            raise ValueError(
                f"{source} is not of this model: {name!r} has shape {list(tensor.shape)}, in the model "
                f"{list(own.shape)}"
            )
        found.append(tensor.detach().to(own.dtype))
    return found


def _check_still(state: Mapping[str, Tensor], still: Mapping[str, Tensor], source: str) -> None:
    """Raises a ValueError where a checkpoint moves what is frozen in the model."""
    given = {name: tensor for name, tensor in still.items() if name in state}
    for name, tensor in zip(given, _taken(state, given, source), strict=True):
        if not torch.equal(tensor.to(still[name].device), still[name]):
            raise ValueError(
                f"{source} has other values of {name!r}, which is frozen in the model and would not be recorded; let "
                "it move (requires_grad_(True)), or load these values into the model"
            )


def _check_tied(
    state: Mapping[str, Tensor],
    tied: Mapping[str, Tensor],
    taken: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    source: str,
) -> None:
    """Raises a ValueError where a checkpoint has two values of what is one tensor in the model."""
    names = {id(tensor): name for name, tensor in parameters.items()}
    for name, tensor in tied.items():
        own = names[id(tensor)]
        if name in state and not torch.equal(_taken(state, {name: tensor}, source)[0], taken[own]):
            raise ValueError(
                f"{source} has other values of {name!r} than of {own!r}, which are one tensor in the model"
            )
