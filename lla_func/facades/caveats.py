"""Caveats: what a caller is warned of before a result is trusted."""

from __future__ import annotations

import warnings

from lla_func.analysis import Analysis

__all__ = ["warn_of_what_did_not_converge"]


def warn_of_what_did_not_converge(analysis: Analysis, dim: int, *, eigs_tol: float, trace_tol: float) -> None:
    """Warns of eigenpairs and a trace that missed their tolerance, with the errors that are left and the way out.

    Args:
        analysis: what was found.
        dim: P, as many products as make the trace exact.
        eigs_tol, trace_tol: what was asked for.
    """
    pairs, estimate = analysis.eigenpairs, analysis.trace
    if pairs is not None and not pairs.converged:
        warnings.warn(
            f"the eigenpairs did not converge to eigs_tol={eigs_tol:g} in {pairs.products} products: residuals reach "
            f"{float(pairs.residuals.max()):.2g} of an eigenvalue {float(pairs.values.abs().max()):.5g}; raise "
            "eigs_n_iter or eigs_tol",
            stacklevel=3,
        )
    if estimate is not None and not estimate.converged:
        within_reach = dim <= 10 * estimate.products
        exact = f" ({dim} make it exact)" if within_reach else ""
        warnings.warn(
            f"the trace {estimate.value:.5g} did not converge to trace_tol={trace_tol:g} in {estimate.products} "
            f"products: its standard error is {estimate.standard_error:.2g}; raise trace_n_iter{exact} or trace_tol",
            stacklevel=3,
        )
