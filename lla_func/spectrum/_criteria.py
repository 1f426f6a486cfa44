"""Criteria of a Hessian spectrum: how much negative curvature there is, compared with the positive."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lla_func.errors import finite_number, finite_tensor, numbers_of

__all__ = ["ZERO", "Criterion", "c_t", "k_hn", "r_e", "spectrum_class"]

ZERO = 1e-6
"""Nodes up to this share of a run's largest magnitude are zero: float32 products cannot tell them apart."""


class Criterion(NamedTuple):
    """A criterion, averaged over the runs.

    Attributes:
        value: the mean.
        spread: the standard deviation over the runs; NaN for a single one or where a run is infinite.
        runs: the value of each run, [B] float64.
    """

    value: float
    spread: float
    runs: Tensor


def r_e(nodes: Tensor, *, zero: float = ZERO) -> Criterion:
    """The ratio of the extreme nodes |theta_min / theta_max|, per run and averaged.

    Near 0 the spectrum is mainly positive, at 1 it's as deep as high, above 1 mainly negative. The extremes
    are the algebraic ones, as the original LLA takes them, so a positive definite spectrum gives its inverse
    condition number, although nothing is negative: ``c_t`` is 0 there.

    Args:
        nodes: Ritz values [B, M], or [M] for one run.
        zero: see ``ZERO``; extremes within it are taken as 0.

    Returns:
        the criterion. Where the largest node is zero it's infinite, or 0 if all nodes are zero; the original
        divides.

    Raises:
        TypeError, ValueError: nodes of a wrong shape or not finite, ``zero`` out of range.

    Source: Gabdullin, arXiv 2412.10146.

    Example:
        >>> r_e(torch.tensor([-1.0, 0.5, 4.0])).value
        0.25
    """
    rows = _without_rounding(_table("nodes", nodes), zero)
    return _averaged(_ratio(rows.amin(1).abs(), rows.amax(1).abs()))


def k_hn(
    nodes: Tensor,
    weights: Tensor,
    *,
    n: float = 0.5,
    zero: float = ZERO,
    resolution: Tensor | float = 0.0,
) -> Criterion:
    """The sum of (|theta| tau)^n over negative nodes, over that of positive ones, per run and averaged.

    The value depends on the number of Lanczos steps: for n < 1, splitting a node's weight in halves raises its
    contribution by 2^(1 - n), and more steps resolve a denser part of the spectrum into more nodes. Compare
    values at the same number of steps only. It depends on the random start as well: over ten starts of 100
    steps on the Hessians of nine small networks its standard deviation was 6 to 19 %, so one start is one draw.

    The variant with the weight outside the power, the sum of tau |theta|^n, which more steps would converge to,
    is not offered: the nodes next to zero, whose signs mean little, make it up. Without those within the
    resolution (the larger of residual, rounding and bandwidth of the smoothed density), its standard deviation
    over starts was 22 to 70 % on four of the eight networks.

    Args:
        nodes: [B, M], or [M] for one run.
        weights: tau, of the same shape.
        n: the power, positive. The original warns of negative ones; here they're refused.
        zero: see ``ZERO``; nodes within it count for neither sign.
        resolution: how exactly each node is known, such as ``Quadrature.residuals``, of the same shape, or a
            number for all. Nodes within it of zero count for neither sign.

    Returns:
        the criterion. Without a negative node it's 0; with negative nodes only it's infinite.

    Raises:
        TypeError, ValueError: tables of wrong shape or not finite, or an option out of range.

    Source: Gabdullin, arXiv 2412.10146.

    Example:
        >>> nodes, weights = torch.tensor([-1.0, 4.0]), torch.tensor([0.5, 0.5])
        >>> round(k_hn(nodes, weights).value, 6)
        0.5
    """
    n = finite_number("n", n, above=0.0)
    rows, tau = rules(nodes, weights)
    rows = _without_rounding(rows, zero)
    if bool((tau < 0).any()):
        raise ValueError("weights holds negative values; quadrature weights are squares")
    known_to = torch.atleast_2d(torch.as_tensor(resolution).detach().to(rows))
    if known_to.shape not in (rows.shape, (1, 1)) or not bool((known_to >= 0).all()):
        raise ValueError(
            f"resolution has shape {list(known_to.shape)}; pass half-widths of at least 0, one for all nodes or "
            f"{list(rows.shape)}"
        )
    rows = torch.where(rows.abs() > known_to, rows, 0.0)
    # Only ratios matter: dividing by the largest node keeps the powers of very small spectra from vanishing.
    size = rows.abs().amax(1, keepdim=True)
    magnitude = rows.abs() / torch.where(size > 0, size, 1.0)
    terms = (magnitude * tau) ** n
    return _averaged(_ratio((terms * (rows < 0)).sum(1), (terms * (rows > 0)).sum(1)))


def c_t(values: Tensor, *, zero: float = ZERO) -> float:
    """The most negative eigenvalue over the largest positive one, C_t: at most 0.

    Unconfirmed: the name is that of a criterion of the literature whose definition could not be checked against its
    source. As defined here it says nothing new, being -r_e wherever an eigenvalue is negative and 0 elsewhere.
    Therefore no result holds it, and it is neither printed nor saved.

    Args:
        values: eigenvalues or nodes of any shape; the extremes of all of them count.
        zero: see ``ZERO``.

    Returns:
        the ratio; 0 where nothing is negative, minus infinity where something is, but nothing is positive.

    Raises:
        TypeError, ValueError: values that are empty or not finite, ``zero`` out of range.

    Example:
        >>> c_t(torch.tensor([-1.0, 0.0, 4.0])), c_t(torch.tensor([1.0, 4.0]))
        (-0.25, 0.0)
    """
    every = _without_rounding(_table("values", numbers_of("values", values).flatten()), zero)
    ratio = _ratio((-every).clamp(min=0).amax(1), every.clamp(min=0).amax(1))
    return -float(ratio) if float(ratio) else 0.0


def spectrum_class(values: Tensor, *, share: float = 0.5, zero: float = ZERO) -> str:
    """Names the type of a spectrum by the side that reaches further.

    The rule: "mainly positive" where the deepest negative value is less than ``share`` of the highest
    positive one in magnitude, "mainly negative" where it's the other way round, "mixed" between, "zero" where
    all values are zero. It is symmetric: a spectrum and its negative get opposite names.

    Args:
        values: eigenvalues or nodes of any shape.
        share: between 0 and 1.
        zero: see ``ZERO``.

    Returns:
        "mainly positive", "mainly negative", "mixed" or "zero".

    Raises:
        TypeError, ValueError: values that are empty or not finite, an option out of range.

    Source: the types are those of Gabdullin, arXiv 2504.17618 (MP-HESD and MN-HESD); the rule is ours.

    Example:
        >>> spectrum_class(torch.tensor([-1.0, 4.0])), spectrum_class(torch.tensor([-3.0, 4.0]))
        ('mainly positive', 'mixed')
    """
    share = finite_number("share", share, above=0.0)
    if share > 1:
        raise ValueError(f"share={share} is not allowed; pass a number above 0 and at most 1")
    depth = -c_t(values, zero=zero)
    if depth == 0.0 and not bool(torch.as_tensor(values).any()):
        return "zero"
    if depth < share:
        return "mainly positive"
    return "mainly negative" if depth > 1 / share else "mixed"


def _table(name: str, rows: Tensor) -> Tensor:
    """Checked rows as float64 [B, M] on the CPU."""
    table = numbers_of(name, rows).detach()
    if table.is_complex():
        finite_tensor(name, table)
    table = table.to("cpu", torch.float64)
    if table.ndim not in (1, 2) or table.numel() == 0:
        raise ValueError(f"{name} has shape {list(table.shape)}; pass [B, M], or [M] for one run")
    if not bool(table.isfinite().all()):
        raise ValueError(f"{name} holds NaN or infinite values; the run that they come from has failed")
    return torch.atleast_2d(table)


def rules(nodes: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Checked nodes and weights of quadrature rules, [B, M] each."""
    rows, tau = _table("nodes", nodes), _table("weights", weights)
    if rows.shape != tau.shape:
        raise ValueError(
            f"nodes and weights have shapes {list(rows.shape)} and {list(tau.shape)}; they must be equal"
        )
    return rows, tau


def _without_rounding(rows: Tensor, zero: float) -> Tensor:
    """Sets to zero what is within ``zero`` of it, relative to the largest magnitude of the row."""
    if not 0.0 <= (share := finite_number("zero", zero)) < 1.0:
        raise ValueError(
            f"zero={zero!r} is not allowed; pass a share of the largest magnitude, from 0 to below 1"
        )
    return torch.where(rows.abs() > share * rows.abs().amax(1, keepdim=True), rows, 0.0)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """The quotient with 0 / 0 = 0: nothing is not more than nothing."""
    return torch.where(above > 0, above / below, 0.0)


def _averaged(runs: Tensor) -> Criterion:
    spread = float(runs.std()) if len(runs) > 1 else math.nan
    return Criterion(float(runs.mean()), spread, runs)
