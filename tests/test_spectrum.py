"""Eigenpairs, densities and traces of operators with known spectra."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from lla_func import krylov, spectrum
from lla_func.estimate import standard_error
from lla_func.operators import Operator, from_matrix
from lla_func.probes import generator_from, probes

F64 = torch.float64


def prescribed(values: torch.Tensor, seed: int = 0) -> Operator:
    """A dense operator with these eigenvalues and random eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=F64, generator=generator))
    matrix = (turn * values.to(F64)) @ turn.T
    return from_matrix(((matrix + matrix.T) / 2).to(values.dtype))


def diagonal_operator(values: torch.Tensor) -> Operator:
    return Operator(lambda v: v * values, len(values), values.dtype, torch.device("cpu"), "diagonal")


def counted(operator: Operator) -> tuple[Operator, list[int]]:
    """The operator, and a list of how many vectors each call multiplied."""
    calls: list[int] = []

    def matvec(v: torch.Tensor) -> torch.Tensor:
        calls.append(1 if v.ndim == 1 else len(v))
        return operator.matvec(v)

    return operator._replace(matvec=matvec), calls


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


BULK = torch.linspace(-0.5, 1, 96, dtype=F64)
SPECTRA = {
    "outliers": torch.cat([BULK, tensor(10, 7, 5, -3)]),
    "clustered": torch.cat([BULK, tensor(5, 5 - 1e-6, 5 - 2e-6, 2)]),
    "repeated": torch.cat([BULK, tensor(5, 5, 5, 2)]),
    "signed pairs": torch.cat([BULK, tensor(5, -5, 4, -4)]),
    "negative": -torch.cat([BULK + 0.5, tensor(5, 4.9, 3, 2)]),
    "rank three": torch.cat([torch.zeros(97, dtype=F64), tensor(5, 4.9, -2)]),
    "uniform": torch.linspace(-1, 1, 100, dtype=F64),
    "zero": torch.zeros(100, dtype=F64),
    "identity": torch.ones(100, dtype=F64),
    "huge": 1e8 * torch.cat([BULK, tensor(10, 7, 5, -3)]),
    "tiny": 1e-8 * torch.cat([BULK, tensor(10, 7, 5, -3)]),
    "seven dimensions": torch.linspace(-1, 1.1, 7, dtype=F64),
}


def expected(values: torch.Tensor, k: int, which: str) -> torch.Tensor:
    """The wanted eigenvalues by sorting all of them; independent of the code under test."""
    down = values.sort(descending=True).values
    if which == "magnitude":
        return values[values.abs().argsort(descending=True)][:k]
    if which == "both":
        return torch.cat([down[: (k + 1) // 2], down[len(down) - k // 2 :]])
    return down[:k] if which == "largest" else down.flip(0)[:k]


# ---- eigenpairs
# -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["magnitude", "largest", "smallest", "both"])
@pytest.mark.parametrize("name", SPECTRA)
def test_eigenpairs_are_those_of_the_dense_matrix(name: str, which: str) -> None:
    values = SPECTRA[name]
    operator, calls = counted(prescribed(values))
    found = spectrum.eigenpairs(operator, 4, which=which, tol=1e-10, max_iter=1000)
    size = float(values.abs().max())
    wanted = expected(values, 4, which)
    if which == "magnitude":  # the order of 5 and -5 is open
        assert float((found.values.abs() - wanted.abs()).abs().max()) <= 1e-8 * size
    else:
        assert float((found.values - wanted).abs().max()) <= 1e-8 * size
    left = operator.matvec(found.vectors) - found.values[:, None] * found.vectors
    assert float((left.norm(dim=1) - found.residuals).abs().max()) <= 1e-13 * size
    assert float(found.residuals.max()) <= 1e-10 * size
    assert float((found.vectors @ found.vectors.T - torch.eye(4)).abs().max()) < 1e-10
    assert found.converged
    assert found.products == sum(calls[:-1])


@pytest.mark.parametrize("seed", range(8))
def test_no_copy_of_a_repeated_eigenvalue_is_missed(seed: int) -> None:
    values = SPECTRA["repeated"]
    found = spectrum.eigenpairs(prescribed(values, seed), 4, tol=1e-6, seed=seed)
    torch.testing.assert_close(found.values, tensor(5, 5, 5, 2), rtol=1e-8, atol=0)
    unchecked = spectrum.eigenpairs(prescribed(values, seed), 2, tol=1e-6, seed=seed, verify=False)
    assert unchecked.values.round(decimals=3).tolist() == [5.0, 2.0]  # one start sees one copy


def test_eigenpairs_agree_with_scipy() -> None:
    operator = prescribed(SPECTRA["outliers"], seed=4)
    linear = LinearOperator((100, 100), lambda v: operator.matvec(torch.from_numpy(v.ravel())).numpy(),
    dtype=np.float64) theirs, vectors = eigsh(linear, 3, which="LM", tol=1e-12) found =
    spectrum.eigenpairs(operator, 3, tol=1e-11) order = np.argsort(-np.abs(theirs))
    np.testing.assert_allclose(found.values.numpy(), theirs[order], rtol=1e-8) overlaps =
    np.abs(np.sum(found.vectors.numpy() * vectors[:, order].T, axis=1)) np.testing.assert_allclose(overlaps,
    1.0, rtol=1e-8)


@pytest.mark.parametrize("k", [6, 29, 30])
def test_nearly_all_eigenpairs_can_be_asked_for(k: int) -> None:
    values = torch.linspace(-2, 3, 30, dtype=F64) ** 3
    found = spectrum.eigenpairs(prescribed(values), k, which="largest", tol=1e-10)
    torch.testing.assert_close(found.values, values.flip(0)[:k], rtol=1e-8, atol=1e-8)
    assert found.converged
    assert found.products <= 30 or k == 6


def test_a_restart_bounds_the_memory_not_the_accuracy() -> None:
    values = SPECTRA["uniform"]
    found = spectrum.eigenpairs(prescribed(values), 2, which="largest", tol=1e-9, max_basis=8, max_iter=2000)
    assert found.converged
    assert found.products > 8
    torch.testing.assert_close(found.values, values.flip(0)[:2], rtol=1e-9, atol=0)


def test_an_exhausted_budget_is_admitted() -> None:
    operator, calls = counted(prescribed(SPECTRA["uniform"]))
    found = spectrum.eigenpairs(operator, 2, tol=1e-10, max_iter=6)
    assert not found.converged
    assert found.products == sum(calls) == 6
    assert float(found.residuals.max()) > 1e-10


def test_work_done_by_lanczos_is_continued_not_repeated() -> None:
    operator = prescribed(SPECTRA["outliers"])
    done = krylov.lanczos(operator, probes(100, 1, dtype=F64)[0], 40)
    counting, calls = counted(operator)
    found = spectrum.eigenpairs(counting, 2, tol=1e-6, start=done, verify=False)
    assert found.products == len(calls) == 0
    torch.testing.assert_close(found.values, tensor(10, 7), rtol=1e-9, atol=0)
    short = krylov.lanczos(operator, probes(100, 1, dtype=F64)[0], 8)
    continued = spectrum.eigenpairs(operator, 2, tol=1e-8, start=short, verify=False)
    afresh = spectrum.eigenpairs(operator, 2, tol=1e-8, start=short.start, verify=False)
    assert continued.products + 8 == afresh.products
    torch.testing.assert_close(continued.values, afresh.values, rtol=1e-9, atol=0)


def test_a_block_of_good_starts_saves_products() -> None:
    operator = prescribed(SPECTRA["outliers"])
    near = spectrum.eigenpairs(operator, 2, tol=1e-2).vectors
    continued = spectrum.eigenpairs(operator, 2, tol=1e-3, start=near, verify=False)
    afresh = spectrum.eigenpairs(operator, 2, tol=1e-3, verify=False)
    assert continued.converged
    assert continued.products < afresh.products


def power_iteration(operator: Operator, k: int, exact: torch.Tensor, error: float, seed: int) -> int:
    """Products that deflated power iteration takes until each of k values is within ``error`` of the exact one."""
    generator, known, spent = generator_from(seed), torch.zeros(0, operator.dim, dtype=F64), 0
    for i in range(k):
        v = torch.randn(operator.dim, dtype=F64, generator=generator)
        for _ in range(5000):
            v = v - known.T @ (known @ v)
            v = v / v.norm()
            image = operator.matvec(v)
            spent += 1
            if float((image @ v - exact[i]).abs() / exact[i].abs()) <= error:
                break
            v = image
        known = torch.cat([known, v[None]])
    return spent


@pytest.mark.parametrize("top", [(10.0, 7.0), (2.0, 1.9), (10.0, -9.0)])
def test_half_the_products_of_power_iteration_are_enough(top: tuple[float, float]) -> None:
    values = torch.cat([torch.linspace(-0.3, 1.5, 98, dtype=F64), tensor(*top)])
    ours, theirs = 0, 0
    for seed in range(5):
        operator = prescribed(values, seed)
        found = spectrum.eigenpairs(operator, 2, tol=1e-3, seed=seed)
        error = float(((found.values - tensor(*top)) / tensor(*top)).abs().max())
        assert error < 1e-3
        ours += found.products
        theirs += power_iteration(operator, 2, tensor(*top), max(error, 1e-12), seed)
    assert 2 * ours <= theirs


def test_float32_eigenpairs_reach_float32_accuracy() -> None:
    operator = prescribed(SPECTRA["outliers"].float())
    found = spectrum.eigenpairs(operator, 3, tol=1e-5)
    assert found.converged
    assert found.vectors.dtype == torch.float32
    assert found.values.dtype == F64
    torch.testing.assert_close(found.values, tensor(10, 7, 5), rtol=1e-5, atol=0)
    elsewhere = spectrum.eigenpairs(operator, 3, tol=1e-5, basis_device="cpu")
    assert torch.equal(found.values, elsewhere.values)


def test_deflation_removes_what_is_known() -> None:
    operator = prescribed(SPECTRA["outliers"])
    rest = spectrum.deflate(operator, spectrum.eigenpairs(operator, 2, tol=1e-10))
    torch.testing.assert_close(spectrum.eigenpairs(rest, 1, tol=1e-8).values, tensor(5), rtol=1e-8, atol=0)
    block = probes(100, 3, dtype=F64)
    torch.testing.assert_close(rest.matvec(block)[1], rest.matvec(block[1]))


# ---- density
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
@pytest.mark.parametrize("name", ["outliers", "clustered", "negative", "repeated", "huge", "tiny"])
def test_quadrature_reproduces_the_moments_to_degree_2m_minus_1(name: str, kind: str) -> None:
    values = SPECTRA[name]
    size = float(values.abs().max())
    steps = 4
    found = spectrum.quadrature(prescribed(values / size), steps, 2, kind=kind, keep_starts=True)
    matrix = prescribed(values / size).matvec(torch.eye(100, dtype=F64))
    assert found.starts is not None
    unit = found.starts / found.starts.norm(dim=1, keepdim=True)
    image = unit
    for degree in range(2 * steps):
        moment = (found.weights * found.nodes**degree).sum(1)
        torch.testing.assert_close(moment, (unit * image).sum(1), rtol=1e-9, atol=1e-10)
        image = image @ matrix
    beyond = (found.weights * found.nodes ** (2 * steps)).sum(1)
    assert float((beyond - (unit * image).sum(1)).abs().max()) > 1e-10


def test_every_node_and_weight_of_a_diagonal_operator_is_exact() -> None:
    values = tensor(-2, -0.5, 1, 3, 8)
    found = spectrum.quadrature(diagonal_operator(values), 5, 3)
    torch.testing.assert_close(found.nodes, values.repeat(3, 1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.weights, torch.full((3, 5), 0.2, dtype=F64), rtol=1e-10, atol=0)
    repeated = spectrum.quadrature(diagonal_operator(tensor(1, 1, 1, 4)), 4, 1)
    torch.testing.assert_close(repeated.nodes, tensor(1, 4, 4, 4)[None])
    torch.testing.assert_close(repeated.weights, tensor(0.75, 0.25, 0, 0)[None])


@pytest.mark.parametrize("scale", [1e-8, 1e-6, 1.0, 1e6, 1e8])
def test_scaling_the_operator_scales_nodes_and_grid_alone(scale: float) -> None:
    values = SPECTRA["outliers"]
    one = spectrum.density(prescribed(values), 20, 3)
    scaled = spectrum.density(prescribed(values * scale), 20, 3)
    torch.testing.assert_close(scaled.nodes, scale * one.nodes, rtol=1e-6, atol=1e-9 * scale)
    torch.testing.assert_close(scaled.weights, one.weights, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(scaled.grid, scale * one.grid, rtol=1e-6, atol=1e-9 * scale)
    torch.testing.assert_close(scaled.values * scale, one.values, rtol=1e-4, atol=1e-6)
    assert scaled.bandwidth == pytest.approx(scale * one.bandwidth, rel=1e-6)
    # sensible: a bandwidth is resolved by the grid and far narrower than it
    step = float(scaled.grid[1] - scaled.grid[0])
    assert 3 * step < scaled.bandwidth < 0.02 * float(scaled.grid[-1] - scaled.grid[0])


@pytest.mark.parametrize("name", SPECTRA)
def test_the_density_integrates_to_one_over_a_grid_that_holds_every_run(name: str) -> None:
    found = spectrum.density(prescribed(SPECTRA[name]), 15, 4)
    assert float(torch.trapezoid(found.values, found.grid)) == pytest.approx(1.0, abs=1e-4)
    assert float(found.grid[0]) < float(found.nodes.min())
    assert float(found.grid[-1]) > float(found.nodes.max())
    assert bool(found.values.isfinite().all() and found.standard_error.isfinite().all())
    torch.testing.assert_close(found.weights.sum(1), torch.ones(4, dtype=F64))
    assert bool((found.nodes.diff(dim=1) >= 0).all())


def test_a_density_is_the_mean_of_its_runs_with_their_standard_error() -> None:
    rules = spectrum.quadrature(prescribed(SPECTRA["outliers"]), 10, 6)
    curve = spectrum.smooth(rules.nodes, rules.weights)
    distance = (curve.grid - rules.nodes[..., None]) / curve.bandwidth
    heights = torch.exp(-(distance**2) / 2) / (curve.bandwidth * math.sqrt(2 * math.pi))
    runs = (rules.weights[..., None] * heights).sum(1)
    torch.testing.assert_close(curve.values, runs.mean(0))
    torch.testing.assert_close(curve.standard_error, runs.std(0) / math.sqrt(6))
    assert bool(spectrum.smooth(rules.nodes[0], rules.weights[0]).standard_error.isnan().all())


def test_the_density_of_a_random_covariance_is_marchenko_pastur() -> None:
    generator = torch.Generator().manual_seed(1)
    rows, columns = 800, 400
    data = torch.randn(rows, columns, dtype=F64, generator=generator)
    covariance = from_matrix(data.T @ data / rows)
    ratio = columns / rows
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    found = spectrum.density(covariance, 40, 10, relative_bandwidth=0.03)
    inside = (found.grid > low + 0.3) & (found.grid < high - 0.3)
    x = found.grid[inside]
    law = ((high - x) * (x - low)).sqrt() / (2 * math.pi * ratio * x)
    assert float((found.values[inside] - law).abs().max()) < 0.06
    assert float(found.nodes.min()) > low - 0.1
    assert float(found.nodes.max()) < high + 0.1


@pytest.mark.parametrize("spike", [3.0, 5.0])
def test_a_spike_in_the_covariance_appears_where_theory_puts_it(spike: float) -> None:
    # Baik, Ben Arous, Peche: a population eigenvalue l > 1 + sqrt(c) is seen at l (1 + c / (l - 1)).
    generator = torch.Generator().manual_seed(2)
    rows, columns = 2000, 500
    data = torch.randn(rows, columns, dtype=F64, generator=generator)
    data[:, 0] *= math.sqrt(spike)
    covariance = from_matrix(data.T @ data / rows)
    found = spectrum.eigenpairs(covariance, 2, which="largest")
    ratio = columns / rows
    assert float(found.values[0]) == pytest.approx(spike * (1 + ratio / (spike - 1)), rel=0.08)
    assert float(found.values[1]) == pytest.approx((1 + math.sqrt(ratio)) ** 2, rel=0.05)


def test_a_spiked_wigner_matrix_follows_its_law() -> None:
    # Added to a semicircle of radius 2, a spike t > 1 is seen at t + 1 / t.
    dim, spike = 600, 2.5
    noise = torch.randn(dim, dim, dtype=F64, generator=torch.Generator().manual_seed(3))
    matrix = (noise + noise.T) / math.sqrt(2 * dim)
    matrix[0, 0] += spike
    found = spectrum.eigenpairs(from_matrix(matrix), 2, which="largest")
    assert float(found.values[0]) == pytest.approx(spike + 1 / spike, rel=0.05)
    assert float(found.values[1]) == pytest.approx(2.0, rel=0.05)


def test_log_density_accounts_for_the_whole_spectrum() -> None:
    nodes = torch.stack([tensor(-1e-3, 0, 1e-5, 10), tensor(-1e-2, 1e-12, 1e-4, 10)])
    weights = tensor(0.1, 0.4, 0.3, 0.2).repeat(2, 1)
    found = spectrum.log_density(nodes, weights)
    assert float(torch.trapezoid(found.positive, found.grid)) == pytest.approx(0.5, abs=1e-3)
    assert float(torch.trapezoid(found.negative, found.grid)) == pytest.approx(0.1, abs=1e-3)
    assert found.zero == pytest.approx(0.4)
    assert float(found.grid[found.positive.argmax()]) == pytest.approx(1.0, abs=0.05)
    nothing = spectrum.log_density(torch.zeros(3), torch.full((3,), 1 / 3))
    assert nothing.zero == pytest.approx(1.0)
    assert not nothing.positive.any()


def test_blocks_change_nothing_but_rounding() -> None:
    operator = prescribed(SPECTRA["outliers"])
    one = spectrum.quadrature(operator, 10, 5, block=1)
    many = spectrum.quadrature(operator, 10, 5, block=3)
    torch.testing.assert_close(one.nodes, many.nodes, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(one.weights, many.weights, rtol=1e-6, atol=1e-10)
    assert one.products == many.products == 50


# ---- trace, diagonal, Frobenius norm
# ------------------------------------------------------------------------------


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
    options = dict(TRACES[how])
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
    torch.testing.assert_close(norm.samples, operator.matvec(shared.starts).square().sum(1), rtol=1e-9,
    atol=1e-9) more = spectrum.trace(operator, reuse=shared, tol=1e-6, max_products=8) assert more.products ==
    8 assert len(more.samples.unique()) == 20  # the same seed, yet no probe twice


def test_one_krylov_space_serves_density_eigenpairs_and_trace_for_fewer_products() -> None:
    operator, calls = counted(prescribed(SPECTRA["outliers"]))
    shared = spectrum.density(operator, 30, 2, keep_basis=True, keep_starts=True)
    pairs = spectrum.eigenpairs(operator, 2, start=shared.quadrature.first)
    total = spectrum.trace(operator, known=pairs, reuse=shared.quadrature, max_products=20)
    together = shared.products + pairs.products + total.products
    assert together == sum(calls)
    apart = 60 + spectrum.eigenpairs(operator, 2).products + spectrum.trace(operator,
    max_products=22).products assert together < apart torch.testing.assert_close(pairs.values, tensor(10, 7),
    rtol=1e-9, atol=0)


@pytest.mark.parametrize("method", ["hutchinson", "xtrace"])
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_traces_scale_with_the_operator(method: str, scale: float) -> None:
    one = spectrum.trace(prescribed(SPECTRA["outliers"]), method=method, tol=0.05)
    scaled = spectrum.trace(prescribed(SPECTRA["outliers"] * scale), method=method, tol=0.05)
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


def test_xtrace_equals_its_definition() -> None:
    # Leave each probe out by brute force: an orthonormal basis of the other images, and the rest of that
    # probe.
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


def test_a_cancelling_trace_still_stops() -> None:
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
        one = spectrum.trace(single, method=method, tol=0.05)
        assert abs(one.value - float(values.sum())) < 4 * one.standard_error
    nodes = spectrum.quadrature(single, 8).nodes
    assert nodes.dtype == F64
    torch.testing.assert_close(nodes, spectrum.quadrature(double, 8).nodes, rtol=1e-3, atol=1e-3)


def test_seeds_decide_and_the_global_generator_is_left_alone() -> None:
    operator, before = prescribed(SPECTRA["outliers"]), torch.get_rng_state()

    def everything(seed: int | torch.Generator) -> list[torch.Tensor]:
        return [
            spectrum.eigenpairs(operator, 2, seed=seed).vectors,
            spectrum.density(operator, 5, 2, seed=seed).values,
            spectrum.trace(operator, max_products=10, seed=seed).samples,
            spectrum.trace(operator, method="xtrace", max_products=20, seed=seed).samples,
            spectrum.diagonal(operator, probes=4, seed=seed).values,
            spectrum.frobenius(operator, probes=4, seed=seed).samples,
        ]

    one, same, other = everything(1), everything(1), everything(2)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    explicit = everything(torch.Generator().manual_seed(4))
    assert all(torch.equal(a, b) for a, b in zip(explicit, everything(torch.Generator().manual_seed(4)),
    strict=True)) assert torch.equal(before, torch.get_rng_state())


# ---- bad inputs
# ---------------------------------------------------------------------------------------------------

OPERATOR = prescribed(torch.linspace(-1, 2, 40, dtype=F64))
BAD = {
    "k of nothing": (lambda: spectrum.eigenpairs(OPERATOR, 0), ValueError, "k=0 is too small"),
    "k beyond P": (lambda: spectrum.eigenpairs(OPERATOR, 41), ValueError, "k=41 is more than the dimension 40"),
    "k as a float": (lambda: spectrum.eigenpairs(OPERATOR, 2.0), TypeError, "k=2.0 is not a whole number"),
    "which misspelt": (lambda: spectrum.eigenpairs(OPERATOR, 1, which="magnitud"), ValueError, "did you mean 'magn"),
    "tol of zero": (lambda: spectrum.eigenpairs(OPERATOR, 1, tol=0), ValueError, "tol=0 is not allowed"),
    "tol that is NaN": (lambda: spectrum.eigenpairs(OPERATOR, 1, tol=math.nan), ValueError, "tol=nan is not"),
    "no budget": (lambda: spectrum.eigenpairs(OPERATOR, 1, max_iter=0), ValueError, "max_iter=0 is too small"),
    "too small a basis": (lambda: spectrum.eigenpairs(OPERATOR, 4, max_basis=5), ValueError, "at least 6"),
    "a start of another length": (
        lambda: spectrum.eigenpairs(OPERATOR, 1, start=torch.ones(3, dtype=F64)),
        ValueError,
        r"start has shape \[3\]",
    ),
    "too many starts": (
        lambda: spectrum.eigenpairs(OPERATOR, 1, start=torch.eye(40, dtype=F64)),
        ValueError,
        "start holds 40 vectors; pass at most 24",
    ),
    "a run without basis": (
        lambda: spectrum.eigenpairs(OPERATOR, 1, start=spectrum.quadrature(OPERATOR, 3).first),
        ValueError,
        "start holds no basis; run lanczos with keep_basis=True",
    ),
    "a block of runs": (
        lambda: spectrum.eigenpairs(OPERATOR, 1, start=krylov.lanczos(OPERATOR, torch.eye(40, dtype=F64)[:2],
            3)),
        ValueError,
        "start holds 2 Lanczos runs; pass one",
    ),
    "no steps": (lambda: spectrum.density(OPERATOR, 0), ValueError, "steps=0 is too small"),
    "no probes": (lambda: spectrum.density(OPERATOR, 3, 0), ValueError, "probes=0 is too small"),
    "kind misspelt": (lambda: spectrum.density(OPERATOR, 3, kind="rademache"), ValueError, "did you mean 'radem"),
    "one grid point": (lambda: spectrum.density(OPERATOR, 3, points=1), ValueError, "points=1 is too small"),
    "no bandwidth": (lambda: spectrum.density(OPERATOR, 3, relative_bandwidth=0), ValueError, "relative_bandwidth=0"),
    "unequal tables": (lambda: spectrum.smooth(torch.ones(3), torch.ones(4)), ValueError, "nodes and weights have sh"),
    "NaN nodes": (lambda: spectrum.smooth(torch.full((2,), math.nan), torch.ones(2)), ValueError, "hold NaN"),
    "no decades": (lambda: spectrum.log_density(torch.ones(2), torch.ones(2), decades=0), ValueError, "decades=0"),
    "method misspelt": (lambda: spectrum.trace(OPERATOR, method="xtrce"), ValueError, "did you mean 'xtrace'"),
    "trace tol below zero": (lambda: spectrum.trace(OPERATOR, tol=-1), ValueError, "tol=-1 is not allowed"),
    "too few probes": (lambda: spectrum.trace(OPERATOR, min_probes=2), ValueError, "min_probes=2 is too small"),
    "no room for xtrace": (lambda: spectrum.trace(OPERATOR, method="xtrace", max_products=12), ValueError, "at least 2"),
    "xtrace with reuse": (
        lambda: spectrum.trace(OPERATOR, method="xtrace", reuse=spectrum.quadrature(OPERATOR, 2,
            keep_starts=True)),
        ValueError,
        "method='hutchinson' only",
    ),
    "probes not kept": (
        lambda: spectrum.trace(OPERATOR, reuse=spectrum.quadrature(OPERATOR, 2)),
        ValueError,
        "kept no probes",
    ),
    "another operator's probes": (
        lambda: spectrum.trace(OPERATOR, reuse=spectrum.quadrature(from_matrix(torch.eye(3)), 2,
            keep_starts=True)),
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
    "one diagonal probe": (lambda: spectrum.diagonal(OPERATOR, probes=1), ValueError, "probes=1 is too small"),
    "a word for a seed": (lambda: spectrum.trace(OPERATOR, seed="0"), TypeError, "seed='0' is neither"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()
