"""Lanczos: its certificates, its limits in memory, and its breakdowns."""

from __future__ import annotations

import pytest
import torch

from lla_func import krylov
from lla_func._torch._dispatch import DispatchMode
from lla_func.spectrum._operator import Operator, from_matrix
from lla_func.spectrum._probes import generator_from, probes
from tests.spectra import F64, prescribed, tensor


def recorded(operator: Operator) -> tuple[Operator, list[torch.Tensor]]:
    """The operator, and a list of every block that it multiplies."""
    seen: list[torch.Tensor] = []

    def matvec(v: torch.Tensor) -> torch.Tensor:
        seen.append(v.clone())
        return operator.matvec(v)

    return operator._replace(matvec=matvec), seen


SPECTRA = {
    "spread": torch.linspace(-1, 3, 80, dtype=F64),
    "outliers": torch.cat([torch.linspace(-0.1, 0.1, 75, dtype=F64), tensor(9, 7, 5, 4, -3)]),
    "clustered": torch.cat([torch.linspace(0, 1, 70, dtype=F64), 2 + 1e-9 * torch.arange(10, dtype=F64)]),
    "repeated": torch.arange(80, dtype=F64) % 40,
    "negative": -torch.linspace(1, 2, 80, dtype=F64),
    "huge": 1e8 * torch.linspace(-1, 3, 80, dtype=F64),
    "tiny": 1e-8 * torch.linspace(-1, 3, 80, dtype=F64),
}


def start(dim: int, count: int | None = None, dtype: torch.dtype = F64) -> torch.Tensor:
    drawn = probes(dim, count or 1, kind="gaussian", seed=3, dtype=dtype)
    return drawn if count else drawn[0]


@pytest.mark.parametrize("name", SPECTRA)
def test_basis_is_orthonormal_and_satisfies_the_lanczos_relation(name: str) -> None:
    operator = prescribed(SPECTRA[name])
    found = krylov.lanczos(operator, start(80), 30)
    basis, size = found.basis, float(SPECTRA[name].abs().max())
    assert basis is not None
    assert float((basis @ basis.T - torch.eye(30)).abs().max()) < 1e-10
    relation = operator.matvec(basis) - krylov.tridiagonal_matrix(found) @ basis
    relation[-1] -= found.residual
    assert float(relation.abs().max()) < 1e-10 * size
    assert found.orthogonality_loss < 1e-10
    assert found.products == 30


def test_the_reported_loss_is_the_measured_one_with_the_whole_basis() -> None:
    found = krylov.lanczos(prescribed(SPECTRA["outliers"]), start(80), 40)
    assert found.basis is not None
    gram = found.basis @ found.basis.T
    assert found.orthogonality_loss == pytest.approx(float((gram - torch.eye(40)).abs().max()), rel=1e-6)


def test_a_block_runs_each_row_as_if_alone() -> None:
    operator = prescribed(SPECTRA["spread"])
    block = start(80, 3)
    together = krylov.lanczos(operator, block, 20)
    assert together.products == 60
    for row, vector in enumerate(block):
        alone, one = krylov.lanczos(operator, vector, 20), krylov.run(together, row)
        torch.testing.assert_close(one.alphas, alone.alphas, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(one.betas, alone.betas, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(one.residual, alone.residual, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-8, 1e-3, 1e8])
def test_scaling_the_operator_scales_the_coefficients(scale: float) -> None:
    values = SPECTRA["spread"]
    one = krylov.lanczos(prescribed(values), start(80), 25)
    scaled = krylov.lanczos(prescribed(values * scale), start(80), 25)
    torch.testing.assert_close(scaled.alphas, scale * one.alphas, rtol=1e-7, atol=1e-9 * scale)
    torch.testing.assert_close(scaled.betas, scale * one.betas, rtol=1e-7, atol=1e-9 * scale)


def test_the_start_vector_scales_nothing_and_stays_as_it_was() -> None:
    operator, vector = prescribed(SPECTRA["spread"]), start(80)
    kept = vector.clone()
    one, other = krylov.lanczos(operator, vector, 10), krylov.lanczos(operator, 1e6 * vector, 10)
    torch.testing.assert_close(one.alphas, other.alphas)
    assert torch.equal(vector, kept)
    assert torch.equal(one.start, kept)


def test_an_invariant_subspace_stops_the_run() -> None:
    values = torch.tensor([1.0, 1, 2, 2, 3, 0, 0, 0], dtype=F64)
    found = krylov.lanczos(from_matrix(torch.diag(values)), torch.ones(8, dtype=F64), 8)
    assert int(found.length) == len(found.alphas) == found.products == 4
    torch.testing.assert_close(
        torch.linalg.eigvalsh(krylov.tridiagonal_matrix(found)),
        torch.arange(4, dtype=F64),
        atol=1e-12,
        rtol=0,
    )
    assert float(found.residual.norm()) < 1e-12


def test_a_restart_in_the_complement_finds_every_copy() -> None:
    values = torch.tensor([1.0, 1, 2, 2, 3, 0, 0, 0], dtype=F64)
    found = krylov.lanczos(
        from_matrix(torch.diag(values)), torch.ones(8, dtype=F64), 8, on_breakdown="restart"
    )
    ritz = torch.linalg.eigvalsh(krylov.tridiagonal_matrix(found))
    torch.testing.assert_close(ritz, values.sort().values, atol=1e-12, rtol=0)
    assert found.orthogonality_loss < 1e-12
    assert float(found.betas.min()) == 0.0


def test_rows_that_end_early_leave_the_others_unharmed() -> None:
    values = torch.linspace(1, 2, 12, dtype=F64)
    operator = from_matrix(torch.diag(values))
    block = torch.stack([torch.eye(12, dtype=F64)[4], torch.ones(12, dtype=F64)])
    found = krylov.lanczos(operator, block, 6)
    assert found.length.tolist() == [1, 6]
    assert found.products == 7
    alone = krylov.lanczos(operator, block[1], 6)
    torch.testing.assert_close(krylov.run(found, 1).alphas, alone.alphas)
    assert krylov.run(found, 0).alphas.tolist() == [float(values[4])]


@pytest.mark.parametrize("on_breakdown", ["stop", "restart"])
def test_the_zero_operator_is_an_invariant_subspace_at_once(on_breakdown: str) -> None:
    operator = from_matrix(torch.zeros(5, 5, dtype=F64))
    found = krylov.lanczos(operator, torch.ones(5, dtype=F64), 3, on_breakdown=on_breakdown)
    assert not found.alphas.any()
    assert len(found.alphas) == (1 if on_breakdown == "stop" else 3)


def test_more_steps_than_dimensions_are_not_made() -> None:
    found = krylov.lanczos(prescribed(SPECTRA["spread"][:6]), start(6), 50)
    assert found.products == 6


@pytest.mark.parametrize(("max_v", "steps"), [(2, 10), (5, 12), (10, 15), (10, 30), (20, 20)])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_estimated_loss_is_never_below_the_true_one(max_v: int, steps: int, dtype: torch.dtype) -> None:
    diagonal = torch.cat([torch.rand(97, generator=generator_from(0)), torch.tensor([20.0, 30, 50])]).to(
        dtype
    )
    operator, seen = recorded(Operator(lambda v: v * diagonal, 100, dtype, torch.device("cpu")))
    found = krylov.lanczos(operator, torch.ones(100, dtype=dtype), steps, max_v=max_v)
    basis = torch.stack(seen)
    true = float((basis @ basis.T - torch.eye(steps)).abs().max())
    rounding = 100 * torch.finfo(dtype).eps
    assert found.orthogonality_loss >= 0.5 * true
    assert found.orthogonality_loss < max(1e6 * true, rounding)
    assert (found.basis is None) == (max_v < steps)


def test_a_short_memory_loses_orthogonality_and_says_so() -> None:
    operator = prescribed(SPECTRA["outliers"])
    assert krylov.lanczos(operator, start(80), 40, max_v=10).orthogonality_loss > 0.1
    assert krylov.lanczos(operator, start(80), 40).orthogonality_loss < 1e-12


def test_float32_operators_get_float64_coefficients() -> None:
    values = SPECTRA["spread"]
    single = krylov.lanczos(prescribed(values.float()), start(80, dtype=torch.float32), 12)
    double = krylov.lanczos(prescribed(values), start(80, dtype=torch.float32).to(F64), 12)
    assert single.alphas.dtype == single.betas.dtype == F64
    assert single.residual.dtype == torch.float32
    assert single.orthogonality_loss < 1e-5
    torch.testing.assert_close(single.alphas, double.alphas, rtol=1e-4, atol=1e-4)


def test_the_basis_may_live_elsewhere() -> None:
    operator = prescribed(SPECTRA["spread"])
    here = krylov.lanczos(operator, start(80), 10)
    there = krylov.lanczos(operator, start(80), 10, basis_device="cpu")
    assert there.basis is not None
    assert there.basis.device.type == "cpu"
    assert torch.equal(here.alphas, there.alphas)
    assert krylov.lanczos(operator, start(80), 10, keep_basis=False).basis is None


def test_nothing_keeps_a_graph() -> None:
    vector = start(80).requires_grad_()
    found = krylov.lanczos(prescribed(SPECTRA["spread"]), vector, 5)
    assert found.basis is not None
    assert not any(kept.requires_grad for kept in (found.basis, found.residual, found.start))


def test_probes_are_the_same_in_any_block_and_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    for kind in ("rademacher", "gaussian"):
        generator = generator_from(5)
        parts = [probes(33, n, kind=kind, seed=generator) for n in (1, 2, 1)]
        assert torch.equal(torch.cat(parts), probes(33, 4, kind=kind, seed=5))
    krylov.lanczos(prescribed(SPECTRA["repeated"]), start(80), 60, on_breakdown="restart", seed=1)
    assert torch.equal(before, torch.get_rng_state())


def test_streams_of_one_seed_differ() -> None:
    one, other = generator_from(5), generator_from(5, stream=1)
    assert not torch.equal(torch.rand(4, generator=one), torch.rand(4, generator=other))


def test_probes_have_mean_zero_and_variance_one() -> None:
    signs = probes(4000, 3, seed=2)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert float(signs.mean().abs()) < 0.05
    gauss = probes(4000, 3, kind="gaussian", seed=2)
    assert float(gauss.mean().abs()) < 0.05
    assert float(gauss.var()) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("share", [1.0, 1e-6, 1e-11])
def test_a_vector_nearly_in_the_span_comes_out_orthogonal(share: float, rows: int) -> None:
    generator = torch.Generator().manual_seed(4)
    bases = torch.linalg.qr(torch.randn(rows, 200, 20, generator=generator, dtype=F64))[0].mT.contiguous()
    block = bases.sum(1) + share * torch.randn(rows, 200, generator=generator, dtype=F64)
    left, squares, _ = krylov.orthogonalize(block, bases)
    torch.testing.assert_close(squares, left.square().sum(1), rtol=1e-12, atol=0)
    along = (bases @ (left / left.norm(dim=1, keepdim=True))[..., None]).abs().max()
    assert float(along) < 1e-13


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("share", [0.0, 1e-17])
def test_rounding_that_is_left_of_a_vector_in_the_span_is_orthogonal_to_rounding(
    share: float, rows: int
) -> None:
    generator = torch.Generator().manual_seed(4)
    bases = torch.linalg.qr(torch.randn(rows, 200, 20, generator=generator, dtype=F64))[0].mT.contiguous()
    block = bases.sum(1) + share * torch.randn(rows, 200, generator=generator, dtype=F64)
    left, squares, _ = krylov.orthogonalize(block, bases)
    along = bases @ (left / squares.sqrt()[:, None])[..., None]
    assert float(along.abs().max()) < 2 * torch.finfo(F64).eps


class Largest(DispatchMode):
    """The bytes of the largest tensor that comes into being."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        views = ("split", "reshape", "view", "select", "slice")
        if isinstance(result, torch.Tensor) and not any(word in str(operation) for word in views):
            self.bytes = max(self.bytes, result.nbytes)
        return result


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, F64])
def test_inner_products_are_summed_in_float64_without_a_copy(dtype: torch.dtype) -> None:
    one, other = (start(1_000_003, 2, dtype=torch.float32) * scale for scale in (1e-20, 1e25))
    one, other = one.to(dtype), other.flip(1).to(dtype)
    with Largest() as largest:
        found = krylov.inner(one, other)
    assert largest.bytes < 1e6
    torch.testing.assert_close(found, (one.to(F64) * other.to(F64)).sum(1), rtol=1e-11, atol=0)
    torch.testing.assert_close(krylov.inner(one[1], other[1]), found[1], rtol=1e-11, atol=0)


BAD = {
    "v0 of another length": (
        dict(v0=torch.ones(3, dtype=F64)),
        ValueError,
        r"v0 has shape \[3\].*needs \[6\]",
    ),
    "v0 of three axes": ({"v0": torch.ones(1, 1, 6, dtype=F64)}, ValueError, r"v0 has shape \[1, 1, 6\]"),
    "an empty block": ({"v0": torch.ones(0, 6, dtype=F64)}, ValueError, r"v0 has shape \[0, 6\]"),
    "v0 of another dtype": (
        dict(v0=torch.ones(6)),
        ValueError,
        r"v0 is torch.float32.*v0.to\(torch.float64\)",
    ),
    "a list": ({"v0": [1.0] * 6}, TypeError, "v0 is a list; pass a tensor"),
    "a zero row": ({"v0": torch.eye(6, dtype=F64)[:2] * torch.tensor([[1.0], [0.0]])}, ValueError, "row 1"),
    "an infinite v0": ({"v0": torch.full((6,), torch.inf, dtype=F64)}, ValueError, "not finite in row 0"),
    "no steps": ({"steps": 0}, ValueError, "steps=0 is too small"),
    "half a step": ({"steps": 2.5}, TypeError, "steps=2.5 is not a whole number"),
    "one held vector": ({"max_v": 1}, ValueError, "max_v=1 is too small.*at least 2"),
    "a misspelt choice": ({"on_breakdown": "restrat"}, ValueError, "did you mean 'restart'"),
    "a word for a seed": ({"seed": "one"}, TypeError, "seed='one' is neither a whole number"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    change, error, message = BAD[name]
    given = {"v0": torch.ones(6, dtype=F64), "steps": 3} | change
    with pytest.raises(error, match=message):
        krylov.lanczos(prescribed(SPECTRA["spread"][:6]), given.pop("v0"), given.pop("steps"), **given)


def test_an_operator_that_fails_is_named() -> None:
    broken = Operator(lambda v: v * torch.nan, 4, F64, torch.device("cpu"), "hessian")
    with pytest.raises(ValueError, match=r"'hessian' returned NaN or infinite"):
        krylov.lanczos(broken, torch.ones(4, dtype=F64), 2)
    shapeless = broken._replace(matvec=lambda v: v.sum())
    with pytest.raises(ValueError, match=r"maps vectors of shape \[1, 4\] to \[1\]; matvec must map"):
        krylov.lanczos(shapeless, torch.ones(4, dtype=F64), 2)
    with pytest.raises(ValueError, match=r"kind='rademacer' is not one of.*did you mean"):
        probes(3, 1, kind="rademacer")


@pytest.mark.parametrize("bad", [float("inf"), float("-inf"), float("nan")])
def test_a_product_that_is_not_finite_is_refused_in_the_first_step(bad: float) -> None:
    operator = Operator(lambda v: torch.full_like(v, bad), 4, F64, torch.device("cpu"), "broken")
    with pytest.raises(ValueError, match="'broken' returned NaN or infinite values"):
        krylov.lanczos(operator, start(4), 1)


@pytest.mark.parametrize("held", [2, 4])
def test_the_first_vector_that_is_no_longer_held_is_estimated(held: int) -> None:
    # Of held + 2 basis vectors only the first and the last are never held together. The start is almost an eigenvector
    # of the outlier, so they lose orthogonality at once.
    operator = from_matrix(torch.diag(torch.cat([tensor(1e10), torch.linspace(1, 2, 59, dtype=F64)])))
    first = torch.full((60,), 1e-3, dtype=F64)
    first[0] = 1.0
    seeing, seen = recorded(operator)
    found = krylov.lanczos(seeing, first, held + 2, max_v=held)
    vectors = torch.stack([v.flatten() for v in seen])
    true = float((vectors @ vectors.T - torch.eye(held + 2)).abs().max())
    assert found.orthogonality_loss >= true > 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("dim", [10, 10**6, 10**9])
def test_runs_go_together_as_long_as_their_vectors_fit_64_mib(dim: int, dtype: torch.dtype) -> None:
    operator = Operator(lambda v: v, dim, dtype, torch.device("cpu"))
    rows = krylov.rows_per_block(operator, 5, block=None)
    row = 5 * dim * dtype.itemsize
    assert rows == 1 or rows * row <= 2**26
    assert (rows + 1) * row > 2**26


def test_long_vectors_of_float32_lose_no_orthogonality_to_their_sums() -> None:
    basis = torch.full((1, 1, 2**23), 2.0**-11.5)
    block = torch.full((1, 2**23), 0.3)
    block[0, ::2] = 0.2
    length = float(krylov.inner(block, block).sqrt())
    left, _, (along,) = krylov.orthogonalize(block, basis)
    assert float(along) == pytest.approx(0.25 * 2**11.5, rel=1e-6)
    assert abs(float(krylov.inner(left[0], basis[0, 0]))) < 1e-6 * length
