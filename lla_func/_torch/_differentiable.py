"""What derivatives of every order need of PyTorch: plain kernels, full precision, errors that name the operation."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from lla_func._torch._convolution import CONVOLUTIONS, convolution
from lla_func._torch._interruptions import noticed
from lla_func._torch._precision import full_precision, without_autocast
from lla_func._torch._switches import math_attention


@contextmanager
def differentiable() -> Iterator[None]:
    """The settings for derivatives, restored afterwards.

    Gradients are recorded whatever the caller's mode, float32 keeps all its bits, and attention is computed by plain
    matrix products (:func:`lla_func._torch.math_attention`).
    """
    with noticed(), torch.inference_mode(False), torch.enable_grad():  # noqa: SIM117
        with full_precision(), without_autocast(), math_attention(), _Composite():
            yield


@contextmanager
def replaying() -> Iterator[None]:
    """The settings for products of a graph that is kept, on the CPU: those of :func:`differentiable` that matter there.

    All of them take a tenth of a product of a small network.
    """
    with torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():  # noqa: SIM117
        with torch.enable_grad(), without_autocast():
            yield


def load_forward_mode() -> None:
    """Makes torch load its forward-mode rules now, without the deprecation warnings that some versions give once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(()), torch.zeros(()))


class _Composite(TorchFunctionMode):
    """Operations by their formulas where the second derivative of torch's fused kernel is wrong, or slow.

    That of weight normalization is wrong (torch 2.14). Batch normalization by running statistics is an affine map,
    whose derivatives are products; torch's take as long as those of batch statistics. For convolutions see there.
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch._weight_norm:
            return _weight_norm(*args, **(kwargs or {}))
        # A checkpoint runs again in the backward pass, where this mode does not see it, and must keep the same tensors.
        if torch._C._autograd._top_saved_tensors_default_hooks(True) is not None:
            return function(*args, **(kwargs or {}))
        if function is functional.batch_norm and (found := _batch_norm(*args, **(kwargs or {}))) is not None:
            return found
        axes = CONVOLUTIONS.get(function)
        if axes is not None and (found := convolution(axes, *args, **(kwargs or {}))) is not None:
            return found
        return function(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor | None:
    """Batch normalization by running statistics; None where it is another, or numbers are of several precisions."""
    x, mean, variance = input, running_mean, running_var
    given = [part for part in (mean, variance, weight, bias) if part is not None]
    if training or mean is None or variance is None or any(part.dtype != x.dtype for part in given):
        return None
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else weight * scale
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = (1, -1, *[1] * (x.ndim - 2))
    return torch.addcmul(shift.view(shape), x, scale.view(shape))


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    if dim == -1:  # the whole tensor, as torch means it
        return v * (g / torch.linalg.vector_norm(v))
    others = [axis for axis in range(v.ndim) if axis != dim]
    return v * (g / (torch.linalg.vector_norm(v, dim=others, keepdim=True) if others else v.abs()))


class Cause(NamedTuple):
    """What torch says, and what it means for a Hessian.

    Attributes:
        pattern: of torch's words; a group "operation" is the name to look for in the model.
        meaning: what is missing.
        operation: its name, where the words don't say it.
        forward: whether only forward mode misses it, so that kernel='vjp' does without.
    """

    pattern: str
    meaning: str
    operation: str | None = None
    forward: bool = False


CUSTOM = "a custom autograd.Function"
CAUSES = (
    Cause(r"CuDNN RNN|_cudnn_rnn", "the fused GPU kernel of an RNN has no second derivative", "_cudnn_rnn"),
    Cause(
        r"derivative for '?(?:aten::)?(?P<operation>\w+)'? is not implemented", "it has no second derivative"
    ),
    Cause(
        r"forward AD with (?:aten::)?(?P<operation>\w+) that does not support it",
        "it has no forward-mode derivative",
        forward=True,
    ),
    Cause(
        r"(?:B|b)atching rule not implemented for (?:aten::)?(?P<operation>[\w.]+)",
        "it cannot be batched over vectors; pass blocks='rows'",
    ),
    Cause(
        r"must override the setup_context staticmethod|vmap staticmethod|jvp staticmethod|must implement.*jvp",
        "it is written without setup_context, which forward mode needs",
        CUSTOM,
        forward=True,
    ),
    Cause(
        r"once_differentiable|differentiate twice",
        "its backward is marked as differentiable once only; write that in differentiable operations",
        CUSTOM,
    ),
    Cause(
        r"saved tensor hooks", "forward mode cannot go through it", "activation checkpointing", forward=True
    ),
    Cause(
        r"aot_autograd does not currently support double backward",
        "compiled code has no second derivative; pass the original module, before torch.compile",
        "torch.compile",
    ),
)
INSTEAD = {
    "embedding_bag": "nn.Embedding and a sum (or mean) over its results in place of EmbeddingBag",
    "hardsigmoid": "F.relu6(x + 3) / 6 in place of hardsigmoid",
    "hardswish": "x * F.relu6(x + 3) / 6 in place of hardswish",
    "ctc_loss": "the forward recursion of CTC written with logsumexp, or parameters=... that lie behind nothing but it",
    "cudnn_rnn": "torch.backends.cudnn.flags(enabled=False) around the call",
    "rnn_layer": "a loop over nn.LSTMCell (or GRUCell, RNNCell)",
    "cdist": "(a[..., :, None, :] - b[..., None, :, :]).norm(p, -1) in place of cdist",
}
"""What to write in place of an operation, by a part of its name."""


@contextmanager
def explained(what: str, *, tried: Collection[str] = ()) -> Iterator[None]:
    """Turns torch's errors about missing derivatives into one that names the operation and the ways out of it.

    Args:
        what: the product that is being computed, for the message.
        tried: the kernels that have been tried; none of them is advised.

    Raises:
        RuntimeError: an operation lacks a derivative. All other errors pass unchanged.
    """
    try:
        yield
    except RuntimeError as error:  # NotImplementedError is one of these
        for cause in CAUSES:
            if found := re.search(cause.pattern, str(error)):
                operation = cause.operation or found["operation"]
                ways = ["kernel='vjp', which needs no forward-mode rule"] * (
                    cause.forward and "vjp" not in tried
                )
                ways += [way for part, way in INSTEAD.items() if part in operation]
                ways.append("products.finite_difference (curvature='finite_difference') as a last resort")
                raise RuntimeError(
                    f"{what} stopped at {operation}: {cause.meaning}. Ways out: {'; '.join(ways)}"
                ) from error
        raise
