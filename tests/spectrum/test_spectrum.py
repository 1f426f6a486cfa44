"""What the parts of a spectral analysis share: one Krylov space, one seed, one list of names."""

from __future__ import annotations

import torch

from lla_func import spectrum
from tests.spectra import SPECTRA, counted, prescribed, tensor


def test_one_krylov_space_serves_density_eigenpairs_and_trace_for_fewer_products() -> None:
    operator, calls = counted(prescribed(SPECTRA["outliers"]))
    shared = spectrum.density(operator, 30, 2, keep_basis=True, keep_starts=True)
    pairs = spectrum.eigenpairs(operator, 2, start=shared.quadrature.first)
    total = spectrum.trace(operator, known=pairs, reuse=shared.quadrature, max_products=20)
    together = shared.products + pairs.products + total.products
    assert together == sum(calls)
    apart = (
        60 + spectrum.eigenpairs(operator, 2).products + spectrum.trace(operator, max_products=22).products
    )
    assert together < apart
    torch.testing.assert_close(pairs.values, tensor(10, 7), rtol=1e-9, atol=0)


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
    assert all(
        torch.equal(a, b) for a, b in zip(explicit, everything(torch.Generator().manual_seed(4)), strict=True)
    )
    assert torch.equal(before, torch.get_rng_state())


def test_the_module_offers_what_its_parts_do() -> None:
    assert sorted(spectrum.__all__) == spectrum.__all__
    assert all(hasattr(spectrum, name) for name in spectrum.__all__)
