"""A subspace held with what the operator does to it: Ritz pairs, their residuals, growth, restarts without products."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lla_func._torch import share_memory
from lla_func.spectrum import _krylov as krylov
from lla_func.spectrum._krylov import Tridiagonal
from lla_func.spectrum._operator import Dot, Operator

COLUMNS = 2**16
"""Elements of each vector that are rotated at a time, so that no second basis is held."""


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
    """A subspace in a buffer of fixed length, of which the first ``size`` rows count, and the operator on it.

    A v_j = sum_i matrix[i, j] v_i + sum_l shares[l, j] rests[l] holds for every basis vector v_j, to rounding. As long
    as the subspace grew from one vector there is a single rest, and this is the Lanczos relation; each further start
    brings one more. So images need not be held, and residuals are small algebra.

    The latest rest lies in the row of the buffer that it takes once it is the next basis vector: memory of length P
    that is new costs more time than what is written there.
    """

    basis: Tensor  # orthonormal rows [capacity + 1, P]
    matrix: Tensor  # basis . A basis, float64 [capacity, capacity]
    size: int
    rests: tuple[Tensor, ...]  # unit vectors orthogonal to the basis and to each other, [P] each
    shares: Tensor  # float64 [len(rests), capacity]
    dot: Dot | None  # the operator's own inner products

    @classmethod
    def empty(cls, operator: Operator, capacity: int, *, device: torch.device) -> Subspace:
        """The subspace without vectors; memory is taken as it grows."""
        square = torch.zeros(capacity, capacity, dtype=torch.float64)
        basis = torch.empty(capacity + 1, operator.dim, dtype=operator.dtype, device=device)
        return cls(basis, square, 0, (), square[:0].clone(), operator.inner)


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


def residuals_of(space: Subspace, rotation: Tensor) -> Tensor:
    """The norms of A v - value v for the Ritz vectors with the coordinates ``rotation`` [M, k], [k] float64.

    Never below ten roundings of the largest Ritz value, to which the relation holds.
    """
    rounding = 10 * torch.finfo(space.basis.dtype).eps * scale(space)
    return (space.shares[:, : space.size] @ rotation).norm(dim=0).clamp(min=rounding)


def first_unconverged(space: Subspace, which: str, k: int, tol: float) -> Tensor | None:
    """Where the residual of the first wanted pair that hasn't converged points: its parts along the rests.

    None where all have converged.
    """
    values, rotation = ritz(space)
    order = rank(values, which)[:k]
    left = residuals_of(space, rotation[:, order]) > tol * values.abs().max()
    return space.shares[:, : space.size] @ rotation[:, order[left.nonzero()[0, 0]]] if left.any() else None


def outside(space: Subspace, direction: Tensor) -> Tensor | None:
    """The unit vector along what of ``direction`` is orthogonal to basis and rests; None where that is rounding."""
    length = (space.dot or krylov.inner)(direction, direction).sqrt()
    if length == 0.0:
        return None
    unit = (direction / length.to(direction))[None]
    left, square, _ = krylov.orthogonalize(unit, *_held(space, space.size), dot=space.dot)
    if float(square) ** 0.5 <= 100 * torch.finfo(left.dtype).eps:
        return None
    return left[0].div_(square.sqrt().to(left))


def _held(space: Subspace, size: int) -> list[Tensor]:
    """The first ``size`` basis vectors and the rests, as bases for one vector."""
    return [space.basis[None, :size], *(rest[None, None] for rest in space.rests)]


def toward(space: Subspace, parts: Tensor) -> tuple[Tensor, Subspace] | None:
    """The unit vector along sum_l parts[l] rests[l], and the subspace with the rests turned so that it is their first.

    None where the sum is zero.
    """
    if not parts.any():
        return None
    most = int(parts.abs().argmax())
    order = [most, *(i for i in range(len(parts)) if i != most)]
    rests, shares = tuple(space.rests[i] for i in order), space.shares[order]
    if int(parts.count_nonzero()) > 1:
        frame = torch.column_stack([parts[order], torch.eye(len(parts), dtype=parts.dtype)])
        turn = torch.linalg.qr(frame)[0]
        rests = (turn.mT.to(rests[0]) @ torch.stack(rests)).unbind()
        shares = turn.mT @ shares
    return rests[0], space._replace(rests=rests, shares=shares)


def latest(space: Subspace) -> Tensor:
    """The parts of the rest that the last vector brought: zeros where its image led nowhere new."""
    parts = torch.zeros(len(space.rests), dtype=torch.float64)
    if len(parts) and not space.shares[-1, : space.size - 1].any():
        parts[-1] = space.shares[-1, space.size - 1]
    return parts


def added(space: Subspace, vector: Tensor, image: Tensor) -> Subspace:
    """The subspace with one more vector, the first rest or one orthogonal to all of them, and its image.

    The buffers are shared with the old subspace, which isn't to be used again.
    """
    size, rounding = space.size, torch.finfo(vector.dtype).eps
    couplings = torch.zeros(size, dtype=torch.float64)  # vector . A v_j: what the rests have along the vector
    is_rest = bool(space.rests) and space.rests[0] is vector
    if is_rest:
        couplings = space.shares[0, :size]
    others = space.rests[int(is_rest) :]
    rests = tuple(rest.clone() if share_memory(rest, space.basis) else rest for rest in others)
    space = space._replace(rests=rests, shares=space.shares[int(is_rest) :].clone())
    if vector.data_ptr() != space.basis[size].data_ptr():
        space.basis[size] = vector
        vector = space.basis[size]
    alpha = krylov.coefficients(vector[None, None], image[None], dot=space.dot)[0].cpu()
    rest = torch.add(image, vector, alpha=-float(alpha), out=space.basis[size + 1])
    # Along the vectors that the relation names, and then whatever rounding left along any.
    touched = couplings.nonzero().flatten().tolist()
    if touched:
        rows = slice(touched[0], touched[-1] + 1)
        rest.addmv_(space.basis[rows].mT, couplings[rows].to(rest), alpha=-1)
    _, square, (missed, *along) = krylov.orthogonalize(rest[None], *_held(space, size + 1), dot=space.dot)
    length = float(square.sqrt())
    column = torch.cat([couplings, alpha + missed[0, -1:].cpu()])
    space.matrix[size, : size + 1] = space.matrix[: size + 1, size] = column
    if along:
        space.shares[:, size] = torch.cat(along).flatten().cpu()
    if length > 10 * rounding * float(torch.cat([column, space.shares[:, size]]).abs().max()):
        last = torch.zeros(1, len(space.matrix), dtype=torch.float64)
        last[0, size] = length
        rests, shares = (*rests, rest.div_(length)), torch.cat([space.shares, last])
        space = space._replace(rests=rests, shares=shares)
    return space._replace(size=size + 1)


def restarted(space: Subspace, which: str, kept: int) -> Subspace:
    """The subspace of the ``kept`` most wanted Ritz vectors."""
    values, rotation = ritz(space)
    order = rank(values, which)[:kept]
    turn, size = rotation[:, order], space.size
    return _filled(space, space.basis[:size], turn, values[order], space.shares[:, :size] @ turn)


def adopted(space: Subspace, start: Tridiagonal, operator: Operator, which: str, kept: int) -> Subspace:
    """The best Ritz vectors of a Lanczos run. What A does to them follows from A Q = Q T + r e^T, without a product."""
    if start.alphas.ndim != 1:
        raise ValueError(
            f"start holds {len(start.alphas)} Lanczos runs; pass one of them: krylov.run(start, 0)"
        )
    if start.basis is None:
        raise ValueError("start holds no basis; run lanczos with keep_basis=True and without max_v")
    krylov.check_vectors("start.residual", start.residual, operator)
    values, rotation = torch.linalg.eigh(krylov.tridiagonal_matrix(start))
    order = rank(values, which)[: kept if len(values) > len(space.matrix) else None]
    turn, length = (
        rotation[:, order],
        float((space.dot or krylov.inner)(start.residual, start.residual).sqrt()),
    )
    if length <= 10 * torch.finfo(space.basis.dtype).eps * float(values.abs().max()):
        length = 0.0  # rounding, which leads anywhere
    if length:
        space = space._replace(rests=((start.residual / length).to(space.basis),))
    return _filled(space, start.basis, turn, values[order], length * turn[-1:] if length else turn[:0])


def turned(basis: Tensor, rotation: Tensor, *, out: Tensor) -> Tensor:
    """The rows rotation^T basis, [k, P], written to ``out``, which may be the first rows of the basis itself."""
    turn = rotation.T.to(basis)
    for piece, place in zip(basis.split(COLUMNS, 1), out.split(COLUMNS, 1), strict=True):
        place.copy_(turn @ piece)
    return out


def _filled(space: Subspace, vectors: Tensor, turn: Tensor, values: Tensor, shares: Tensor) -> Subspace:
    size = len(values)
    turned(vectors, turn, out=space.basis[:size])
    space.matrix[:size, :size] = torch.diag(values)
    room = torch.zeros(len(shares), len(space.matrix), dtype=torch.float64)
    room[:, :size] = shares
    return space._replace(size=size, shares=room)
