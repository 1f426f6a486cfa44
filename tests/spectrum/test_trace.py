"""Trace, diagonal and Frobenius norm: honest errors, exact cases, deflation and reuse."""

from __future__ import annotations

import math

import pytest
import torch

from lla_func import krylov, spectrum
from lla_func.spectrum._estimate import standard_error
from lla_func.spectrum._operator import from_matrix
from lla_func.spectrum._probes import generator_from, probes
from tests.spectra import BULK, F64, SPECTRA, counted, prescribed, tensor

TRACES = {
    "hutchinson": {},
    "loose": {"tol": 0.05},
    "deflated": {"known": 3},
    "reused": {"known": 3, "reuse": 5},
    "xtrace": {"method": "xtrace", "max_products": 60},
    "loose xtrace": {"method": "xtrace", "tol": 0.05},
    "deflated xtrace": {"method": "xtrace", "known": 2, "tol": 0.01},
}


@pytest.mark.parametrize("how", TRACES)
@pytest.mark.parametrize("name", ["outliers", "decaying"])
def test_two_standard_errors_cover_the_trace_as_often_as_they_should(name: str, how: str) -> None:
    values = SPECTRA["outliers"] if name == "outliers" else 0.93 ** torch.arange(200, dtype=F64)
    operator = prescribed(values)
    options = {"max_products": 90, **TRACES[how]}  # less than P, or it would be exact
    known = spectrum.eigenpairs(operator, options.pop("known"), seed=77) if "known" in options else None
    reused = options.pop("reuse", 0)
    trials = 150
    hits = 0
    for seed in range(trials):
        reuse = spectrum.quadrature(operator, 3, reused, seed=seed, keep_starts=True) if reused else None
        found = spectrum.trace(operator, known=known, reuse=reuse, seed=seed, **options)
        hits += abs(found.value - float(values.sum())) <= 2 * found.standard_error
    assert 0.88 <= hits / trials <= 1.0  # 90 to 99 %, give or take the chance of 150 trials


def test_the_widened_error_covers_normal_samples_at_every_size() -> None:
    generator = torch.Generator().manual_seed(0)
    for count in (5, 10, 40):
        drawn = torch.randn(3000, count, dtype=F64, generator=generator)
        hits = [abs(float(row.mean())) <= 2 * standard_error(row) for row in drawn]
        assert sum(hits) / 3000 == pytest.approx(0.95, abs=0.02)
    assert standard_error(drawn[0, :3]) == math.inf


def test_deflation_and_xtrace_pay() -> None:
    operator = prescribed(torch.cat([0.05 * BULK, tensor(10, 7, 5, -3)]))
    known = spectrum.eigenpairs(operator, 4)
    plain = spectrum.trace(operator, max_products=40)
    deflated = spectrum.trace(operator, max_products=40, known=known)
    crossed = spectrum.trace(operator, max_products=40, method="xtrace")
    assert deflated.standard_error < 0.05 * plain.standard_error
    assert crossed.standard_error < 0.2 * plain.standard_error
    for found in (plain, deflated, crossed):
        assert abs(found.value - (0.05 * float(BULK.sum()) + 19)) < 4 * found.standard_error


def test_reused_probes_give_their_samples_for_nothing() -> None:
    operator, calls = counted(prescribed(SPECTRA["outliers"]))
    shared = spectrum.quadrature(operator, 6, 12, keep_starts=True)
    assert sum(calls) == shared.products == 72
    calls.clear()
    found = spectrum.trace(operator, reuse=shared, tol=10.0)
    assert (found.products, len(calls), len(found.samples)) == (0, 0, 12)
    assert shared.starts is not None
    direct = (shared.starts * operator.matvec(shared.starts)).sum(1)
    torch.testing.assert_close(found.samples, direct, rtol=1e-9, atol=1e-9)
    norm = spectrum.frobenius(operator, reuse=shared)
    assert norm.products == 0
    torch.testing.assert_close(
        norm.samples, operator.matvec(shared.starts).square().sum(1), rtol=1e-9, atol=1e-9
    )
    more = spectrum.trace(operator, reuse=shared, tol=1e-6, max_products=8)
    assert more.products == 8
    assert len(more.samples.unique()) == 20  # the same seed, yet no probe twice


@pytest.mark.parametrize("method", ["hutchinson", "xtrace"])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_traces_scale_with_the_operator(method: str, scale: float) -> None:
    options = {"method": method, "tol": 0.05, "max_products": 90}
    one = spectrum.trace(prescribed(SPECTRA["outliers"]), **options)
    scaled = spectrum.trace(prescribed(SPECTRA["outliers"] * scale), **options)
    assert scaled.value == pytest.approx(scale * one.value, rel=1e-6)
    assert scaled.standard_error == pytest.approx(scale * one.standard_error, rel=1e-5)
    assert scaled.products == one.products


@pytest.mark.parametrize("method", ["hutchinson", "xtrace"])
def test_exact_cases_are_exact_and_say_so(method: str) -> None:
    small = spectrum.trace(prescribed(tensor(1, 2, 4, -3)), method=method)
    assert small.value == pytest.approx(4.0)
    assert (small.standard_error, small.products, small.converged) == (0.0, 4, True)
    zero = spectrum.trace(prescribed(SPECTRA["zero"]), method=method)
    assert (zero.value, zero.standard_error, zero.converged) == (0.0, 0.0, True)
    low_rank = spectrum.trace(prescribed(SPECTRA["rank three"]), method="xtrace")
    assert low_rank.value == pytest.approx(7.9, rel=1e-9)
    assert low_rank.standard_error < 1e-9


@pytest.mark.parametrize("method", ["hutchinson", "xtrace"])
@pytest.mark.parametrize("budget", [100, 101, 119, 120, 130, 200, 1000, 10**6])
def test_the_trace_is_exact_where_p_products_are_within_the_budget(method: str, budget: int) -> None:
    operator, calls = counted(prescribed(SPECTRA["outliers"]))
    found = spectrum.trace(operator, method=method, tol=1e-9, max_products=budget)
    assert found.value == pytest.approx(float(SPECTRA["outliers"].sum()), rel=1e-12)
    assert (found.standard_error, found.converged) == (0.0, True)
    assert found.products == sum(calls) <= min(budget, 200)
    known = spectrum.eigenpairs(operator, 3)
    deflated = spectrum.trace(operator, method=method, tol=1e-9, max_products=budget, known=known)
    assert deflated.value == pytest.approx(found.value, rel=1e-12)
    assert deflated.standard_error == 0.0


@pytest.mark.parametrize("method", ["hutchinson", "xtrace"])
def test_the_trace_is_sampled_where_that_is_enough_or_all_there_is(method: str) -> None:
    operator = prescribed(SPECTRA["outliers"])
    sampled = spectrum.trace(operator, method=method, max_products=99)
    assert sampled.standard_error > 0
    assert (sampled.products <= 99, sampled.converged) == (True, False)
    cheap = spectrum.trace(operator, method=method, tol=0.5, max_products=1000)
    assert cheap.converged
    assert cheap.products < 50


def test_xtrace_equals_its_definition() -> None:
    # Leave each probe out by brute force: an orthonormal basis of the other images, and the rest of that probe.
    operator, count, dim = prescribed(SPECTRA["outliers"]), 12, 100
    matrix = operator.matvec(torch.eye(dim, dtype=F64))
    found = spectrum.trace(operator, method="xtrace", max_products=24, min_probes=count, seed=9)
    drawn = probes(dim, count, kind="gaussian", seed=generator_from(9, stream=3), dtype=F64)
    for i in range(count):
        others = torch.cat([drawn[:i], drawn[i + 1 :]])
        basis, _ = torch.linalg.qr((others @ matrix).T)
        rest = drawn[i] - basis @ (basis.T @ drawn[i])
        rest = rest / rest.norm() * math.sqrt(dim - count + 1)
        direct = (basis.T @ matrix @ basis).trace() + rest @ matrix @ rest
        assert float(found.samples[i]) == pytest.approx(float(direct), rel=1e-8)
    assert found.value == pytest.approx(float(found.samples.mean()))


def test_a_canceling_trace_still_stops() -> None:
    found = spectrum.trace(prescribed(torch.linspace(-1, 1, 100, dtype=F64)), tol=0.3, max_products=1000)
    assert found.converged
    assert found.products < 50


def test_diagonal_and_frobenius_norm_come_with_honest_errors() -> None:
    operator = prescribed(SPECTRA["outliers"])
    matrix = operator.matvec(torch.eye(100, dtype=F64))
    for known in (None, spectrum.eigenpairs(operator, 4)):
        found = spectrum.diagonal(operator, probes=40, known=known)
        inside = (found.values - matrix.diagonal()).abs() <= 2 * found.standard_error
        assert 0.88 <= float(inside.double().mean()) <= 1.0
        hits = 0
        for seed in range(60):
            norm = spectrum.frobenius(operator, probes=20, known=known, seed=seed)
            hits += abs(norm.value - float(matrix.norm())) <= 2 * norm.standard_error
        assert hits >= 52
    assert spectrum.frobenius(prescribed(SPECTRA["zero"])).value == 0.0


def test_float32_estimates_are_close_to_float64_ones() -> None:
    values = SPECTRA["outliers"]
    single, double = prescribed(values.float()), prescribed(values)
    for method in ("hutchinson", "xtrace"):
        one = spectrum.trace(single, method=method, tol=0.05, max_products=90)
        assert abs(one.value - float(values.sum())) < 4 * one.standard_error
    nodes = spectrum.quadrature(single, 8).nodes
    assert nodes.dtype == F64
    torch.testing.assert_close(nodes, spectrum.quadrature(double, 8).nodes, rtol=1e-3, atol=1e-3)


OPERATOR = prescribed(torch.linspace(-1, 2, 40, dtype=F64))
BAD = {
    "a block of runs": (
        lambda: spectrum.eigenpairs(
            OPERATOR, 1, start=krylov.lanczos(OPERATOR, torch.eye(40, dtype=F64)[:2], 3)
        ),
        ValueError,
        "start holds 2 Lanczos runs; pass one",
    ),
    "method misspelt": (
        lambda: spectrum.trace(OPERATOR, method="xtrce"),
        ValueError,
        "did you mean 'xtrace'",
    ),
    "trace tol below zero": (lambda: spectrum.trace(OPERATOR, tol=-1), ValueError, "tol=-1 is not allowed"),
    "too few probes": (
        lambda: spectrum.trace(OPERATOR, min_probes=2),
        ValueError,
        "min_probes=2 is too small",
    ),
    "no room for xtrace": (
        lambda: spectrum.trace(OPERATOR, method="xtrace", max_products=12),
        ValueError,
        "at least 2",
    ),
    "xtrace with reuse": (
        lambda: spectrum.trace(
            OPERATOR, method="xtrace", reuse=spectrum.quadrature(OPERATOR, 2, keep_starts=True)
        ),
        ValueError,
        "method='hutchinson' only",
    ),
    "probes not kept": (
        lambda: spectrum.trace(OPERATOR, reuse=spectrum.quadrature(OPERATOR, 2)),
        ValueError,
        "kept no probes",
    ),
    "another operator's probes": (
        lambda: spectrum.trace(
            OPERATOR, reuse=spectrum.quadrature(from_matrix(torch.eye(3)), 2, keep_starts=True)
        ),
        ValueError,
        "another operator",
    ),
    "another operator's pairs": (
        lambda: spectrum.trace(OPERATOR, known=spectrum.eigenpairs(from_matrix(torch.eye(3, dtype=F64)), 1)),
        ValueError,
        r"known.vectors has shape \[1, 3\]",
    ),
    "frobenius of one step": (
        lambda: spectrum.frobenius(OPERATOR, reuse=spectrum.quadrature(OPERATOR, 1, keep_starts=True)),
        ValueError,
        "two steps or more",
    ),
    "one diagonal probe": (
        lambda: spectrum.diagonal(OPERATOR, probes=1),
        ValueError,
        "probes=1 is too small",
    ),
    "a word for a seed": (lambda: spectrum.trace(OPERATOR, seed="0"), TypeError, "seed='0' is neither"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("how", TRACES)
def test_an_estimate_that_says_converged_has_met_its_tolerance(how: str) -> None:
    values = 0.93 ** torch.arange(200, dtype=F64)  # positive, so that the size of what is summed is the trace
    operator = prescribed(values)
    options = {"max_products": 150, "tol": 0.05, **TRACES[how]}
    known = spectrum.eigenpairs(operator, options.pop("known"), seed=77) if "known" in options else None
    reused = options.pop("reuse", 0)
    reuse = spectrum.quadrature(operator, 3, reused, keep_starts=True) if reused else None
    met = 0
    for seed in range(10):
        found = spectrum.trace(operator, known=known, reuse=reuse, seed=seed, **options)
        within = found.standard_error <= 1.2 * options["tol"] * float(values.sum())
        assert within or not found.converged
        met += found.converged
        assert float(found.samples.mean()) == pytest.approx(found.value, rel=1e-9)
    assert met


def test_known_eigenvalues_that_cancel_count_by_their_magnitudes() -> None:
    rest = torch.linspace(-1, 1, 198, dtype=F64)
    products = []
    for signs in (tensor(100, 100), tensor(100, -100)):
        operator = prescribed(torch.cat([rest, signs]))
        known = spectrum.eigenpairs(operator, 2, tol=1e-8)
        products.append(spectrum.trace(operator, known=known, tol=0.01, max_products=150).products)
    assert products[0] == products[1] < 150


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_xtrace_of_a_low_rank_is_exact_within_its_error(dtype: torch.dtype) -> None:
    factor = torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=dtype)
    found = spectrum.trace(from_matrix(factor @ factor.T), method="xtrace", max_products=100)
    assert found.converged
    assert (
        abs(found.value - float(factor.double().square().sum())) <= found.standard_error < 1e-3 * found.value
    )


def test_the_standard_error_of_a_frobenius_norm_is_the_deviation_over_seeds() -> None:
    operator = prescribed(SPECTRA["outliers"])
    found = [spectrum.frobenius(operator, probes=60, seed=seed) for seed in range(60)]
    deviation = float(torch.tensor([one.value for one in found]).std())
    stated = sum(one.standard_error for one in found) / len(found)
    assert 0.7 < stated / deviation < 1.4


@pytest.mark.parametrize("count", [5, 7, 51])
def test_the_standard_error_of_a_diagonal_has_a_closed_form_for_a_transposition(count: int) -> None:
    # Each sample of either entry is v_1 v_2 = -1 or 1: their mean m tells their variance, n / (n - 1) (1 - m^2).
    swap = from_matrix(tensor(0, 1, 1, 0).view(2, 2))
    found = spectrum.diagonal(swap, probes=count, seed=1)
    mean = float(found.values[0])
    widened = math.sqrt((count - 1) / (count - 3))
    assert 0 < abs(mean) < 1
    assert found.standard_error.tolist() == pytest.approx(
        [widened * math.sqrt((1 - mean**2) / (count - 1))] * 2
    )
