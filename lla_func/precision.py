"""Full float32 precision on the GPU: TensorFloat-32 off for the time of a computation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["full_precision"]


@contextmanager
def full_precision(enabled: bool = True) -> Iterator[None]:
    """Matrix products and convolutions with all bits of float32, the settings restored afterwards.

    TensorFloat-32 keeps 10 bits of the mantissa, an error of 1e-3 that shows as noise on a loss surface and drowns
    small Hessian eigenvalues. torch allows it in convolutions by default. Without a GPU this changes nothing.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    if enabled:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
