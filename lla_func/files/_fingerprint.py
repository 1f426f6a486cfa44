"""Fingerprints: short hashes that tell whether two runs saw the same parameters and the same data."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree


def fingerprint(tree: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a pytree: its structure, and its tensors bit by bit.

    Example:
        >>> fingerprint({"x": torch.zeros(2)}) == fingerprint({"x": torch.zeros(2)})
        True
        >>> fingerprint({"x": torch.zeros(2)}) == fingerprint({"x": torch.zeros(2, 1)})
        False
    """
    digest = hashlib.sha256()
    leaves, structure = pytree.tree_flatten(tree)
    digest.update(str(structure).encode())
    for leaf in leaves:
        if isinstance(leaf, Tensor):
            digest.update(f"{leaf.dtype}{list(leaf.shape)}".encode())
            digest.update(leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            digest.update(repr(leaf).encode())
    return digest.hexdigest()[:16]
