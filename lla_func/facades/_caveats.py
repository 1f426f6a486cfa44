"""Caveats: what a caller is warned of before a result is trusted."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from lla_func.geometry import Chart
from lla_func.landscape import Landscape
from lla_func.objective import Objective
from lla_func.options import Spectrum
from lla_func.spectrum import Analysis

VANISHING = (
    "the weights there are zero, and directions are scaled to the weights; pass normalization=None, or take a model "
    "that was trained"
)

ROUNDINGS = 4
"""Losses that differ by so many roundings of the largest one are the same."""


def warn_of_what_did_not_converge(analysis: Analysis, dim: int, asked: Spectrum) -> None:
    """Warns of eigenpairs and a trace that missed their tolerance, with the errors that are left and the way out."""
    pairs, estimate = analysis.eigenpairs, analysis.trace
    if pairs is not None and not pairs.converged:
        warnings.warn(
            f"the eigenpairs did not converge to eigs_tol={asked.eigs_tol:g} in {pairs.products} products: residuals "
            f"reach {float(pairs.residuals.max()):.2g} of an eigenvalue {float(pairs.values.abs().max()):.5g}; raise "
            "eigs_n_iter or eigs_tol",
            stacklevel=4,
        )
    if estimate is not None and not estimate.converged:
        exact = f" ({dim} make it exact)" if dim <= 10 * estimate.products else ""
        warnings.warn(
            f"the trace {estimate.value:.5g} did not converge to trace_tol={asked.trace_tol:g} in {estimate.products} "
            f"products: its standard error is {estimate.standard_error:.2g}; raise trace_n_iter{exact} or trace_tol",
            stacklevel=4,
        )


def warn_of_flat_surfaces(reasons: Mapping[str, str | None]) -> None:
    """Warns of surfaces that are flat, or move in part only, once for each of the reasons, which come by title."""
    for reason in dict.fromkeys(filter(None, reasons.values())):
        titles = ", ".join(title for title, given in reasons.items() if given == reason)
        warnings.warn(f"{titles}: {reason}", stacklevel=4)


def why_flat(objective: Objective, chart: Chart, landscape: Landscape, free: Tensor) -> str | None:
    """Why a surface shows nothing, or nothing of some weights; None where there is nothing to say.

    A direction that is scaled to the weights vanishes where these are zero: in the second factor of a fresh LoRA
    adapter, in zero-initialized layers, in pruned filters. What they multiply may then move without any effect.
    ``free`` is the mask [P] of what is neither ignored nor frozen.
    """
    layout, theta = objective.layout, objective.theta
    losses = torch.cat([landscape.losses, landscape.losses.new_tensor([landscape.center])])
    if not bool(losses.isfinite().all()):
        return None
    rounding = ROUNDINGS * torch.finfo(theta.dtype).eps * float(losses.abs().max())
    flat = float(losses.max() - losses.min()) <= rounding
    moves = (chart.basis != 0).any(0)
    resting = free & ~moves & (theta == 0)
    unmoved = [n for n, rests in layout.unravel(resting).items() if bool(rests.all())]
    if not flat:
        weights = [n for n, role in zip(layout.names, layout.roles, strict=True) if role == "weight"]
        unshown = [n for n in unmoved if n in weights]
        return f"of {_listed(unshown)} nothing is shown: {VANISHING}" if unshown else None
    moving = [n for n, some in layout.unravel(moves).items() if bool(some.any())]
    found = (
        f"the surface is flat: every loss is {float(losses[0]):.6g} to rounding, so what moves ({_listed(moving)}) has "
        "no effect as far as dist reaches"
    )
    filters = torch.cat([view.flatten(2).all(2)[0] for view in layout.filters(resting[None])])
    if unmoved or bool(filters.any()):
        what = _listed(unmoved) if unmoved else f"{int(filters.sum())} of {len(filters)} filters"
        return f"{found}. At rest: {what}; {VANISHING}"
    return (
        f"{found}. Look for units that are dead or saturated, for weights that the loss does not use, and for a dist "
        "too small to change the loss"
    )


def _listed(names: list[str], most: int = 3) -> str:
    """The first of these names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
