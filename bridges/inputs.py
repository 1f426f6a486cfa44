"""Data that stay as they are: a loss that writes into them, or asks for their gradients, gets copies."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bridges.modules import Task, in_precision
from lla_func.objective import Batch

__all__ = ["Guard"]


class Guard:
    """Runs tasks on data that they may write into.

    The first pass gets copies. If it leaves them as they were, later ones get the data themselves; otherwise every
    pass gets copies, so that all see the same data, and the caller's stay untouched.

    Args:
        dtype: what data of floating dtypes are converted to, None to keep them as they are.

    Example:
        >>> x, guard = torch.ones(2), Guard()
        >>> guard(lambda model, batch: batch.requires_grad_().sum(), nn.Identity(), x), x.requires_grad
        (tensor(2., grad_fn=<SumBackward0>), False)
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype
        self.copying = True
        self._learned = False

    def __call__(self, task: Task, model: nn.Module, batch: Batch) -> Any:
        """What a task gives for the model and a batch.

        Raises:
            RuntimeError: it writes into the batch past the copies, or in this pass but not in the first one.
        """
        theirs = _tensors(batch)
        before = _versions(theirs)
        converted = self.copying or self.dtype is not None
        given = pytree.tree_map_only(Tensor, self._own, batch) if converted else batch
        if self._learned:
            result = task(model, given)
        else:
            result = self._first(task, model, given)
        if _versions(theirs) != before:
            raise RuntimeError(
                "the loss wrote into its data, which are others now, so that no loss after this one would be right. "
                "It did not do so in its first pass, or does so past the batch that it is given; let it work on a copy "
                "(x = x.clone()), and load the data anew"
            )
        return result

    def _own(self, tensor: Tensor) -> Tensor:
        own = in_precision(tensor, self.dtype)
        return own.clone() if self.copying and own is tensor else own

    def _first(self, task: Task, model: nn.Module, copies: Batch) -> Any:
        """A pass on copies, which shows whether the others need some, too."""
        tensors = _tensors(copies)
        versions, flags = _versions(tensors), [tensor.requires_grad for tensor in tensors]
        result = task(model, copies)
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return result  # transforms of torch.func have tensors of their own, which may not show it
        writes = _versions(tensors) != versions
        self.copying = writes or [tensor.requires_grad for tensor in tensors] != flags
        self._learned = True
        if writes:
            warnings.warn(
                "the model or the loss writes into its data (x.sub_(...), x += ... or the like); every pass gets a "
                "copy, so that all see the same data",
                RuntimeWarning,
                stacklevel=2,
            )
        return result


def _tensors(batch: Batch) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]


def _versions(tensors: list[Tensor]) -> list[int]:
    """How often each was written to; those made in inference mode can't be outside of it, and don't count."""
    return [0 if tensor.is_inference() else tensor._version for tensor in tensors]
