"""A recorder: the tensor operations that a function calls, written down as a graph while it runs once.

``make_fx`` of torch does the same and much more, at 0.7 to 2 milliseconds an operation; this takes about 0.1, which
makes it cheap enough to record a loss anew for every size of tile. Only what depends on the inputs is recorded: all
else has its value already and becomes a constant of the graph.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import _get_current_dispatch_mode

from lla_func._torch import DispatchMode
from lla_func.graph._codegen import generate

NODE = "_lla_func_node"
"""The attribute by which a recorder knows a tensor."""


class RecordingError(ValueError):
    """A function does something that a recorded graph cannot repeat faithfully."""


class Value(NamedTuple):
    """What is known of a node's value: ``node.meta["value"]`` where it is one tensor."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Recording(NamedTuple):
    """A function as a graph, and the constants that the graph refers to by name."""

    graph: fx.Graph
    constants: dict[str, Tensor]

    def __call__(self, *inputs: Tensor) -> Any:
        """The function's value; for many calls make a :func:`.generate` once."""
        return generate(self.graph, self.constants)(*inputs)


def record(
    function: Callable[..., Tensor], *inputs: Tensor, recorder: type[Recorder] | None = None
) -> Recording:
    """The operations of ``function(*inputs)`` as a graph with one input for each tensor.

    No gradient is recorded, and nothing is computed but what the function computes.

    Args:
        function: of tensors.
        inputs: examples of them.
        recorder: another one may refuse other things.

    Raises:
        RecordingError: it draws random numbers, branches on values of its inputs or reads them out, writes to tensors
            that it did not make, or does not return a tensor.

    Example:
        >>> recording = record(lambda x: (2 * x).sum() + torch.arange(3).sum(), torch.ones(2))
        >>> [str(node.target) for node in recording.graph.nodes if node.op == "call_function"]
        ['aten.mul.Tensor', 'aten.sum.default', 'aten.add.Tensor']
        >>> recording(torch.tensor([1.0, 2.0]))
        tensor(9.)
    """
    # Aliases: a tensor that the function also holds by itself, such as theta in a loss around it, stays a constant.
    inputs = tuple(tensor.detach().requires_grad_(tensor.requires_grad) for tensor in inputs)
    recording = (recorder or Recorder)(inputs)
    try:
        with torch.no_grad(), recording:
            result = function(*inputs)
        if not isinstance(result, Tensor):
            raise RecordingError(f"it returns {type(result).__name__}, not a tensor")
        recording.graph.output(recording.node(result))
    finally:
        recording.forget()
    clean(recording.graph)
    return Recording(recording.graph, recording.constants)


def clean(graph: fx.Graph) -> None:
    """Removes what nothing reads, but for operations that write to a tensor, of which there may be other views."""
    for node in reversed(graph.nodes):
        if not node.users and (node.op == "get_attr" or (node.op == "call_function" and not writes(node))):
            graph.erase_node(node)


def writes(node: fx.Node) -> bool:
    """Whether a node's operation writes to one of its arguments."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def infer(graph: fx.Graph, device: str = "meta") -> None:
    """Finds shapes and dtypes of the nodes that do not have theirs yet, in order.

    Args:
        graph: changed in place.
        device: ``"meta"`` computes nothing, but brings in torch's compiler, which takes a second; on ``"cpu"`` the new
            operations are run on zeros.
    """
    with torch.no_grad():
        for node in graph.nodes:
            if node.op == "call_function" and "value" not in node.meta and "values" not in node.meta:
                args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), lambda n: _stand_in(n, device))
                _describe(node, node.target(*args, **kwargs))


def shape_of(node: fx.Node) -> tuple[int, ...] | None:
    """The shape of a node's value, or None if it is not one tensor."""
    value = node.meta.get("value")
    return value.shape if value is not None else None


def dtype_of(node: fx.Node) -> torch.dtype | None:
    """The dtype of a node's value, or None if it is not one tensor."""
    value = node.meta.get("value")
    return value.dtype if value is not None else None


def elements(node: fx.Node) -> int:
    """The number of elements of a node's value, 0 if it is not one tensor."""
    return math.prod(shape) if (shape := shape_of(node)) is not None else 0


def itemsize(node: fx.Node) -> int:
    """The bytes of one element of a node's value."""
    dtype = dtype_of(node)
    return dtype.itemsize if dtype is not None else 0


def arguments(node: fx.Node) -> tuple[Any, ...]:
    """The positional arguments of a node, of any type."""
    return node.args


def belongs_to(layer: str) -> None:
    """Says which layer the operations belong to that are recorded from now on: ``node.meta["layer"]``."""
    if isinstance(recorder := _get_current_dispatch_mode(), Recorder):
        recorder.layer = layer


class Recorder(DispatchMode):
    """Sees every operation below autograd, functorch and functionalization, on plain tensors."""

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.layer = ""
        self.constants: dict[str, Tensor] = {}
        self.lasting: list[Tensor] = []
        for i, tensor in enumerate(inputs):
            self.lasting.append(tensor)
            self._add(self.graph.placeholder(f"input_{i}"), tensor)

    def node(self, tensor: Tensor) -> fx.Node:
        """The node of a tensor; one that depends on no input becomes a constant of the graph."""
        found = self._known(tensor)
        if found is None:
            name = f"constant_{len(self.lasting)}"
            self.constants[name] = tensor.detach()
            self.lasting.append(tensor)
            self._add(found := self.graph.create_node("get_attr", name, name=name), tensor)
        return found

    def forget(self) -> None:
        """Removes the marks from tensors that live on."""
        for tensor in self.lasting:
            vars(tensor).pop(NODE, None)

    def _known(self, tensor: Tensor) -> fx.Node | None:
        recorder, node = vars(tensor).get(NODE, (None, None))
        return node if recorder is self else None

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        recorded = any(map(self._varies, args)) or any(map(self._varies, kwargs.values()))
        self.refuse(operation, args, kwargs, recorded=recorded)
        result = operation(*args, **kwargs)
        if recorded:
            places = tuple(map(self._place, args)), {name: self._place(x) for name, x in kwargs.items()}
            node = self.graph.call_function(operation, *places)
            node.meta["layer"] = self.layer
            self._write(node, result)
        return result

    def _varies(self, argument: Any) -> bool:
        """Whether an argument depends on the inputs."""
        if isinstance(argument, Tensor):
            node = self._known(argument)
            return node is not None and node.op != "get_attr"
        return isinstance(argument, (list, tuple)) and any(map(self._varies, argument))

    def _place(self, argument: Any) -> Any:
        """An argument with nodes in place of tensors."""
        if isinstance(argument, Tensor):
            return self.node(argument)
        return [self._place(part) for part in argument] if isinstance(argument, (list, tuple)) else argument

    def _write(self, node: fx.Node, result: Any) -> None:
        _describe(node, result)
        if isinstance(result, Tensor):
            self._add(node, result)
            return
        for i, part in enumerate(result if isinstance(result, (list, tuple)) else ()):
            if isinstance(part, Tensor):
                self._add(self.graph.call_function(operator.getitem, (node, i)), part)

    def _add(self, node: fx.Node, tensor: Tensor) -> None:
        # A mark lives as long as its tensor, so nothing has to be kept alive to be known again.
        _describe(node, tensor)
        vars(tensor)[NODE] = self, node

    def refuse(self, operation: Any, args: Any, kwargs: Any, *, recorded: bool) -> None:
        """Raises for what a graph would repeat wrongly."""
        if _draws(operation, args, kwargs):
            raise RecordingError(f"it draws random numbers ({operation})")
        if recorded and torch.Tag.data_dependent_output in operation.tags:
            raise RecordingError(f"it branches on values or reads them out with item() ({operation})")
        if operation._schema.is_mutable and operation.namespace == "aten":
            for tensor in _written(operation, args, kwargs):
                node = self._known(tensor)
                if node is None or node.op != "call_function":
                    raise RecordingError(f"it writes to a tensor that outlives it ({operation})")


def _describe(node: fx.Node, result: Any) -> None:
    if isinstance(result, Tensor):
        node.meta["value"] = Value(tuple(result.shape), result.dtype)
    elif isinstance(result, (list, tuple)):
        node.meta["values"] = [
            Value(tuple(part.shape), part.dtype) if isinstance(part, Tensor) else None for part in result
        ]


def _stand_in(node: fx.Node, device: str) -> Any:
    """Zeros in place of a node's value."""

    def zeros(value: Value | None) -> Tensor | None:
        return None if value is None else torch.zeros(value.shape, dtype=value.dtype, device=device)

    return zeros(node.meta["value"]) if "value" in node.meta else [zeros(v) for v in node.meta["values"]]


def _draws(operation: torch._ops.OpOverload, args: Any, kwargs: Any) -> bool:
    """Whether an operation draws random numbers; attention without dropout could but does not."""
    if torch.Tag.nondeterministic_seeded not in operation.tags:
        return False
    arguments = operation._schema.arguments
    given: dict[str, Any] = {a.name: a.default_value for a in arguments if a.has_default_value()}
    given |= {a.name: value for a, value in zip(arguments, args, strict=False)} | kwargs
    return given.get("dropout_p", 1.0) != 0.0


def _written(operation: torch._ops.OpOverload, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors that an operation writes to."""
    given = {a.name: value for a, value in zip(operation._schema.arguments, args, strict=False)} | kwargs
    written = (a for a in operation._schema.arguments if a.alias_info is not None and a.alias_info.is_write)
    return [
        leaf for a in written for leaf in pytree.tree_leaves(given.get(a.name)) if isinstance(leaf, Tensor)
    ]
