"""Full float32 precision on the GPU: TensorFloat-32 off for the time of a computation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["full_precision"]


@contextmanager
def full_precision(enabled: bool = True) -> Iterator[None]:
    """Matrix products and convolutions with all bits of float32, the settings restored afterwards.

    TensorFloat-32 keeps 10 bits of the mantissa, an error of 1e-3 that shows as noise on a loss surface and drowns
    small Hessian eigenvalues. torch allows it in convolutions by default. Without a GPU this changes nothing.

    Args:
        enabled: False allows TensorFloat-32 in both instead.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    # torch 2.9 has new names for these settings. The older ones still work, and the rest of torch reads them, but not
    # after the caller has used the new ones. Both are restored: a new one may say "none", which no older one does.
    parts = (matmul, cudnn.conv, cudnn.rnn) if hasattr(matmul, "fp32_precision") else ()
    saved = [(part, "fp32_precision", part.fp32_precision) for part in parts]
    try:
        older = [(part, "allow_tf32", part.allow_tf32) for part in (matmul, cudnn)]
    except RuntimeError:
        older = []
    try:
        for part, name, _ in older or saved:
            setattr(part, name, not enabled if older else ("ieee" if enabled else "tf32"))
        yield
    finally:
        for part, name, value in older + saved:
            setattr(part, name, value)
