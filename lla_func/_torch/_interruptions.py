"""Interruptions: Ctrl-C ends a run as KeyboardInterrupt, also where torch makes another error of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import torch
from torch.autograd import forward_ad


class _Noticing:
    """A handler of signals that remembers whether the handler before it, which does the work, raised an error."""

    def __init__(self, handler: Callable[[int, Any], Any], around: _Noticing | None) -> None:
        self.handler, self.around = handler, around
        self.came = False

    def __call__(self, number: int, frame: Any) -> Any:
        try:
            return self.handler(number, frame)
        except BaseException:
            self.came = True
            raise


_INNERMOST: ContextVar[_Noticing | None] = ContextVar("innermost", default=None)
"""The handler of the innermost :func:`noticed`; asking Python for it takes as long as some losses of small models."""


@contextmanager
def noticed() -> Iterator[None]:
    """Lets no interruption be lost: raises KeyboardInterrupt in place of what became of it.

    Where Ctrl-C comes while torch's C++ code is under way, such as a scripted rule of forward mode that calls back
    into Python, a RuntimeError leaves it, which need not even quote the interruption. And Python drops what is raised
    while an object is finalized. Outside of the main thread, where no signal arrives, this does nothing.
    """
    handler = signal.getsignal(signal.SIGINT)
    level = forward_ad._current_level
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    around = _INNERMOST.get()
    noticing = _Noticing(handler, around)
    try:
        _INNERMOST.set(noticing)
        signal.signal(signal.SIGINT, noticing)
        yield
        raise_if_interrupted()
    except Exception as error:
        raise_if_interrupted(error)
        raise
    finally:
        _INNERMOST.set(around)
        signal.signal(signal.SIGINT, handler)
        if noticing.came and around is None:
            # Within torch's own entering of forward mode, it leaves that entered.
            with suppress(RuntimeError):  # as a rule it is not
                torch._C._exit_dual_level(level=level + 1)
            forward_ad._current_level = level


def raise_if_interrupted(error: BaseException | None = None) -> None:
    """Raises KeyboardInterrupt if Ctrl-C has come inside of :func:`noticed`; whoever tries something else asks first.

    Example:
        >>> raise_if_interrupted(RuntimeError("out of memory"))
    """
    noticing = _INNERMOST.get()
    while noticing is not None:
        if noticing.came:
            raise KeyboardInterrupt from error
        noticing = noticing.around
