"""A dispatch mode that doesn't bring in torch's compiler."""

from __future__ import annotations

from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["DispatchMode"]


class DispatchMode(TorchDispatchMode):
    """A context in which ``__torch_dispatch__`` sees every operation on plain tensors.

    By default torch keeps its compiler out of such methods by importing it, which takes a second and 100 MB. Nothing
    here is compiled, so that is left out; where torch has no such switch it does no harm.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False
