"""What tests ask of recorded graphs."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

__all__ = ["calls", "uses"]


def calls(graph: fx.Graph) -> list[str]:
    """The names of the operations that a graph calls, in order."""
    return [str(node.target) for node in graph.nodes if node.op == "call_function"]


def uses(graph: fx.Graph, operation: Callable) -> bool:
    """Whether a graph calls an operation."""
    return any(node.target is operation for node in graph.nodes)
