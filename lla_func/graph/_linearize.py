"""Linearization by recording: what a derivative does to a tangent is written down once, then replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.func import functionalize, jvp

from lla_func._torch import DispatchMode
from lla_func.graph._codegen import generate
from lla_func.graph._record import Recorder, record

aten = torch.ops.aten


class DenseZeros(DispatchMode):
    """Makes torch's symbolic zero tangents ordinary tensors.

    Where an operand has no tangent torch computes with zeros that have no memory, which not every operation takes
    (the gradient of ``mse_loss`` in torch 2.14 is one).
    """

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation is aten._efficientzerotensor.default:
            operation = aten.zeros.default
        return operation(*args, **(kwargs or {}))


class _TangentRecorder(Recorder):
    """Writes down what the tangent goes through; the rest, such as random numbers, happens once and is constant."""

    def refuse(self, operation: Any, args: Any, kwargs: Any, *, recorded: bool) -> None:
        """Functional form has done away with such operations; one that comes through would be replayed wrongly."""
        if recorded and (operation._schema.is_mutable or operation is aten.as_strided.default):
            raise RuntimeError(f"{operation} depends on how tensors lie in memory, and cannot be replayed")


def _copied(target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """The functional form of ``target.copy_(source)``."""
    return source.to(target.dtype).expand(target.shape)


# Operations that ask for a layout in memory which a batch of tangents may not have, or that cannot be batched at all,
# with others that give the same numbers.
REPLAYED: dict[Any, Callable[..., Any]] = {
    aten.view.default: aten.reshape.default,
    aten._unsafe_view.default: aten.reshape.default,
    aten.copy.default: _copied,
}


def linearize(
    function: Callable[[tuple[Tensor, ...]], Tensor], point: tuple[Tensor, ...]
) -> Callable[[Tensor], Tensor]:
    """The derivative of a function at x as a program of its own, v -> J v.

    The Jacobian-vector product is computed once, in forward mode. Of all its operations only those that the tangent
    passes through are kept, with what they need of the forward pass as constants; a replay repeats nothing else. This
    is ``torch.func.linearize`` (and JAX's) without the tracing of a graph: recording takes about as long as a
    few products instead of half a second, random numbers are drawn once, and memory is free as soon as the result is
    dropped.

    Args:
        function: maps tensors to a tensor; any differentiable code with forward-mode rules.
        point: the tensors at which; their elements, one tensor after another, count as a vector [P].

    Returns:
        the linear map of vectors [P], which may be called any number of times, also under ``torch.func.vmap``.

    Raises:
        RuntimeError: an operation has no forward-mode derivative or cannot be replayed.

    Example:
        >>> product = linearize(lambda point: torch.sin(point[0]), (torch.zeros(2),))
        >>> product(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    x, sizes = point[0], [part.numel() for part in point]
    tangent = result = torch.linspace(1, 2, sum(sizes), dtype=x.dtype, device=x.device)

    def along(tangent: Tensor) -> Tensor:
        nonlocal result
        # Functional form turns writes into buffers, such as those of gradients of views, into operations with results.
        result = functionalize(moved)(tangent)
        return result

    def moved(tangent: Tensor) -> Tensor:
        pieces = tangent.split(sizes) if len(sizes) > 1 else (tangent,)
        tangents = tuple(piece.view(part.shape) for piece, part in zip(pieces, point, strict=True))
        return jvp(function, (point,), (tangents,))[1]

    with DenseZeros():
        recording = record(along, tangent, recorder=_TangentRecorder)
    for node in recording.graph.nodes:
        node.target = REPLAYED.get(node.target, node.target)
    product = generate(recording.graph, recording.constants)
    # A tensor that was lost sight of would have become a constant, and the replay not linear.
    off = product(-2 * tangent) + 2 * result
    if not float(off.norm()) <= torch.finfo(x.dtype).eps ** 0.5 * 2 * float(result.norm()):
        raise RuntimeError("what the derivative does to a tangent could not be recorded in full")
    (outlet,) = recording.graph.find_nodes(op="output")
    if outlet.args[0].op == "get_attr":  # nothing of the tangent gets through
        shape = result.shape
        return lambda v: v.new_zeros(shape)
    return product
