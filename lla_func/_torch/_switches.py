"""Switches of the whole process, shared by threads: the first that needs one saves it, the last restores it.

Each thread saving and restoring for itself would switch back under another that is at work, and end with the setting
that the other one made.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch


class Switch:
    """A setting of the process that any number of computations may need changed at once.

    Args:
        read: gives the setting.
        change: makes it as a computation needs it. Where needs differ it is called with the largest.
        restore: makes it what ``read`` gave.

    Example:
        >>> from functools import partial
        >>> level = [0]
        >>> put = partial(level.__setitem__, 0)
        >>> switch = Switch(lambda: level[0], put, put)
        >>> with switch.at(2), switch.at(1):
        ...     level
        [2]
        >>> level
        [0]
    """

    def __init__(
        self, read: Callable[[], Any], change: Callable[[Any], Any], restore: Callable[[Any], Any]
    ) -> None:
        self._read, self._change, self._restore = read, change, restore
        self._lock = threading.RLock()
        self._needs: dict[object, Any] = {}
        self._before: Any = None

    @contextmanager
    def at(self, need: Any) -> Iterator[None]:
        """The setting as it is needed, until the end of the block."""
        mine = object()
        try:
            try:
                with self._lock:
                    if not self._needs:
                        self._before = self._read()
                    self._needs[mine] = need
                    self._change(max(self._needs.values()))
                yield
            finally:
                self._end(mine)
        except BaseException:
            self._end(mine)  # again: an interruption may have hit the first
            raise

    def _end(self, mine: object) -> None:
        with self._lock:
            if mine not in self._needs:
                return
            others = [need for holder, need in self._needs.items() if holder is not mine]
            if others:
                self._change(max(others))
            else:
                self._restore(self._before)
            del self._needs[mine]


_SDP = ("math", "flash", "mem_efficient", "cudnn")


def _attention() -> tuple[bool, ...]:
    fast = torch.backends.mha.get_fastpath_enabled()
    return (fast, *(getattr(torch.backends.cuda, f"{kind}_sdp_enabled")() for kind in _SDP))


def _set_attention(settings: tuple[bool, ...]) -> None:
    torch.backends.mha.set_fastpath_enabled(settings[0])
    for kind, enabled in zip(_SDP, settings[1:], strict=True):
        getattr(torch.backends.cuda, f"enable_{kind}_sdp")(enabled)


_ATTENTION = Switch(_attention, _set_attention, _set_attention)


def math_attention() -> Any:
    """Attention by plain matrix products, and encoder layers without their fused path.

    The fused kernels have one derivative and no forward-mode rule; the fused encoder path, taken in evaluation mode,
    has neither, and no batching rule.
    """
    return _ATTENTION.at((False, True, False, False, False))


# The stance takes effect at once, and the object knows the one before.
_EAGER = Switch(
    lambda: torch.compiler.set_stance("force_eager"),
    lambda need: None,
    lambda stance: stance.__exit__(None, None, None),
)


def eagerly() -> Any:
    """A context in which what torch.compile made runs as it was written.

    Compiled code has no second derivative, cannot be recorded, and is compiled anew for each kind of tensor that stands
    for a parameter.
    """
    return _EAGER.at(True) if "torch._dynamo" in sys.modules else nullcontext()
