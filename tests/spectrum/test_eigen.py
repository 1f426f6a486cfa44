"""Eigenpairs against dense solvers, SciPy and power iteration; copies, restarts and continued work."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import LinearOperator, eigsh

from lla_func import krylov, spectrum
from lla_func.spectrum._operator import Operator
from lla_func.spectrum._probes import generator_from, probes
from tests.peak import Peak
from tests.spectra import F64, SPECTRA, counted, prescribed, tensor


def expected(values: torch.Tensor, k: int, which: str) -> torch.Tensor:
    """The wanted eigenvalues by sorting all of them; independent of the code under test."""
    down = values.sort(descending=True).values
    if which == "magnitude":
        return values[values.abs().argsort(descending=True)][:k]
    if which == "both":
        return torch.cat([down[: (k + 1) // 2], down[len(down) - k // 2 :]])
    return down[:k] if which == "largest" else down.flip(0)[:k]


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
    linear = LinearOperator(
        (100, 100), lambda v: operator.matvec(torch.from_numpy(v.ravel())).numpy(), dtype=np.float64
    )
    theirs, vectors = eigsh(linear, 3, which="LM", tol=1e-12)
    found = spectrum.eigenpairs(operator, 3, tol=1e-11)
    order = np.argsort(-np.abs(theirs))
    np.testing.assert_allclose(found.values.numpy(), theirs[order], rtol=1e-8)
    overlaps = np.abs(np.sum(found.vectors.numpy() * vectors[:, order].T, axis=1))
    np.testing.assert_allclose(overlaps, 1.0, rtol=1e-8)


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


@pytest.mark.parametrize("apart", [1e-3, 1e-8, 1e-12])
def test_nearly_dependent_starts_give_orthonormal_vectors_and_true_residuals(apart: float) -> None:
    operator = prescribed(SPECTRA["outliers"])
    start = probes(100, 1, dtype=F64) + apart * probes(100, 4, kind="gaussian", seed=5, dtype=F64)
    found = spectrum.eigenpairs(operator, 4, tol=1e-9, start=start, max_basis=12)
    assert float((found.vectors @ found.vectors.T - torch.eye(4)).abs().max()) < 1e-12
    left = operator.matvec(found.vectors) - found.values[:, None] * found.vectors
    assert float((left.norm(dim=1) - found.residuals).abs().max()) < 1e-12
    torch.testing.assert_close(found.values, tensor(10, 7, 5, -3), rtol=1e-9, atol=0)


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_that_the_check_changed_is_checked_again(seed: int) -> None:
    # The rest of the spectrum is narrower than tol, so every pair converges as soon as it is seen: each check brings
    # one more copy, converged at once.
    values = torch.cat([torch.linspace(0, 1e-3, 88, dtype=F64), tensor(*[5] * 12)])
    found = spectrum.eigenpairs(prescribed(values, seed), 8, tol=1e-2, seed=seed)
    torch.testing.assert_close(found.values, tensor(*[5] * 8), rtol=1e-3, atol=0)


@pytest.mark.parametrize("capacity", [4, 9])
def test_no_more_is_held_than_the_basis_and_a_few_vectors(capacity: int) -> None:
    values = torch.linspace(-1, 1, 1_000_000)
    operator = Operator(lambda v: values * v, len(values), torch.float32, torch.device("cpu"))
    with Peak(values.nbytes // 2) as peak:
        found = spectrum.eigenpairs(operator, 2, tol=1e-3, max_basis=capacity, max_iter=20)
    assert found.products == 20
    assert peak.most <= (capacity + 6) * values.nbytes


def power_iteration(operator: Operator, k: int, error: float, seed: int) -> int:
    """Products until each of the top k values is within ``error``, deflating by the exact vectors before it."""
    matrix = operator.matvec(torch.eye(operator.dim, dtype=F64))
    values, vectors = torch.linalg.eigh(matrix)
    order = values.abs().argsort(descending=True)
    generator, spent = generator_from(seed), 0
    for i in range(k):
        exact, known = values[order[i]], vectors[:, order[:i]]
        v = torch.randn(operator.dim, dtype=F64, generator=generator)
        quotient = torch.tensor(torch.inf)
        while abs(quotient - exact) > error * abs(exact):
            v = v - known @ (known.T @ v)
            v = v / v.norm()
            image = operator.matvec(v)
            spent, quotient, v = spent + 1, image @ v, image
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
        theirs += power_iteration(operator, 2, max(error, 1e-12), seed)
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


OPERATOR = prescribed(torch.linspace(-1, 2, 40, dtype=F64))
BAD = {
    "k of nothing": (lambda: spectrum.eigenpairs(OPERATOR, 0), ValueError, "k=0 is too small"),
    "k beyond P": (
        lambda: spectrum.eigenpairs(OPERATOR, 41),
        ValueError,
        "k=41 is more than the dimension 40",
    ),
    "k as a float": (lambda: spectrum.eigenpairs(OPERATOR, 2.0), TypeError, "k=2.0 is not a whole number"),
    "which misspelt": (
        lambda: spectrum.eigenpairs(OPERATOR, 1, which="magnitud"),
        ValueError,
        "did you mean 'magn",
    ),
    "tol of zero": (lambda: spectrum.eigenpairs(OPERATOR, 1, tol=0), ValueError, "tol=0 is not allowed"),
    "tol that is NaN": (lambda: spectrum.eigenpairs(OPERATOR, 1, tol=math.nan), ValueError, "tol=nan is not"),
    "no budget": (
        lambda: spectrum.eigenpairs(OPERATOR, 1, max_iter=0),
        ValueError,
        "max_iter=0 is too small",
    ),
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
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    call, error, message = BAD[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("name", ["outliers", "uniform", "seven dimensions", "far from zero"])
def test_true_residuals_are_never_above_the_reported_ones(name: str, dtype: torch.dtype) -> None:
    far = 1000 + torch.linspace(-0.5, 0.5, 100, dtype=F64)
    operator = prescribed(SPECTRA.get(name, far).to(dtype))
    exact = operator.matvec(torch.eye(operator.dim, dtype=dtype)).double()
    for tol in (1e-2, 1e-4, 1e-6):
        found = spectrum.eigenpairs(operator, 3, tol=tol, max_iter=99, max_basis=12)
        left = found.vectors.double() @ exact - found.values[:, None] * found.vectors.double()
        assert (left.norm(dim=1) <= 1.1 * found.residuals).all()


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_of_both_ends_the_larger_half_is_from_the_top(k: int) -> None:
    values = torch.linspace(-1, 1, 40, dtype=F64)
    found = spectrum.eigenpairs(prescribed(values), k, which="both", tol=1e-6, max_iter=200)
    assert int((found.values > 0).sum()) == (k + 1) // 2


def test_the_largest_entry_of_every_vector_is_positive() -> None:
    for seed in range(4):
        vectors = spectrum.eigenpairs(prescribed(SPECTRA["outliers"], seed), 4, seed=seed).vectors
        assert (vectors.gather(1, vectors.abs().argmax(1, keepdim=True)) > 0).all()


@pytest.mark.parametrize("steps", [None, 20])
@pytest.mark.parametrize("seed", range(3))
def test_a_copy_is_looked_for_long_enough(seed: int, steps: int | None) -> None:
    # The others converge within 20 products and hide what is missing. A random vector shows it only after some steps,
    # also where a run is continued and nothing was spent before.
    values = torch.cat([torch.linspace(-1, 1, 300, dtype=F64), tensor(1.5, 2.5, 2.5, 3)])
    operator = prescribed(values, seed)
    drawn = probes(len(values), 1, seed=seed, dtype=F64)[0]
    run = steps and krylov.lanczos(operator, drawn, steps)
    found = spectrum.eigenpairs(operator, 3, which="largest", start=run, seed=seed)
    torch.testing.assert_close(found.values, tensor(3, 2.5, 2.5), rtol=1e-4, atol=0)


def test_another_seed_starts_elsewhere_and_the_same_seed_gives_the_same_bits() -> None:
    operator = prescribed(SPECTRA["uniform"])
    one, same, other = (spectrum.eigenpairs(operator, 1, max_iter=5, seed=seed).values for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
