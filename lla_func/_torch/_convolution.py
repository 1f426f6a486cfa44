"""Convolutions whose second derivative takes the operations of the first.

A convolution is linear in its input and in its weight, so its second derivative consists of convolutions of the same
shape. torch's own writes those for the weight as convolutions with a kernel as large as the image, with a result that
lies in memory transposed: on ResNet-18 a product takes a quarter longer with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad
from torch.nn import functional

CONVOLUTIONS = {functional.conv1d: 1, functional.conv2d: 2, functional.conv3d: 3}
"""The functions, with the axes of an image that they take."""


def convolution(
    axes: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """The convolution; None where it is left to torch: within its transforms, and without a batch or a gradient."""
    if (
        torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
        or not torch.is_grad_enabled()
        or not (input.requires_grad or weight.requires_grad)
        or input.ndim != axes + 2
        or isinstance(padding, str)
        or input.dtype != weight.dtype
    ):
        return None
    settings = *(_each(value, axes) for value in (stride, padding, dilation)), groups
    return _Convolution.apply(input, weight, bias, settings)


def _each(value: Any, axes: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * axes if len(values) == 1 else values


def _forward(x: Tensor, weight: Tensor, bias: Tensor | None, settings: Any) -> Tensor:
    stride, padding, dilation, groups = settings
    return torch.convolution(x, weight, bias, stride, padding, dilation, False, [0] * len(stride), groups)


def _backward(g: Tensor, x: Tensor, weight: Tensor, settings: Any, wanted: tuple[bool, bool]) -> Any:
    stride, padding, dilation, groups = settings
    return torch.ops.aten.convolution_backward(
        g, x, weight, None, stride, padding, dilation, False, [0] * len(stride), groups, [*wanted, False]
    )[:2]


class _Convolution(Function):
    """The convolution of x [N, I, ...] with a weight [O, I / groups, ...]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, settings: Any) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.settings = settings
        return _forward(x, weight, bias, settings)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad[:3]
        slopes = None, None
        if of_x or of_weight:
            # In a block of products, where no graph is asked for, torch's transforms go through plain operations only.
            plain = torch._C._functorch.peek_interpreter_stack() is not None
            slope = _backward if plain else _Slopes.apply
            slopes = slope(g, x, weight, ctx.settings, (of_x, of_weight))
        return *slopes, g.sum((0, *range(2, g.ndim))) if of_bias else None, None


class _Slopes(Function):
    """The derivatives of a convolution with respect to input and weight, times g."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, settings: Any, wanted: Any) -> Any:
        ctx.save_for_backward(g, x, weight)
        ctx.settings = settings
        ctx.set_materialize_grads(False)
        return _backward(g, x, weight, settings, wanted)

    @staticmethod
    def backward(ctx: Any, u: Tensor | None, v: Tensor | None) -> Any:
        g, x, weight = ctx.saved_tensors
        of_g, of_x, of_weight = ctx.needs_input_grad[:3]
        along = None
        if of_g and u is not None:
            along = _forward(u, weight, None, ctx.settings)
        if of_g and v is not None:
            other = _forward(x, v, None, ctx.settings)
            along = other if along is None else along + other
        wanted = of_x and v is not None, of_weight and u is not None
        if not any(wanted):
            return along, None, None, None, None
        # That of the input depends on the weight alone, and that of the weight on the input alone.
        slopes = _backward(g, x if u is None else u, weight if v is None else v, ctx.settings, wanted)
        return along, *slopes, None, None
