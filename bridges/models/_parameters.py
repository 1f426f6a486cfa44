"""What a module has to move: its trainable parameters, and how they lie in theta."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.parameter import is_lazy

from bridges.models._wrapper import ModelWrapper
from lla_func.objective import Layout

NORMS: tuple[type[nn.Module], ...] = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def unwrap(model: Any) -> nn.Module:
    """The module itself, without the shells of data parallelism, torch.compile or a model wrapper.

    Raises:
        TypeError: it is not an ``nn.Module``, or one whose parameters cannot be swapped (scripted, sharded).
    """
    while True:
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):  # torch.compile
            model = model._orig_mod
        elif isinstance(model, ModelWrapper):
            model = model.model
        else:
            break
    if not isinstance(model, nn.Module):
        what = "a class; pass an instance" if isinstance(model, type) else f"of type {type(model).__name__}"
        raise TypeError(f"model is {what}; a torch.nn.Module is needed")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError(
            "model is a scripted module, whose parameters cannot be swapped; pass the original module"
        )
    if any(base.__name__ == "FullyShardedDataParallel" for base in type(model).__mro__) or any(
        type(parameter).__name__ == "DTensor" for parameter in model.parameters()
    ):
        raise TypeError(
            "model is sharded (FSDP), so no process has all its parameters; load a full state dict into the "
            "plain module"
        )
    return model


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that make up theta: those with ``requires_grad``, in the model's order, tied ones once.

    Raises:
        ValueError: there are none, or one is not initialized yet.
    """
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if is_lazy(tensor) or tensor.device.type == "meta":
            raise ValueError(
                f"{name!r} of the model has no values yet; run the model once, or load its weights"
            )
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not parameters:
        raise ValueError(
            "model has no parameter with requires_grad=True; set it on those that span the landscape "
            "(model.requires_grad_(True))"
        )
    return parameters


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """The parameters of a model by name, tied ones under each of theirs."""
    return {name: p.detach() for name, p in unwrap(model).named_parameters(remove_duplicate=False)}


def layout_of(model: nn.Module) -> Layout:
    """How the trainable parameters of a model lie in theta, with the role and the filters of each.

    Example:
        >>> layout_of(nn.Sequential(nn.ConvTranspose2d(3, 5, 2), nn.BatchNorm2d(5))).filter_axes
        (1, None, None, None)
    """
    roles: dict[str, str] = {}
    axes: dict[str, int | None] = {}
    for name in (parameters := trainable(model)):
        owner, own = _place(model, name)
        if isinstance(owner, NORMS):
            roles[name] = "norm"
        elif own == "bias" or own.startswith("bias_") or own.endswith("_bias"):
            roles[name] = "bias"
        elif isinstance(owner, _ConvTransposeNd) and parameters[name].ndim > 1:
            axes[name] = _filter_axis(owner)
    return Layout.of(parameters, roles=roles, filter_axes=axes)


def _filter_axis(layer: _ConvTransposeNd) -> int | None:
    """The axis of a transposed convolution's weights [in, out / groups, ...] that counts its filters.

    Depthwise layers have a filter for each input; other groups have no such axis, and their weights count as one.
    """
    if layer.groups == 1:
        return 1
    return 0 if layer.groups == layer.in_channels == layer.out_channels else None


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The layer a parameter belongs to and its name there, seen through parametrizations."""
    path = name.split(".")
    if "parametrizations" in path:  # layer.parametrizations.weight.original0
        at = path.index("parametrizations")
        return model.get_submodule(".".join(path[:at])), path[at + 1]
    return model.get_submodule(".".join(path[:-1])), path[-1]
