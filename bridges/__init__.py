"""The border between PyTorch's stateful world and lla_func: modules, optimizers, data loaders and the `lla` command.

Nothing is imported here, so that ``lla --help`` answers at once; import what you need: ``from bridges import metrics``.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """``from bridges import weights``, as loaders write it: a module of the room :mod:`bridges.models`."""
    if name == "weights":
        return import_module("bridges.models._weights")
    raise AttributeError(f"module 'bridges' has no attribute {name!r}")
