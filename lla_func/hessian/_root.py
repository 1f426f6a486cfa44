"""Roots of a criterion's Hessian, sample by sample: columns s_k with H_i = sum_k sign_k s_k s_k^T."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad

Product = Callable[[Tensor], Tensor]
"""Of the criterion's Hessian, with a vector for each sample [n, M]."""

MANY = 128
"""Values that cross the cut of a sample, from which on random signs stand for the columns of the root."""


class Columns(NamedTuple):
    """Columns of the roots of all samples of a tile.

    Attributes:
        columns: [K, n, M].
        signs: [K, n].
    """

    columns: Tensor
    signs: Tensor


def flat(values: Sequence[Tensor], count: int) -> Tensor:
    """Values of a tile's samples as one row for each, [n, M]."""
    return torch.cat([value.reshape(count, -1) for value in values], 1)


def split(rows: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of :func:`flat`."""
    sizes = [value.numel() // len(rows) for value in like]
    return [piece.reshape(v.shape) for piece, v in zip(rows.split(sizes, 1), like, strict=True)]


def curvature(
    criterion: Callable[[Sequence[Tensor]], Tensor], values: Sequence[Tensor], count: int
) -> Product:
    """The product of the criterion's Hessian with [n, M], all samples at once."""
    leaves = [value.detach().requires_grad_() for value in values]
    with torch.enable_grad():
        loss = criterion(leaves)
        if not loss.requires_grad:
            return torch.zeros_like
        slopes = flat(grad(loss, leaves, create_graph=True, materialize_grads=True), count)
    if not slopes.requires_grad:
        return torch.zeros_like

    def product(rows: Tensor) -> Tensor:
        return flat(grad(slopes, leaves, rows, retain_graph=True, materialize_grads=True), count)

    return product


def exact(product: Product, values: Sequence[Tensor], count: int) -> Columns:
    """The eigenvectors of the blocks, scaled by the roots of their eigenvalues; those that are rounding are left out.

    Blocks of different samples must not be coupled.
    """
    rows = flat(values, count)
    size = rows.shape[1]
    blocks = torch.stack(
        [
            product(torch.eye(size, dtype=rows.dtype, device=rows.device)[k].expand_as(rows))
            for k in range(size)
        ],
        1,
    ).to(torch.float64)
    eigenvalues, vectors = torch.linalg.eigh((blocks + blocks.mT) / 2)
    largest = eigenvalues.abs().amax(1, keepdim=True)
    counting = eigenvalues.abs() > torch.finfo(rows.dtype).eps * size * largest
    scaled = vectors * torch.where(counting, eigenvalues.abs().sqrt(), 0.0)[:, None]
    used = counting.any(0)
    return Columns(scaled.permute(2, 0, 1)[used].to(rows.dtype), eigenvalues.sign().T[used])


def drawn(product: Product, values: Sequence[Tensor], count: int, generator: torch.Generator) -> Columns:
    """Two columns whose signed sum has the Hessian as its mean, from random signs e and their products He.

    (J^T e) . (J^T He) is a quarter of |J^T (e + He)|^2 - |J^T (e - He)|^2, and its mean is tr(J J^T H).
    """
    rows = flat(values, count)
    signs = torch.randint(2, rows.shape, generator=generator).to(rows) * 2 - 1
    image = product(signs)
    scale = image.norm(dim=1, keepdim=True) / signs.norm(dim=1, keepdim=True)
    scale = torch.where(scale > 0, scale, 1.0).sqrt()
    both = torch.stack([signs * scale + image / scale, signs * scale - image / scale]) / 2
    return Columns(
        both, torch.tensor([[1.0], [-1.0]], dtype=torch.float64, device=rows.device).expand(2, count)
    )
