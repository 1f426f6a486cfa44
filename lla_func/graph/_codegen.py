"""Programs: a recorded graph written out as one Python function.

A graph is run many thousand times, and in small jobs the time goes into calling its operations, not into what they
compute. The function has a line for each, with everything it needs in its own namespace, and drops each value after its
last use. Where an operation has a binding of its own in ``torch``, that one is called: it takes 1 to 2 microseconds
instead of 3 to 6 through ``torch.ops``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx

aten = torch.ops.aten

BINDINGS: Mapping[Any, Callable[..., Any]] = {
    aten.add.Tensor: torch.add,
    aten.addcmul.default: torch.addcmul,
    aten.addcmul.out: torch.addcmul,
    aten.addmm.default: torch.addmm,
    aten.bmm.default: torch.bmm,
    aten.convolution.default: torch.convolution,
    aten.dot.default: torch.dot,
    aten.gather.default: torch.gather,
    aten.maximum.default: torch.maximum,
    aten.maximum.out: torch.maximum,
    aten.mm.default: torch.mm,
    aten.mul.Tensor: torch.mul,
    aten.native_layer_norm.default: torch.native_layer_norm,
    aten.neg.default: torch.neg,
    aten.permute.default: torch.permute,
    aten.relu.default: torch.relu,
    aten.relu_.default: torch.relu_,
    aten.reshape.default: torch.reshape,
    aten.sigmoid.default: torch.sigmoid,
    aten.sigmoid_.default: torch.sigmoid_,
    aten.t.default: torch.t,
    aten.tanh.default: torch.tanh,
    aten.tanh_.default: torch.tanh_,
    aten.transpose.int: torch.transpose,
    aten.unsqueeze.default: torch.unsqueeze,
}
"""Operations whose binding takes the same arguments."""


def generate(graph: fx.Graph, constants: Mapping[str, Tensor]) -> Callable[..., Any]:
    """The function that a graph describes.

    Args:
        graph: inputs, constants, calls and an output.
        constants: the value of each constant by its name.

    Example:
        >>> graph = fx.Graph()
        >>> x = graph.placeholder("x")
        >>> _ = graph.output(graph.call_function(aten.mul.Tensor, (x, graph.call_function(aten.relu.default, (x,)))))
        >>> generate(graph, {})(torch.tensor([-1.0, 3.0]))
        tensor([-0., 9.])
    """
    scope: dict[str, Any] = {}
    text = "\n    ".join(_lines(graph, constants, scope))
    inputs = ", ".join(node.name for node in graph.nodes if node.op == "placeholder")
    exec(f"def run({inputs}):\n    {text}\n", scope)
    return scope.pop("run")  # no circle: what it holds is free as soon as it is dropped


def _lines(graph: fx.Graph, constants: Mapping[str, Tensor], scope: dict[str, Any]) -> Iterator[str]:
    """The body of the function; what it refers to is put into its scope."""
    last_use = {arg: node for node in graph.nodes for arg in node.all_input_nodes}

    for node in graph.nodes:
        if node.op == "get_attr":
            scope[node.name] = constants[str(node.target)]
        elif node.op == "call_function":
            operation = f"call_{node.name}"
            scope[operation] = BINDINGS.get(node.target, node.target)
            arguments = [_written(argument, scope) for argument in node.args]
            arguments += [f"{name}={_written(value, scope)}" for name, value in node.kwargs.items()]
            yield f"{node.name} = {operation}({', '.join(arguments)})"
            done = [
                arg.name
                for arg in node.all_input_nodes
                if last_use[arg] is node and arg.op == "call_function"
            ]
            done += [] if node.users else [node.name]
            if done:
                yield f"del {', '.join(done)}"
        elif node.op == "output":
            yield f"return {_written(node.args[0], scope)}"


def _written(value: Any, scope: dict[str, Any]) -> str:
    """An argument as it stands in the text."""
    if isinstance(value, fx.Node):
        return value.name
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_written(part, scope) for part in value)}]"
    if value is None or isinstance(value, (bool, int, str)):
        return repr(value)
    name = f"value_{len(scope)}"
    scope[name] = value
    return name
