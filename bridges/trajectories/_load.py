"""A trajectory made of the checkpoints that a training left: files or state dicts, one in memory at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
            parameter that does not fit is named.

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
            recording.add(step, _taken(state, parameters, source), _taken(state, buffers, source))
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
