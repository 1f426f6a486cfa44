"""The loss as a graph: what it computes from theta and a batch, recorded once as pure tensor operations.

A graph can be taken apart (what does not depend on theta, what is affine in it) and its operations exchanged for
cheaper equal ones. It is only right for what a recording can hold: the same operations for all weights and all data.
Whatever a recording would bake in wrongly raises :class:`RecordingError` here instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from lla_func._torch import tensors
from lla_func.graph._record import Recording, RecordingError, record, writes
from lla_func.objective import Batch, Loss, value

DIFFERENTIATES = re.compile(r"requires_grad_\(\)|not require grad|not have been used in the graph")
"""What torch says where a loss takes derivatives on its way: it cannot do so while it is made functional."""

EXPORTS = frozenset([Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.__dlpack__])
"""Methods that hand the values of a tensor to the world outside torch."""


def record_loss(loss: Loss, theta: Tensor, batch: Batch) -> Recording:
    """Records ``loss(theta, batch)`` as a graph of functional aten operations.

    In-place operations become out-of-place ones. The graph's first input is theta, the others are the batch's tensors
    in their order; all other leaves of the batch and all shapes are baked in (:func:`signature`).

    What a model remembers of its very first pass must not come from the recording: run the loss once before, on any
    batch.

    Args:
        loss: maps theta [P] and a batch to a scalar.
        theta: an example, [P].
        batch: an example; the graph serves all batches of the same signature.

    Returns:
        the graph; each node's ``meta["value"]`` holds shape and dtype (:class:`Value`).

    Raises:
        RecordingError: the loss draws random numbers, branches on values, or writes to tensors that outlive it.

    Example:
        >>> loss = record_loss(lambda theta, batch: (batch @ theta).relu_().sum(), torch.ones(2), torch.ones(3, 2))
        >>> [node.target.__name__ for node in loss.graph.nodes if node.op == "call_function"]
        ['mv.default', 'relu.default', 'sum.default']
    """
    leaves, spec = pytree.tree_flatten(batch)
    places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]

    def flat(theta: Tensor, *values: Tensor) -> Tensor:
        filled = list(leaves)
        for place, tensor in zip(places, values, strict=True):
            filled[place] = tensor
        return loss(theta, pytree.tree_unflatten(filled, spec))

    inputs = theta, *tensors(batch)
    try:
        with _NoExports():
            recording = record(torch.func.functionalize(flat, remove="mutations"), *inputs)
    except RuntimeError as error:
        if not DIFFERENTIATES.search(str(error)):
            raise
        with _NoExports(everything=True):
            recording = record(lambda x, *rest: value(lambda x, rest: flat(x, *rest), x, rest), *inputs)
    if any(map(writes, recording.graph.nodes)):  # hidden in a larger operation, such as circular padding
        recording = record(torch.func.functionalize(recording.__call__, remove="mutations"), *inputs)
    return recording


def record_named(
    function: Callable[..., Tensor], parameters: Mapping[str, Tensor], batch: Batch
) -> Recording:
    """Records ``function(parameters, batch)`` as :func:`record_loss` does; its first inputs are the parameters."""

    def packed(_: Tensor, both: Any) -> Tensor:
        return function(dict(zip(parameters, both[0], strict=True)), both[1])

    nothing = torch.zeros(0)
    recording = record_loss(packed, nothing, (list(parameters.values()), batch))
    recording.graph.erase_node(next(iter(recording.graph.nodes)))
    return recording


class _NoExports(TorchFunctionMode):
    """Raises where values leave torch: what comes back is a constant, and a functional tensor may have no memory.

    Args:
        everything: whether for all tensors, in a recording where none is functional.
    """

    def __init__(self, *, everything: bool = False) -> None:
        super().__init__()
        self.everything = everything

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in EXPORTS and (self.everything or torch._is_functional_tensor(args[0])):
            raise RecordingError(f"it reads values out with {function.__name__}()")
        return function(*args, **(kwargs or {}))


def signature(batch: Batch) -> Hashable:
    """What two batches must share to share a graph: structure, shapes, dtypes and all leaves that are not tensors."""
    leaves, spec = pytree.tree_flatten(batch)
    described = (
        (tuple(leaf.shape), leaf.dtype) if isinstance(leaf, Tensor) else repr(leaf) for leaf in leaves
    )
    return (str(spec), *described)
