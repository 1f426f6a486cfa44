"""What an operator may bring besides its products: inner products, random vectors, and its trace."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lla_func import krylov, spectrum
from lla_func.spectrum import Estimate, Operator, probes
from tests.spectra import F64, SPECTRA, prescribed


def on_halves(whole: Operator, work: Callable[[Operator], Any]) -> list[Any]:
    """What two threads get from an operator of which each holds one half of every vector."""
    half, meeting = whole.dim // 2, threading.Barrier(2, timeout=60)
    slots: list[Any] = [None, None]
    results: list[Any] = [None, None]

    def run(rank: int) -> None:
        def gathered(piece: Tensor) -> list[Tensor]:
            slots[rank] = piece
            meeting.wait()
            both = list(slots)
            meeting.wait()
            return both

        def mine(vectors: Tensor) -> Tensor:
            return vectors[..., rank * half : (rank + 1) * half].clone()

        operator = Operator(
            lambda v: mine(whole.matvec(torch.cat(gathered(v), -1))),
            half,
            whole.dtype,
            whole.device,
            inner=lambda a, b: sum(gathered(krylov.inner(a, b))),
            draw=lambda seed, kind: mine(probes(whole.dim, 1, kind=kind, seed=seed, dtype=whole.dtype)[0]),
        )
        try:
            results[rank] = work(operator)
        finally:
            meeting.abort() if results[rank] is None else None

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def everything(operator: Operator) -> tuple[Any, ...]:
    pairs = spectrum.eigenpairs(operator, 3, tol=1e-10, max_basis=12)
    rules = spectrum.quadrature(operator, 15, 3, keep_starts=True, keep_basis=True)
    continued = spectrum.eigenpairs(operator, 3, tol=1e-10, max_basis=12, start=rules.first)
    trace = spectrum.trace(operator, known=pairs, reuse=rules, tol=1e-2, max_products=30)
    norm = spectrum.frobenius(operator, known=pairs)
    return pairs, rules, continued, trace, norm


def test_halves_of_vectors_with_inner_products_of_their_own_give_what_whole_ones_give() -> None:
    operator = prescribed(SPECTRA["outliers"])
    plain = everything(operator)
    one, other = on_halves(operator, everything)
    for a, b, c in zip(plain, one, other, strict=True):
        if isinstance(a, spectrum.Eigenpairs):
            torch.testing.assert_close(b.values, a.values, rtol=1e-12, atol=0)
            torch.testing.assert_close(b.values, c.values, rtol=0, atol=0)
            assert (a.products, a.converged) == (b.products, b.converged)
            torch.testing.assert_close(b.residuals, a.residuals, rtol=1e-3, atol=1e-12)
            vectors = torch.cat([b.vectors, c.vectors], 1)
            torch.testing.assert_close(
                (vectors @ a.vectors.mT).abs(), torch.eye(3, dtype=F64), rtol=0, atol=1e-9
            )
        elif isinstance(a, spectrum.Quadrature):
            torch.testing.assert_close(b.nodes, a.nodes, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(b.weights, a.weights, rtol=1e-9, atol=1e-9)
            assert b.orthogonality_loss < 1e-12
            torch.testing.assert_close(torch.cat([b.starts, c.starts], 1), a.starts, rtol=0, atol=0)
        else:
            assert (b.value, b.error) == pytest.approx((a.value, a.error), rel=1e-9)
            assert (b.value, b.products) == (c.value, a.products)


def test_random_vectors_are_those_that_the_operator_draws() -> None:
    drawn: list[str] = []

    def draw(seed: torch.Generator, kind: str) -> Tensor:
        drawn.append(kind)
        return 2 * probes(100, 1, kind=kind, seed=seed, dtype=F64)[0]

    operator = prescribed(SPECTRA["outliers"])
    found = spectrum.quadrature(operator._replace(draw=draw), 3, 2, keep_starts=True)
    plain = spectrum.quadrature(operator, 3, 2, keep_starts=True)
    assert torch.equal(found.starts, 2 * plain.starts)
    spectrum.eigenpairs(operator._replace(draw=draw), 1)
    assert drawn[:3] == ["rademacher", "rademacher", "gaussian"]


def test_a_known_trace_is_taken_and_not_that_of_a_deflated_operator() -> None:
    calls: list[Tensor] = []
    operator = prescribed(SPECTRA["outliers"])._replace(
        matvec=calls.append, exact_trace=lambda: Estimate(3.0, data_error=0.5, note="by a formula")
    )
    found = spectrum.trace(operator)
    assert (found.value, found.standard_error, found.data_error, found.products) == (3.0, 0.0, 0.5, 0)
    assert not calls
    whole = prescribed(SPECTRA["outliers"])
    known = spectrum.eigenpairs(whole, 2)
    rest = spectrum.deflate(whole._replace(exact_trace=lambda: Estimate(3.0)), known)
    assert spectrum.trace(rest, max_products=200).value != 3.0


def test_vectors_that_are_shared_out_are_refused_where_whole_ones_are_needed() -> None:
    operator = prescribed(SPECTRA["outliers"])._replace(inner=krylov.inner)
    with pytest.raises(
        ValueError, match="'xtrace' needs whole vectors; these are shared out. Take 'hutchinson'"
    ):
        spectrum.trace(operator, method="xtrace")
    assert spectrum.trace(operator, max_products=150, tol=1e-9).samples.numel() == 150  # no unit vectors
