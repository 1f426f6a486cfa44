"""XTrace: a trace estimate in which every probe serves twice, for the subspace and for what lies outside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lla_func.spectrum._estimate import Estimate, standard_error
from lla_func.spectrum._krylov import apply, inner, rows_per_block
from lla_func.spectrum._operator import Operator
from lla_func.spectrum._probes import drawn_for, generator_from


def xtrace(
    operator: Operator,
    tol: float,
    max_products: int,
    min_probes: int,
    *,
    extra_scale: float = 0.0,
    seed: int | torch.Generator = 0,
) -> Estimate:
    """The trace from m Gaussian probes W and 2 m products, m growing until the standard error is small.

    With Y = A W = Q R, the trace is that of Q^T A Q plus that of A on the complement of Q. The second could
    be sampled with fresh probes (Hutch++). XTrace uses probe i itself, with the subspace of all the others:
    that estimate t_i is unbiased, and the average over i treats all probes alike. Nothing is thrown away when
    m grows, since Q only gets new columns.

    Leaving out probe i takes one direction s_i away from the subspace, the i-th column of R^-T, normalized.
    With w_i = Q^T probe_i, u_i = w_i - s_i (s_i . w_i), r_i the i-th column of R and H = Q^T A Q,
    t_i = tr H - s_i.H s_i + c_i (w_i.r_i - 2 u_i.r_i + u_i.H u_i): all of it is small algebra. Only the
    direction of a probe's rest x_i outside the subspace carries information, so its length is replaced by
    that of a vector drawn from a sphere, c_i = (P - m + 1) / |x_i|^2.

    The first m is ``min_probes``; it doubles until the standard error is ``tol`` times (trace norm of H plus
    ``extra_scale``) or ``max_products`` are spent. The samples of the estimate are the t_i.

    Source: Epperly, Tropp and Webber, XTrace: making the most of every sample in stochastic trace estimation,
    2024. Their error estimate treats the t_i as independent and covers the truth within twice of it in 76 to
    93 % of the cases we tried: t_i and t_j share what probes i and j say of each other. Where such pairs make
    up the whole error, its variance is twice that of independent samples, so we widen by 2^(1/2).

    Example:
        >>> from lla_func.spectrum import from_matrix
        >>> matrix = torch.diag(0.5 ** torch.arange(60, dtype=torch.float64))
        >>> round(xtrace(from_matrix(matrix), 1e-6, 60, 10).value, 5)
        2.0
    """
    dim = operator.dim
    if dim <= 2 * min_probes or dim <= max_products < dim + 2 * min_probes:
        return trace_of_columns(operator)
    generator = generator_from(seed, stream=4)
    # rows: the probes W, the basis Q, its images A Q
    drawn = basis = images = torch.zeros(0, dim, dtype=operator.dtype, device=operator.device)
    triangle = torch.zeros(0, 0, dtype=operator.dtype, device=operator.device)
    count = min_probes
    while True:
        fresh = drawn_for(operator, count - len(drawn), kind="gaussian", seed=generator)
        basis, triangle = _extended(basis, triangle, _products(operator, fresh))
        drawn = torch.cat([drawn, fresh])
        images = torch.cat([images, _products(operator, basis[len(images) :])])
        value, error, samples, projected = _judged(drawn, basis, images, triangle)
        scale = float(torch.linalg.eigvalsh(projected).abs().sum()) + extra_scale
        converged = error <= tol * scale
        following = min(2 * count, max_products // 2, dim // 2)
        if not converged and _columns_instead(dim, 2 * count, 2 * following, max_products):
            exact = trace_of_columns(operator)
            return exact._replace(products=2 * count + exact.products)
        if converged or following <= count:
            return Estimate(value, error, products=2 * count, converged=converged, samples=samples)
        count = following


def _columns_instead(dim: int, spent: int, following: int, max_products: int) -> bool:
    """Whether to be exact: it's affordable, and going on is impossible or leaves no room for it."""
    return dim <= max_products - spent and (following <= spent or dim > max_products - following)


def trace_of_columns(operator: Operator) -> Estimate:
    """The exact trace, from the product with every unit vector.

    Example:
        >>> from lla_func.spectrum import from_matrix
        >>> trace_of_columns(from_matrix(torch.tensor([[1.0, 5.0], [5.0, 2.0]]))).value
        3.0
    """
    dim, total = operator.dim, 0.0
    for index in torch.arange(dim).split(rows_per_block(operator, 2)):
        units = torch.zeros(len(index), dim, dtype=operator.dtype, device=operator.device)
        units[torch.arange(len(index)), index] = 1.0
        total += float(apply(operator, units)[torch.arange(len(index)), index].sum(dtype=torch.float64))
    return Estimate(total, products=dim)


def _products(operator: Operator, rows: Tensor) -> Tensor:
    return torch.cat([apply(operator, part) for part in rows.split(rows_per_block(operator, 2))])


def _extended(basis: Tensor, triangle: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Appends ``images`` [B, P] to the QR decomposition whose Q has the rows ``basis`` [M, P]."""
    first = images @ basis.mT
    rest = images - first @ basis
    second = rest @ basis.mT  # Gram-Schmidt needs a second pass
    fresh, corner = torch.linalg.qr((rest - second @ basis).mT)
    # and a third time, where the images added next to nothing new
    fresh, turn = torch.linalg.qr(fresh - basis.mT @ (basis @ fresh))
    upper = torch.cat([triangle, (first + second).mT], 1)
    lower = torch.cat([corner.new_zeros(len(corner), len(triangle)), turn @ corner], 1)
    return torch.cat([basis, fresh.mT]), torch.cat([upper, lower])


def _judged(
    drawn: Tensor, basis: Tensor, images: Tensor, triangle: Tensor
) -> tuple[float, float, Tensor, Tensor]:
    """Value, standard error, samples t_i [m] and H, in float64."""
    dim = basis.shape[1]
    small = (basis @ images.mT, basis @ drawn.mT, triangle)
    projected, inside, r = (matrix.to("cpu", torch.float64) for matrix in small)
    projected = (projected + projected.mT) / 2
    corners = r.diagonal().abs()
    if float(corners.min()) <= 100 * torch.finfo(drawn.dtype).eps * float(corners.max()):
        # The images are dependent, so Q holds the range of A up to a rest whose Frobenius norm is about the
        # smallest corner; its trace is at most P^(1/2) times that.
        value, error = float(projected.trace()), math.sqrt(dim) * float(corners.min())
        return value, error, torch.zeros(0, dtype=torch.float64), projected
    samples = _leave_one_out(r, projected, inside, inner(drawn, drawn).cpu(), dim)
    return float(samples.mean()), math.sqrt(2) * standard_error(samples), samples, projected


def _leave_one_out(r: Tensor, projected: Tensor, inside: Tensor, lengths: Tensor, dim: int) -> Tensor:
    """The estimates t_i [m]; see ``xtrace`` for the formula."""
    away = torch.linalg.solve_triangular(r, torch.eye(len(r), dtype=r.dtype), upper=True).mT
    away = away / away.norm(dim=0)
    used = inside - away * (away * inside).sum(0)
    left = lengths - used.square().sum(0)
    outside = (inside * r).sum(0) - 2 * (used * r).sum(0) + (used * (projected @ used)).sum(0)
    return projected.trace() - (away * (projected @ away)).sum(0) + outside * (dim - len(r) + 1) / left
