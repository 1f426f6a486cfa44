"""Proof that nothing was left behind: the state of a model and of the random generators, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything a use of the model must leave alone, copied.

    Parameters and buffers with their identity, gradients, ``requires_grad``, the plain attributes of every
    submodule (the training flag among them), and the global states of torch, numpy and random.
    """
    state: dict[str, Any] = {
        "rng torch": torch.get_rng_state(),
        "rng numpy": np.random.get_state(),  # noqa: NPY002
        "rng python": random.getstate(),
        "attention fast path": torch.backends.mha.get_fastpath_enabled(),
        "grad enabled": torch.is_grad_enabled(),
    }
    if torch.cuda.is_available():
        state["rng cuda"] = torch.cuda.get_rng_state_all()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        state[f"parameter {name}"] = (id(parameter), parameter.detach().clone(), parameter.requires_grad)
        state[f"version {name}"] = parameter._version
        grad = parameter.grad
        state[f"grad {name}"] = None if grad is None else (id(grad), grad.detach().clone())
    for name, buffer in model.named_buffers(remove_duplicate=False):
        state[f"buffer {name}"] = (id(buffer), buffer.detach().clone())
    for name, module in model.named_modules():
        for key, value in vars(module).items():
            if key in ("_parameters", "_buffers", "_modules"):
                state[f"{key} of {name}"] = [(k, id(v)) for k, v in value.items()]
            elif isinstance(value, Tensor):
                state[f"{key} of {name}"] = (id(value), value.detach().clone())
            else:
                state[f"{key} of {name}"] = (
                    (id(value), value) if isinstance(value, (bool, int, str)) else id(value)
                )
    return state


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what is not bit for bit the same."""
    return sorted(
        key
        for key in before.keys() | after.keys()
        if not _same(before.get(key, before), after.get(key, after))
    )


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Asserts that the block leaves the model and the random generators as they were, also if it raises."""
    before = snapshot(model)
    try:
        yield
    finally:
        assert differences(before, snapshot(model)) == []


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, (Tensor, np.ndarray)):
        a, b = torch.as_tensor(a), torch.as_tensor(b)
        return a.dtype == b.dtype and a.shape == b.shape and bool(torch.equal(_bits(a), _bits(b)))
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def _bits(tensor: Tensor) -> Tensor:
    """The raw bytes, so that NaN equals itself and -0 differs from 0."""
    return tensor.contiguous().cpu().reshape(-1).view(torch.uint8) if tensor.numel() else tensor.cpu()
