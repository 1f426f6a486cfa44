"""Quadrature and density: exact moments and nodes, random-matrix laws, scales."""

from __future__ import annotations

import math

import pytest
import torch

from lla_func import krylov, spectrum
from lla_func.spectrum._operator import from_matrix
from tests.spectra import F64, SPECTRA, diagonal_operator, prescribed, tensor


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


def test_an_eigenvalue_lies_within_the_residual_of_every_node() -> None:
    values = SPECTRA["outliers"]
    found = spectrum.quadrature(prescribed(values), 9, 4)
    off = (found.nodes[..., None] - values).abs().amin(-1)
    assert bool((off <= found.residuals * (1 + 1e-9)).all())
    basis = spectrum.quadrature(prescribed(values), 9, 1, keep_basis=True)
    _, vectors = torch.linalg.eigh(krylov.tridiagonal_matrix(basis.first))
    ritz = vectors.mT @ basis.first.basis
    images = prescribed(values).matvec(ritz)
    torch.testing.assert_close((images - basis.nodes[0][:, None] * ritz).norm(dim=1), basis.residuals[0])
    exact = spectrum.quadrature(diagonal_operator(tensor(1, 1, 1, 4)), 4, 1)
    torch.testing.assert_close(exact.residuals, torch.zeros(1, 4, dtype=F64))


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


OPERATOR = prescribed(torch.linspace(-1, 2, 40, dtype=F64))
BAD = {
    "no steps": (lambda: spectrum.density(OPERATOR, 0), ValueError, "steps=0 is too small"),
    "no probes": (lambda: spectrum.density(OPERATOR, 3, 0), ValueError, "probes=0 is too small"),
    "kind misspelt": (
        lambda: spectrum.density(OPERATOR, 3, kind="rademache"),
        ValueError,
        "did you mean 'radem",
    ),
    "one grid point": (lambda: spectrum.density(OPERATOR, 3, points=1), ValueError, "points=1 is too small"),
    "no bandwidth": (
        lambda: spectrum.density(OPERATOR, 3, relative_bandwidth=0),
        ValueError,
        "relative_bandwidth=0",
    ),
    "unequal tables": (
        lambda: spectrum.smooth(torch.ones(3), torch.ones(4)),
        ValueError,
        "nodes and weights have sh",
    ),
    "NaN nodes": (lambda: spectrum.smooth(torch.full((2,), math.nan), torch.ones(2)), ValueError, "hold NaN"),
    "no decades": (
        lambda: spectrum.log_density(torch.ones(2), torch.ones(2), decades=0),
        ValueError,
        "decades=0",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()


def test_the_grid_reaches_five_bandwidths_beyond_the_outermost_nodes_of_any_run() -> None:
    halves = torch.full((2, 2), 0.5, dtype=F64)
    curve = spectrum.smooth(torch.stack([tensor(-1, 0), tensor(0, 3)]), halves, relative_bandwidth=0.01)
    assert curve.bandwidth == pytest.approx(0.04)
    assert (float(curve.grid[0]), float(curve.grid[-1])) == pytest.approx((-1.2, 3.2))


@pytest.mark.parametrize("shift", [1.0, 1e4, -1e6])
def test_shifting_the_operator_shifts_the_density(shift: float) -> None:
    nodes, weights = tensor(0, 0.1, 1), tensor(0.2, 0.5, 0.3)
    plain, shifted = spectrum.smooth(nodes, weights), spectrum.smooth(nodes + shift, weights)
    assert shifted.bandwidth == pytest.approx(plain.bandwidth)
    torch.testing.assert_close(shifted.values, plain.values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e9])
def test_scaling_the_operator_moves_the_log_density_along_the_decades(scale: float) -> None:
    nodes, weights = tensor(-0.01, 1e-11, 0.5, 1), tensor(0.25, 0.25, 0.25, 0.25)
    plain, scaled = spectrum.log_density(nodes, weights), spectrum.log_density(scale * nodes, weights)
    assert scaled.zero == plain.zero == 0.25
    torch.testing.assert_close(scaled.grid, plain.grid + math.log10(scale))
    for side in ("positive", "negative"):
        torch.testing.assert_close(getattr(scaled, side), getattr(plain, side))


def test_the_log_density_of_several_runs_is_their_mean() -> None:
    nodes = torch.stack([tensor(-1, 2, 4), tensor(-2, 1, 4)])
    weights = torch.full((2, 3), 1 / 3, dtype=F64)
    found = spectrum.log_density(nodes, weights)
    areas = [float(torch.trapezoid(side, found.grid)) for side in (found.positive, found.negative)]
    assert areas == pytest.approx([2 / 3, 1 / 3], abs=1e-4)
