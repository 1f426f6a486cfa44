"""A subspace held with its images: Ritz pairs, their true residuals, growth and restarts without extra products."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lla_func.krylov import Tridiagonal, check_vectors, inner, tridiagonal_matrix
from lla_func.operators import Operator

__all__ = [
    "Subspace",
    "added",
    "adopted",
    "first_unconverged",
    "outside",
    "rank",
    "residuals_of",
    "restarted",
    "ritz",
    "scale",
    "wanted_values",
]


def rank(values: Tensor, which: str) -> Tensor:
    """The indices of ascending ``values`` [M], the most wanted first."""
    count = len(values)
    if which == "magnitude":
        return torch.argsort(values.abs(), descending=True, stable=True)
    ascending = torch.arange(count)
    if which == "both":
        return torch.stack([ascending.flip(0), ascending], 1).flatten()[:count]
    return ascending if which == "smallest" else ascending.flip(0)


class Subspace(NamedTuple):
    """A subspace in buffers of fixed length, of which the first ``size`` rows count."""

    basis: Tensor  # orthonormal rows [capacity, P]
    images: Tensor  # the operator's products with them [capacity, P]
    matrix: Tensor  # basis . images, float64 [capacity, capacity]
    size: int


def ritz(space: Subspace) -> tuple[Tensor, Tensor]:
    """Ritz values, ascending [M], and their coordinates in the basis [M, M] (columns)."""
    values, rotation = torch.linalg.eigh(space.matrix[: space.size, : space.size])
    return values, rotation


def wanted_values(space: Subspace, which: str, k: int) -> Tensor:
    """The Ritz values of the wanted pairs, ascending."""
    values = ritz(space)[0]
    return values[rank(values, which)[:k]].sort().values


def scale(space: Subspace) -> float:
    """The largest Ritz value in magnitude: what the residuals are measured by."""
    return float(ritz(space)[0].abs().max())


def residuals_of(space: Subspace, values: Tensor, rotation: Tensor) -> Tensor:
    """A v - value v for the Ritz vectors with the coordinates ``rotation`` [M, k], [k, P]."""
    turn = rotation.T.to(space.basis)
    return turn @ space.images[: space.size] - values.to(turn)[:, None] * (turn @ space.basis[: space.size])


def first_unconverged(
    space: Subspace, which: str, k: int, tol: float, first: int = 0
) -> tuple[int, Tensor | None]:
    """The first wanted pair whose residual is too large, and that residual; None where there is no such pair.

    The search begins at ``first``, where the last one ended, since pairs converge in about this order; before
    it answers None it looks at all of them.
    """
    values, rotation = ritz(space)
    order = rank(values, which)[:k]
    for index in [*range(min(first, len(order)), len(order)), *range(min(first, len(order)))]:
        pair = order[index : index + 1]
        residual = residuals_of(space, values[pair], rotation[:, pair])[0]
        if float(inner(residual, residual).sqrt()) > tol * float(values.abs().max()):
            return index, residual
    return 0, None


def outside(space: Subspace, direction: Tensor) -> Tensor | None:
    """The unit vector along the part of ``direction`` orthogonal to the subspace; None where rounding is all of it."""
    length = direction.norm()
    if length == 0.0:
        return None
    basis = space.basis[: space.size]
    left = direction / length
    for _ in range(2):
        left = left - (basis @ left) @ basis
    if left.norm() <= 100 * torch.finfo(left.dtype).eps:
        return None
    left = left / left.norm()
    left = left - (basis @ left) @ basis  # what normalising a small remainder blew up
    return left / left.norm()


def added(space: Subspace, vector: Tensor, image: Tensor) -> Subspace:
    """The subspace with one more vector. The buffers are shared with the old one, which isn't to be used again."""
    space.basis[space.size], space.images[space.size] = vector, image
    size = space.size + 1
    row = torch.stack([inner(earlier, image) for earlier in space.basis[:size]]).cpu()
    space.matrix[size - 1, :size] = space.matrix[:size, size - 1] = row
    return space._replace(size=size)


def restarted(space: Subspace, which: str, kept: int) -> Subspace:
    """The subspace of the ``kept`` most wanted Ritz vectors."""
    values, rotation = ritz(space)
    order = rank(values, which)[:kept]
    turn = rotation[:, order].T.to(space.basis)
    return _filled(space, turn @ space.basis[: space.size], turn @ space.images[: space.size], values[order])


def adopted(space: Subspace, start: Tridiagonal, operator: Operator, which: str, kept: int) -> Subspace:
    """The best Ritz vectors of a Lanczos run. Their images follow from A Q = Q T + r e^T, without a product."""
    if start.alphas.ndim != 1:
        raise ValueError(
            f"start holds {len(start.alphas)} Lanczos runs; pass one of them: krylov.run(start, 0)"
        )
    if start.basis is None:
        raise ValueError("start holds no basis; run lanczos with keep_basis=True and without max_v")
    check_vectors("start.residual", start.residual, operator)
    values, rotation = torch.linalg.eigh(tridiagonal_matrix(start))
    order = rank(values, which)[: kept if len(values) > len(space.basis) else None]
    turn = rotation[:, order].T.to(start.basis)
    vectors = (turn @ start.basis).to(space.basis)
    images = values[order].to(vectors)[:, None] * vectors + torch.outer(
        turn[:, -1].to(vectors), start.residual.to(vectors)
    )
    return _filled(space, vectors, images, values[order])


def _filled(space: Subspace, vectors: Tensor, images: Tensor, values: Tensor) -> Subspace:
    size = len(values)
    space.basis[:size], space.images[:size] = vectors, images
    space.matrix[:size, :size] = torch.diag(values)
    return space._replace(size=size)
