"""Eigenpairs at the ends of a spectrum: thick-restart Lanczos, stopped by true residuals, checked for misses."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lla_func._torch import uncast
from lla_func.errors import finite_number, finite_tensor, flag, one_of, positive_int, usable_device
from lla_func.spectrum import _subspace as subspace
from lla_func.spectrum._krylov import Tridiagonal, apply, check_operator, check_vectors
from lla_func.spectrum._operator import Operator
from lla_func.spectrum._probes import drawn_for, generator_from
from lla_func.spectrum._subspace import Subspace, rank


class Eigenpairs(NamedTuple):
    """Approximate eigenpairs: an eigenvalue lies within each residual of its value (Parlett, section 4.5).

    Attributes:
        values: [k] float64 on the CPU, in the order that ``which`` asks for.
        vectors: [k, P], orthonormal rows; the entry of largest magnitude of each is positive
            (but where the operator has inner products of its own).
        residuals: |A v - value v|, [k] float64 on the CPU.
        products: matrix-vector products spent here (those of a ``start=`` run are counted there).
        converged: whether every residual is at most tol times the largest Ritz value in magnitude.
    """

    values: Tensor
    vectors: Tensor
    residuals: Tensor
    products: int
    converged: bool


@uncast
def eigenpairs(
    operator: Operator,
    k: int,
    *,
    which: str = "magnitude",
    tol: float = 1e-3,
    max_iter: int = 300,
    start: Tensor | Tridiagonal | None = None,
    max_basis: int | None = None,
    verify: bool = True,
    basis_device: torch.device | str | None = None,
    seed: int | torch.Generator = 0,
) -> Eigenpairs:
    """Finds ``k`` eigenpairs at the ends of the spectrum.

    A subspace grows by the residual of the first wanted Ritz pair that hasn't converged. As long as it comes
    from one start vector, all residuals are parallel and this is Lanczos; a full subspace is replaced by its
    best Ritz vectors (thick restart). What A does to the subspace is held as a small matrix and the little
    that leads out of it, so residuals are known without a product, and images need not be held. One start
    vector sees one eigenvector of a repeated eigenvalue, so after convergence a random vector of the
    complement is followed for as many steps as betray a missed pair with probability 0.95, and the search
    goes on if one shows. Where P is small the subspace fills the whole space and the result is exact.

    Args:
        operator: the symmetric map.
        k: number of pairs, at most P.
        which: "magnitude" (largest |value| first), "largest" (descending), "smallest" (ascending), or "both"
            (half from each end, the larger half from the top, descending).
        tol: bound for the residuals, relative to the largest Ritz value in magnitude. An isolated eigenvalue
            is then far better than that: its error goes with the square of the residual. Below about ten
            roundings of the operator's dtype it cannot be met.
        max_iter: the most products that are spent.
        start: a vector [P], a block [B, P], or a ``lanczos`` run with its basis, whose work is continued.
        max_basis: the most vectors held, besides about two; max(24, 2 k + 10) if None.
        verify: whether missed copies are looked for.
        basis_device: where the basis is held, the operator's device if None.
        seed: a whole number or a generator, for the random vectors.

    Returns:
        the eigenpairs. Where ``converged`` is False they are the best found; raise ``max_iter`` or ``tol``.

    Raises:
        TypeError, ValueError: an argument has the wrong type, shape or value.

    Source: Wu and Simon 2000 (thick restart); Kuczynski and Wozniakowski 1992 (the length of the
    check). The original LLA deflates power iterations, stops when a Rayleigh quotient changes little, and
    reports no residual; it takes several times as many products for the same error.

    Example:
        >>> from lla_func.spectrum import from_matrix
        >>> operator = from_matrix(torch.diag(torch.tensor([3.0, -5.0, 1.0, 0.5], dtype=torch.float64)))
        >>> found = eigenpairs(operator, 2)
        >>> found.values.round(decimals=9)
        tensor([-5.,  3.], dtype=torch.float64)
    """
    check_operator(operator)
    one_of("which", which, ("magnitude", "largest", "smallest", "both"))
    flag("verify", verify)
    if start is not None and not isinstance(start, Tridiagonal):
        check_vectors("start", start, operator)
        if not finite_tensor("start", start).any():
            raise ValueError("start is zero; pass a non-zero vector, or None for a random one")
    k, max_iter = positive_int("k", k), positive_int("max_iter", max_iter)
    tol = finite_number("tol", tol, above=0.0)
    if k > operator.dim:
        raise ValueError(f"k={k} is more than the dimension {operator.dim} of operator {operator.name!r}")
    capacity = positive_int("max_basis", max(24, 2 * k + 10) if max_basis is None else max_basis)
    if capacity < (least := min(k + 2, operator.dim)):
        raise ValueError(f"max_basis={capacity} is too small for k={k}; pass at least {least}")
    capacity = min(capacity, operator.dim)
    generator = generator_from(seed, stream=2)
    kept = min(max((k + capacity) // 2, k + 1), capacity - 1)  # Ritz vectors that survive a restart
    held_on = operator.device if basis_device is None else usable_device("basis_device", basis_device)
    space = Subspace.empty(operator, capacity, device=held_on)
    spent = 0

    def grown(space: Subspace, parts: Tensor | None = None, direction: Tensor | None = None) -> Subspace:
        """Adds a direction: where parts of the rests lead, or a given one, or a random one where those lead nowhere."""
        nonlocal spent
        found = None if parts is None else subspace.toward(space, parts)
        if found is None and space.size + len(space.rests) == operator.dim:  # nothing else is left
            found = subspace.toward(space, torch.ones(1, dtype=torch.float64).expand(len(space.rests)))
        if found is None:
            fresh = None if direction is None else subspace.outside(space, direction)
            while fresh is None:
                fresh = subspace.outside(space, _random(operator, generator).to(held_on))
        else:
            fresh, space = found
        if space.size == capacity:
            space = subspace.restarted(space, which, kept)
        spent += 1
        return subspace.added(space, fresh, apply(operator, fresh.to(operator.device)[None])[0].to(held_on))

    if isinstance(start, Tridiagonal):
        space = subspace.adopted(space, start, operator, which, kept)
    else:
        first = torch.atleast_2d(_random(operator, generator) if start is None else start.detach())
        if len(first) > (most := min(capacity, max_iter)):
            raise ValueError(f"start holds {len(first)} vectors; pass at most {most} (max_basis, max_iter)")
        for vector in first.to(held_on):
            space = grown(space, direction=vector)
    seen = space.size

    while True:
        while True:
            parts = subspace.first_unconverged(space, which, k, tol)
            converged = parts is None and space.size >= k
            if converged or spent >= max_iter or space.size == operator.dim:
                break
            space = grown(space, parts)
        if not (converged and verify) or spent >= max_iter or space.size == operator.dim:
            break
        before = subspace.wanted_values(space, which, k)
        steps = _steps_to_see_a_missed_pair(space, which, k, tol, most=max(seen, spent))
        space = grown(space)
        for _ in range(min(steps, max_iter - spent) - 1):
            if space.size == operator.dim:
                break
            space = grown(space, subspace.latest(space))
        change = float((subspace.wanted_values(space, which, k) - before).abs().max())
        if change <= tol * subspace.scale(space) and subspace.first_unconverged(space, which, k, tol) is None:
            break

    values, rotation = subspace.ritz(space)
    order = rank(values, which)[:k]
    if which == "both":
        order = order.sort(descending=True).values
    rotation = rotation[:, order]
    residuals = subspace.residuals_of(space, rotation)
    vectors = torch.empty(k, operator.dim, dtype=operator.dtype, device=held_on)
    for vector in subspace.turned(space.basis[: space.size], rotation, out=vectors):
        if operator.inner is not None:  # the largest entry may be elsewhere
            break
        low, high = vector.aminmax()
        if high < -low:
            vector.neg_()
    return Eigenpairs(values[order], vectors.to(operator.device), residuals, spent, converged)


def deflate(operator: Operator, known: Eigenpairs) -> Operator:
    """The operator A - sum_i value_i v_i v_i^T, from which known eigenpairs are taken out.

    Its trace is that of A less the sum of the values, exactly, for any orthonormal vectors: that is what
    makes it a control variate for stochastic estimates.

    Example:
        >>> from lla_func.spectrum import from_matrix
        >>> operator = from_matrix(torch.diag(torch.tensor([4.0, 1.0], dtype=torch.float64)))
        >>> rest = deflate(operator, eigenpairs(operator, 1))
        >>> rest.matvec(torch.ones(2, dtype=torch.float64)).round(decimals=9)
        tensor([0., 1.], dtype=torch.float64)
    """
    vectors, values = known.vectors, known.values.to(known.vectors)
    if vectors.ndim != 2 or vectors.shape[1] != operator.dim:
        raise ValueError(
            f"known.vectors has shape {list(vectors.shape)}; operator {operator.name!r} needs [k, {operator.dim}]"
        )

    def matvec(v: Tensor) -> Tensor:
        return operator.matvec(v) - (coordinates(operator, vectors, v).to(values) * values) @ vectors

    name = f"deflated {operator.name}"
    return operator._replace(matvec=matvec, name=name, per_sample=None, exact_trace=None)


def coordinates(operator: Operator, vectors: Tensor, v: Tensor) -> Tensor:
    """The inner products of v [P] or a block [B, P] with orthonormal vectors [k, P], [k] or [B, k]."""
    if operator.inner is None:
        return v @ vectors.mT
    shape = (*v.shape[:-1], *vectors.shape)
    return operator.inner(v[..., None, :].expand(shape), vectors.expand(shape))


def _random(operator: Operator, generator: torch.Generator) -> Tensor:
    return drawn_for(operator, 1, kind="gaussian", seed=generator)[0]


def _steps_to_see_a_missed_pair(space: Subspace, which: str, k: int, tol: float, *, most: int) -> int:
    """How long a random vector must be followed until a missed pair shows among the wanted ones.

    After m steps the top Ritz value is within a share e of the spectrum's width from the top, but for a
    probability of 1.648 sqrt(P) exp(-sqrt(e) (2 m - 1)). The share that matters is the gap between wanted and
    other values. A narrow gap asks for very many steps; ``most`` bounds them.
    """
    values = subspace.ritz(space)[0]
    order = rank(values, which)
    size = values.abs() if which == "magnitude" else values
    gap = (size[order[:k], None] - size[order[k:]]).abs().min() if space.size > k else torch.tensor(0.0)
    share = max(float(gap / (values[-1] - values[0]).clamp(min=1e-300)), tol)
    steps = (1 + math.log(1.648 * math.sqrt(space.basis.shape[1]) / 0.05) / math.sqrt(share)) / 2
    return max(2, min(math.ceil(steps), most))
