"""A dispatch mode that doesn't bring in torch's compiler."""

from __future__ import annotations

import importlib
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

LAZY = hasattr(TorchDispatchMode, "_should_skip_dynamo")
"""Whether torch leaves its compiler aside until something is compiled."""


class DispatchMode(TorchDispatchMode):
    """A context in which ``__torch_dispatch__`` sees every operation on plain tensors.

    By default torch keeps its compiler out of such methods by importing it, which takes a second and 100 MB. Nothing
    here is compiled, so that is left out. Older versions import it anyway when ``vmap`` or ``grad`` is first called,
    and compute with tensors meanwhile; there it is imported before, or a mode would take that for part of what it
    watches.
    """

    def __enter__(self) -> Any:
        if not LAZY:
            importlib.import_module("torch._dynamo")
        return super().__enter__()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
