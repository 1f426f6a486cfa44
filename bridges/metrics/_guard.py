"""Data that stay as they are: a loss that writes into them, or asks for their gradients, gets copies."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from bridges.models import Task, in_precision
from lla_func._torch import tensors
from lla_func.objective import Batch


class Guard:
    """Runs tasks on data that they may write into.

    The first pass gets copies. If it leaves them as they were, later ones get the data themselves; otherwise every
    pass gets copies, so that all see the same data, and the caller's stay untouched.

    Args:
        dtype: what data of floating dtypes are converted to, None to keep them as they are.

    Example:
        >>> x, guard = torch.ones(2), Guard()
        >>> guard(lambda model, batch: batch.requires_grad_().sum(), None, x), x.requires_grad
        (tensor(2., grad_fn=<SumBackward0>), False)
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self.dtype = dtype
        self._copying: dict[str, bool] = {}
        self._said = False

    def __call__(self, task: Task, model: Any, batch: Batch, *, part: str = "loss") -> Any:
        """What a task gives for a model and a batch; each part that is computed has a first pass of its own.

        Raises:
            RuntimeError: it writes into the batch past the copies, or in this pass but not in the first one.
        """
        theirs = list(tensors(batch))
        before = _versions(theirs)
        copying = self._copying.get(part, True)
        own = partial(_own, copied=copying, dtype=self.dtype)
        given = pytree.tree_map_only(Tensor, own, batch) if copying or self.dtype is not None else batch
        result = task(model, given) if part in self._copying else self._first(task, model, given, part)
        if _versions(theirs) != before:
            raise RuntimeError(
                "the loss wrote into its data, which are others now, so that no loss after this one would be right. "
                "It did not do so in its first pass, or does so past the batch that it is given; let it work on a copy "
                "(x = x.clone()), and load the data anew"
            )
        return result

    def _first(self, task: Task, model: Any, copies: Batch, part: str) -> Any:
        """A pass on copies, which shows whether the others need some, too."""
        given = list(tensors(copies))
        versions, flags = _versions(given), [tensor.requires_grad for tensor in given]
        result = task(model, copies)
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return result  # transforms of torch.func have tensors of their own, which may not show it
        writes = _versions(given) != versions
        self._copying[part] = writes or [tensor.requires_grad for tensor in given] != flags
        if writes and not self._said:
            self._said = True
            warnings.warn(
                "the model or the loss writes into its data (x.sub_(...), x += ... or the like); every pass gets a "
                "copy, so that all see the same data",
                RuntimeWarning,
                stacklevel=2,
            )
        return result


def _own(tensor: Tensor, *, copied: bool, dtype: torch.dtype | None) -> Tensor:
    converted = in_precision(tensor, dtype)
    return converted.clone() if copied and converted is tensor else converted


def _versions(given: list[Tensor]) -> list[int]:
    """How often each was written to; those made in inference mode cannot be outside of it, and do not count."""
    return [0 if tensor.is_inference() else tensor._version for tensor in given]
