"""Modes: how a borrowed module runs during one call, and how it is given back as it came."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.dropout import _DropoutNd

__all__ = ["Pose", "differentiable_attention", "evaluating", "has_dropout", "posed"]

Pose = Mapping[nn.Module, Mapping[str, Any]]
"""The attributes to set on each module for the time of a call, such as ``{"training": False}``."""


def evaluating(module: nn.Module, *, dropout: bool = False) -> dict[nn.Module, dict[str, Any]]:
    """The pose of a module in evaluation mode, every submodule included.

    Args:
        module: the module to pose.
        dropout: whether the layers that drop out stay in training mode: ``nn.Dropout`` and its relatives, and the
            dropout inside recurrent and attention layers. Dropout through the functional interface in a module of
            one's own stays off, since training mode may switch on anything else in such a module.
    """
    return {part: {"training": dropout and _drops_out(part)} for part in module.modules()}


def has_dropout(module: nn.Module) -> bool:
    """Whether any layer of the module can drop out."""
    return any(_drops_out(part) for part in module.modules())


def _drops_out(module: nn.Module) -> bool:
    if isinstance(module, _DropoutNd):
        return module.p > 0
    return isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and module.dropout > 0


@contextmanager
def posed(pose: Pose) -> Iterator[None]:
    """Sets attributes on modules, and afterwards gives every attribute of theirs back, come what may.

    A forward pass may leave traces in plain attributes: the old ``weight_norm`` stores the weight it computed,
    recurrent layers remember the list of their weights, others keep activations. All of that is undone, since it
    would otherwise keep tensors of another point in weight space (or of a transform that has ended) in the caller's
    model. What a pass does inside a container that an attribute refers to, such as appending to a list, is not undone.
    """
    before = [(module, dict(vars(module))) for module in pose]
    try:
        for module, attributes in pose.items():
            vars(module).update(attributes)
        yield
    finally:
        for module, attributes in before:
            present = vars(module)
            present.update(attributes)
            for name in present.keys() - attributes.keys():
                del present[name]


@contextmanager
def differentiable_attention() -> Iterator[None]:
    """Attention by plain matrix products, the only kernel with a batching rule and derivatives of every order.

    The fused encoder path (taken in evaluation mode) has neither; the fused attention kernels have one derivative.
    """
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
