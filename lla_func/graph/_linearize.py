"""Linearization by recording: what a derivative does to a tangent is written down once, then replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functionalize, jvp
from torch.utils import _pytree as pytree

from lla_func._torch import DispatchMode


class Slot(NamedTuple):
    """The place of a tensor that depends on the tangent; slot 0 is the tangent itself."""

    number: int


class Step(NamedTuple):
    """One operation of the replay: slots are filled in, everything else is a constant of the linearization."""

    operation: Callable[..., Any]
    inputs: list[Any]
    structure: pytree.TreeSpec
    outputs: list[int | None]


class DenseZeros(DispatchMode):
    """Makes torch's symbolic zero tangents ordinary tensors.

    Where an operand has no tangent torch computes with zeros that have no memory, which not every operation takes
    (the gradient of ``mse_loss`` in torch 2.14 is one).
    """

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation is torch.ops.aten._efficientzerotensor.default:
            operation = torch.ops.aten.zeros.default
        return operation(*args, **(kwargs or {}))


SLOT = "_lla_func_slot"
"""The attribute by which a recorder knows a tensor. It lives as long as its tensor, so none has to be kept alive."""


class _TangentRecorder(DenseZeros):
    """Writes down every operation that a tangent goes through, directly or not."""

    def __init__(self, tangent: Tensor) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.count = 0
        self._mark(tangent)

    def slot(self, tensor: Tensor) -> Slot | None:
        """The place of a tensor, None if it does not depend on the tangent."""
        recorder, slot = vars(tensor).get(SLOT, (None, None))
        return slot if recorder is self else None

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = super().__torch_dispatch__(operation, types, args, kwargs)
        inputs, structure = pytree.tree_flatten((args, kwargs))
        inputs = [(self.slot(x) or x) if isinstance(x, Tensor) else x for x in inputs]
        if any(isinstance(x, Slot) for x in inputs):
            # Functional form has done away with such operations; one that comes through would be replayed wrongly.
            if operation._schema.is_mutable or operation is torch.ops.aten.as_strided.default:
                raise RuntimeError(
                    f"{operation} depends on how tensors lie in memory, and cannot be replayed"
                )
            outputs = [self._mark(x) if isinstance(x, Tensor) else None for x in pytree.tree_leaves(result)]
            self.steps.append(Step(REPLAYED.get(operation, operation), inputs, structure, outputs))
        return result

    def _mark(self, tensor: Tensor) -> int:
        vars(tensor)[SLOT] = self, Slot(self.count)
        self.count += 1
        return self.count - 1


def _copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """The functional form of ``target.copy_(source)``."""
    return source.to(target.dtype).expand(target.shape)


# Operations that ask for a layout in memory which a batch of tangents may not have, or that cannot be batched at all,
# with others that give the same numbers.
REPLAYED: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.view.default: torch.ops.aten.reshape.default,
    torch.ops.aten._unsafe_view.default: torch.ops.aten.reshape.default,
    torch.ops.aten.copy.default: _copied,
}


def linearize(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor]:
    """The derivative of a function at x as a program of its own, v -> J v.

    The Jacobian-vector product is computed once, in forward mode. Of all its operations only those that the tangent
    passes through are kept, with what they need of the forward pass as constants; a replay repeats nothing else. This
    is ``torch.func.linearize`` (and JAX's) without the tracing of a graph: recording takes about as long as a
    few products instead of half a second, random numbers are drawn once, and memory is free as soon as the result is
    dropped.

    Args:
        function: maps a vector [P] to a tensor; any differentiable code with forward-mode rules.
        x: the point, [P].

    Returns:
        the linear map, which may be called any number of times, also under ``torch.func.vmap``.

    Raises:
        RuntimeError: an operation has no forward-mode derivative or cannot be replayed.

    Example:
        >>> product = linearize(torch.sin, torch.zeros(2))
        >>> product(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    tangent = torch.linspace(1, 2, len(x), dtype=x.dtype, device=x.device)
    with _TangentRecorder(tangent) as recorder:
        # Functional form turns writes into buffers, such as those of gradients of views, into operations with results.
        result = functionalize(lambda t: jvp(function, (x,), (t,))[1])(tangent)
    final = recorder.slot(result)
    if final is None:  # nothing of the tangent gets through
        product = _zero_like(result)
    else:
        product = _replay(_needed(recorder.steps, final.number), final.number)
    # A tensor that was lost sight of would have become a constant, and the replay not linear.
    off = product(tangent.mul_(-2)).add_(result, alpha=2)
    if not float(off.norm()) <= torch.finfo(x.dtype).eps ** 0.5 * 2 * float(result.norm()):
        raise RuntimeError("what the derivative does to a tangent could not be recorded in full")
    return product


def _zero_like(result: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda v: torch.zeros_like(result)


def _needed(steps: list[Step], final: int) -> list[Step]:
    """The steps that the final slot depends on."""
    wanted, kept = {final}, []
    for step in reversed(steps):
        if wanted.intersection(step.outputs):
            kept.append(step)
            wanted.update(x.number for x in step.inputs if isinstance(x, Slot))
    return kept[::-1]


def _replay(steps: list[Step], final: int) -> Callable[[Tensor], Tensor]:
    """The program that runs the steps, dropping each tensor after its last use."""
    last_use = {x.number: n for n, step in enumerate(steps) for x in step.inputs if isinstance(x, Slot)}
    finished: list[list[int]] = [[] for _ in steps]
    for number, n in last_use.items():
        finished[n].append(number)

    def product(v: Tensor) -> Tensor:
        values = {0: v}
        for step, done in zip(steps, finished, strict=True):
            inputs = [values[x.number] if isinstance(x, Slot) else x for x in step.inputs]
            args, kwargs = pytree.tree_unflatten(inputs, step.structure)
            result = step.operation(*args, **kwargs)
            for number, tensor in zip(step.outputs, pytree.tree_leaves(result), strict=True):
                if number is not None:
                    values[number] = tensor
            for number in done:
                del values[number]
        return values[final]

    return product
