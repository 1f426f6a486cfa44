"""The precision of a computation: sums in float64, all bits of float32 on the GPU, no autocast of the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

from lla_func._torch._switches import Switch

P = ParamSpec("P")
T = TypeVar("T")

CHUNKS = {"cpu": 2**15}
"""Elements of vectors that are converted to float64 at a time, by device (others take 2**22).

On the CPU few enough for a core's cache, and for torch to leave them to one core: where cores are busy, waiting for
each other at every piece costs more than the work.
"""


def inner(left: Tensor, right: Tensor) -> Tensor:
    """Inner products over the last axis in float64, in which squares neither overflow nor vanish.

    Converted piece by piece: a float64 copy of a whole vector would cost more memory and time than the products do.
    """
    rows = left.shape[:-1]
    one, other = left.reshape(-1, left.shape[-1]), right.reshape(-1, right.shape[-1])
    total = torch.zeros(len(one), dtype=torch.float64, device=left.device)
    columns = max(1, CHUNKS.get(left.device.type, 2**22) // max(1, len(one)))
    for a, b in zip(one.split(columns, 1), other.split(columns, 1), strict=True):
        wide = a.to(torch.float64)
        also = wide if left is right else b.to(torch.float64)
        total += torch.dot(wide[0], also[0]) if len(wide) == 1 else torch.linalg.vecdot(wide, also)
    return total.reshape(rows)


def full_precision(enabled: bool = True) -> Any:
    """Matrix products and convolutions with all bits of float32, as a context; the settings are restored afterwards.

    TensorFloat-32 keeps 10 bits of the mantissa, an error of 1e-3 that shows as noise on a loss surface and drowns
    small Hessian eigenvalues. torch allows it in convolutions by default. Without a GPU this changes nothing.

    Args:
        enabled: False allows TensorFloat-32 in both instead, unless another computation at work needs all bits.
    """
    return _FULL.at(enabled)


def without_autocast() -> Any:
    """A context in which autocast is off.

    The caller's autocast would decide in which precision losses are, differently in each engine: workers have threads
    of their own, and recorded operations are cast once more. A loss that wants autocast switches it on inside.

    Example:
        >>> with torch.autocast("cpu"), without_autocast():
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.float32
    """
    if not torch._C._is_any_autocast_enabled():  # one question instead of four, in every call of a loss
        return nullcontext()
    stack = ExitStack()
    for device in filter(torch.is_autocast_enabled, _DEVICES):
        stack.enter_context(torch.autocast(device, enabled=False))
    return stack


@contextmanager
def plainly() -> Iterator[None]:
    """A context without the caller's autocast and inference mode, in whose tensors nothing can be differentiated.

    Example:
        >>> with torch.inference_mode(), plainly():
        ...     torch.ones(1).is_inference()
        False
    """
    with torch.inference_mode(False), without_autocast():
        yield


def uncast(function: Callable[P, T]) -> Callable[P, T]:
    """The function with autocast off while it runs (:func:`without_autocast`)."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with without_autocast():
            return function(*args, **kwargs)

    return run


_DEVICES = ("cpu", "cuda", "mps", "xpu")


def _parts() -> tuple[Any, ...]:
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    return (matmul, cudnn.conv, cudnn.rnn) if hasattr(matmul, "fp32_precision") else ()


def _read() -> tuple[list[Any], list[Any]]:
    """The settings by their older and by their newer names.

    torch 2.9 has new names for these settings. The older ones still work, and the rest of torch reads them, but not
    after the caller has used the new ones. Both are restored: a new one may say "none", which no older one does.
    """
    saved = [(part, "fp32_precision", part.fp32_precision) for part in _parts()]
    try:
        older = [(p, "allow_tf32", p.allow_tf32) for p in (torch.backends.cuda.matmul, torch.backends.cudnn)]
    except RuntimeError:
        older = []
    return older, saved


def _change(full: bool) -> None:
    older, saved = _read()
    for part, name, _ in older or saved:
        setattr(part, name, not full if older else ("ieee" if full else "tf32"))


def _restore(settings: tuple[list[Any], list[Any]]) -> None:
    older, saved = settings
    for part, name, value in older + saved:
        setattr(part, name, value)


_FULL = Switch(_read, _change, _restore)
