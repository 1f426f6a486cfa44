"""What of a model is kept in a trajectory: its trainable parameters, and the buffers that its state dict has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lla_func.geometry import Kept

Places = list[tuple[dict[str, Any], str, str]]
"""Where tensors are found: a module's registry, the name there, and the name in the model."""


def dtype_of(parameters: Mapping[str, Tensor]) -> torch.dtype:
    """The one dtype of the parameters."""
    (first, tensor), *others = parameters.items()
    for name, other in others:
        if other.dtype != tensor.dtype:
            raise ValueError(
                f"{name!r} of the model has dtype {other.dtype}, {first!r} {tensor.dtype}; a trajectory has one dtype: "
                "convert the model (model.to(...)), or freeze those of the other"
            )
    return tensor.dtype


def buffers_of(module: nn.Module) -> dict[str, Tensor]:
    """The buffers that a state dict has, tied ones once."""
    every = dict(module.named_buffers())
    return {name: x for name, x in module.state_dict(keep_vars=True).items() if name in every and x.numel()}


def kept(buffers: Mapping[str, Tensor]) -> list[Kept]:
    return [Kept(k, tuple(x.shape), str(x.dtype).removeprefix("torch.")) for k, x in buffers.items()]


def places_of(module: nn.Module, tensors: Mapping[str, Tensor]) -> Places:
    """Where the tensors of these names are; looked up once, since it takes a walk over the model."""
    places: Places = []
    for name in tensors:
        path, _, own = name.rpartition(".")
        owner = module.get_submodule(path)
        registry: Any = owner._parameters if own in owner._parameters else owner._buffers
        places.append((registry, own, name))
    return places
