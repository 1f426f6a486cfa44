"""What derivatives of every order need of PyTorch: plain kernels, full precision, errors that name the operation."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.autograd import forward_ad

from lla_func.interruptions import noticed
from lla_func.precision import full_precision, without_autocast
from lla_func.switches import math_attention

__all__ = ["differentiable", "explained", "load_forward_mode"]


@contextmanager
def differentiable() -> Iterator[None]:
    """The settings for derivatives, restored afterwards.

    Gradients are recorded whatever the caller's mode, float32 keeps all its bits, and attention is computed by plain
    matrix products (:func:`lla_func.switches.math_attention`).
    """
    with noticed(), torch.inference_mode(False), torch.enable_grad():  # noqa: SIM117
        with full_precision(), without_autocast(), math_attention():
            yield


def load_forward_mode() -> None:
    """Makes torch load its forward-mode rules now, without the deprecation warnings that some versions give once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with forward_ad.dual_level():
            forward_ad.make_dual(torch.zeros(()), torch.zeros(()))


# What torch says, and what it means for a Hessian; "operation" is the name to look for in the model.
CAUSES = (
    (r"CuDNN RNN|_cudnn_rnn", "the fused GPU kernel of an RNN has no second derivative", "_cudnn_rnn"),
    (
        r"derivative for '?(?:aten::)?(?P<operation>\w+)'? is not implemented",
        "it has no second derivative",
        None,
    ),
    (
        r"forward AD with (?:aten::)?(?P<operation>\w+) that does not support it",
        "it has no forward-mode derivative",
        None,
    ),
    (
        r"(?:B|b)atching rule not implemented for (?:aten::)?(?P<operation>[\w.]+)",
        "it can not be batched over vectors",
        None,
    ),
    (
        r"must override the setup_context staticmethod|vmap staticmethod|jvp staticmethod|must implement.*jvp",
        "it is written without setup_context, which forward mode needs",
        "a custom autograd.Function",
    ),
    (
        r"once_differentiable|differentiate twice",
        "its backward is marked as differentiable once only",
        "a custom autograd.Function",
    ),
    (r"saved tensor hooks", "forward mode can not go through it", "activation checkpointing"),
    (
        r"aot_autograd does not currently support double backward",
        "compiled code has no second derivative; pass the original module, before torch.compile",
        "torch.compile",
    ),
)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns torch's errors about missing derivatives into one that names the operation and the ways out.

    Args:
        what: the product that is being computed, for the message.

    Raises:
        RuntimeError: an operation lacks a derivative. All other errors pass unchanged.
    """
    try:
        yield
    except RuntimeError as error:  # NotImplementedError is one of these
        for pattern, meaning, operation in CAUSES:
            if found := re.search(pattern, str(error)):
                raise RuntimeError(
                    f"{what} stopped at {operation or found['operation']}: {meaning}. Ways out: kernel='vjp', which "
                    "needs no forward-mode rule; an equivalent built from basic operations (embedding and sum in place "
                    "of EmbeddingBag); torch.backends.cudnn.flags(enabled=False) around the call for RNNs on the GPU; "
                    "parameters=... to leave out what lies behind it; products.finite_difference as a last resort"
                ) from error
        raise
