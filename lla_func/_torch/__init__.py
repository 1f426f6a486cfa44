"""What the rest needs of torch itself: dispatch modes, memory, precision, derivatives of every order."""

from __future__ import annotations

from lla_func._torch._differentiable import differentiable, explained, load_forward_mode, replaying
from lla_func._torch._dispatch import DispatchMode
from lla_func._torch._forks import refuse_lost_threads
from lla_func._torch._interruptions import noticed, raise_if_interrupted
from lla_func._torch._memory import cache_size, free_memory, out_of_memory, share_memory
from lla_func._torch._meter import Meter
from lla_func._torch._precision import full_precision, inner, plainly, uncast, without_autocast
from lla_func._torch._pytree import tensors
from lla_func._torch._switches import Switch, eagerly, math_attention

__all__ = [
    "DispatchMode",
    "Meter",
    "Switch",
    "cache_size",
    "differentiable",
    "eagerly",
    "explained",
    "free_memory",
    "full_precision",
    "inner",
    "load_forward_mode",
    "math_attention",
    "noticed",
    "out_of_memory",
    "plainly",
    "raise_if_interrupted",
    "refuse_lost_threads",
    "replaying",
    "share_memory",
    "tensors",
    "uncast",
    "without_autocast",
]
