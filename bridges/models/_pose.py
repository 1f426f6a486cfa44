"""Poses: how a borrowed module runs during one call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import _get_current_dispatch_mode

from lla_func._torch import math_attention

Pose = Mapping[nn.Module, Mapping[str, Any]]
"""The attributes to set on each module for the time of a call, such as ``{"training": False}``."""


def evaluating(module: nn.Module, *, dropout: bool = False) -> dict[nn.Module, dict[str, Any]]:
    """The pose of a module in evaluation mode, every submodule included.

    Args:
        module: the module to pose.
        dropout: whether layers that drop out are in training mode: ``nn.Dropout`` and its relatives, and the
            recurrent and attention layers with dropout inside. Modules of one's own that call ``F.dropout`` are not,
            since training mode may switch on anything else in them.

    Transformer encoders do not make ragged tensors of padded sequences: those put zeros at padded places, which no
    derivative does, so that the loss would be another one than that whose derivatives are taken.
    """
    pose: dict[nn.Module, dict[str, Any]] = {
        part: {"training": dropout and drops_out(part)} for part in module.modules()
    }
    for part, attributes in pose.items():
        if isinstance(part, nn.TransformerEncoder):
            attributes["use_nested_tensor"] = False
    return pose


def drops_out(module: nn.Module) -> bool:
    """Whether the module itself is a layer that can drop out."""
    if isinstance(module, _DropoutNd):
        return module.p > 0
    if isinstance(
        module, nn.TransformerEncoderLayer
    ):  # its fused path, in evaluation mode, leaves out all dropout
        return any(map(drops_out, module.children()))
    return isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) and module.dropout > 0


def differentiated(parameters: Iterable[Tensor]) -> bool:
    """Whether derivatives of what is computed from parameters are taken, or a transform of torch.func is at work."""
    return any(
        tensor.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
        for tensor in parameters
    )


def attention_for(parameters: Iterable[Tensor]) -> Any:
    """Attention by kernels that can do what is asked of a function of the parameters, as a context.

    For plain parameters, which nobody differentiates, batches or traces, nothing changes. Otherwise attention is made
    of matrix products (:func:`lla_func._torch.math_attention`). For plain ones that would cost: 3 times the
    attention, 1.3 to 1.5 times an encoder layer on the CPU, and memory quadratic in the length of the sequence.
    """
    if _get_current_dispatch_mode() is None and not differentiated(parameters):
        return nullcontext()
    return math_attention()
