"""Criteria: closed forms, invariances, and defined values where a side of the spectrum is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lla_func import criteria, spectrum
from lla_func.spectrum._analysis import criteria_of
from lla_func.spectrum._operator import Operator
from tests.spectra import F64, diagonal_operator, tensor

INF = math.inf


def as_lla_computes_them(nodes: torch.Tensor, weights: torch.Tensor, n: float) -> tuple[float, float]:
    """r_e and K_hn by the definition of the original library, run by run."""
    ratios, sums = [], []
    for theta, tau in zip(nodes.numpy(), weights.numpy(), strict=True):
        ratios.append(abs(theta.min() / theta.max()))
        product = theta * tau
        sums.append(np.sum(np.abs(product[theta < 0]) ** n) / np.sum(product[theta > 0] ** n))
    return float(np.mean(ratios)), float(np.mean(sums))


@pytest.mark.parametrize("n", [0.25, 0.5, 1.0, 2.0])
def test_the_criteria_are_those_of_lla(n: float) -> None:
    values = torch.linspace(-1, 5, 60, dtype=F64)
    rules = spectrum.quadrature(diagonal_operator(values), 12, 5)
    ratio, summed = as_lla_computes_them(rules.nodes, rules.weights, n)
    assert criteria.r_e(rules.nodes).value == pytest.approx(ratio, rel=1e-12)
    assert criteria.k_hn(rules.nodes, rules.weights, n=n).value == pytest.approx(summed, rel=1e-12)


def test_a_diagonal_quadratic_gives_every_criterion_exactly() -> None:
    values = tensor(-2, -0.5, 1, 3, 8)
    rules = spectrum.quadrature(diagonal_operator(values), 5, 3)
    assert criteria.r_e(rules.nodes).value == pytest.approx(0.25)
    roots = (math.sqrt(2) + math.sqrt(0.5)) / (1 + math.sqrt(3) + math.sqrt(8))
    found = criteria.k_hn(rules.nodes, rules.weights)
    assert found.value == pytest.approx(roots)
    assert found.spread == pytest.approx(0.0, abs=1e-9)
    assert criteria.c_t(rules.nodes) == pytest.approx(-0.25)
    # multiplicities enter with their weights, inside the power as 2^n
    rules = spectrum.quadrature(diagonal_operator(tensor(-1, -1, 4)), 3, 1)
    assert criteria.k_hn(rules.nodes, rules.weights, n=0.5).value == pytest.approx(math.sqrt(2) / 2)


def test_splitting_a_node_raises_its_contribution() -> None:
    splits = torch.tensor([[-1.0, 4.0]]), torch.tensor([[0.5, 0.5]])
    halves = torch.tensor([[-1.0, -1.0, 4.0]]), torch.tensor([[0.25, 0.25, 0.5]])
    ratio = criteria.k_hn(*halves).value / criteria.k_hn(*splits).value
    assert ratio == pytest.approx(math.sqrt(2))


def test_a_node_within_its_resolution_of_zero_counts_for_neither_sign() -> None:
    nodes, weights = tensor(-2, -0.1, 0.2, 8), tensor(0.1, 0.4, 0.4, 0.1)
    sides = math.sqrt(2) / math.sqrt(8)
    for resolution in (0.3, tensor(0, 0.1, 0.2, 0)):
        assert criteria.k_hn(nodes, weights, resolution=resolution).value == pytest.approx(sides)
    one_side = criteria.k_hn(nodes, weights, resolution=tensor(0, 0.11, 0.19, 7)).value
    assert one_side == pytest.approx(math.sqrt(0.2) / (math.sqrt(0.08) + math.sqrt(0.8)))


def test_an_analysis_leaves_out_nodes_whose_sign_is_unknown() -> None:
    values = torch.cat([torch.linspace(-0.02, 0.02, 400, dtype=F64), tensor(-2, 5, 10)])
    rules = spectrum.quadrature(diagonal_operator(values), 12, 3)
    known = rules.nodes.abs() > rules.residuals
    assert 0 < int((~known).sum()) < known.numel()
    found = criteria_of(rules, 0.5).k_hn
    for row, value in enumerate(found.runs.tolist()):
        kept = (t[row][known[row]] for t in (rules.nodes, rules.weights))
        assert value == pytest.approx(criteria.k_hn(*kept).value, rel=1e-12)
    # rounding of the products' dtype: bfloat16 cannot tell 0.1 % from zero
    half = rules.first._replace(residual=rules.first.residual.bfloat16())
    coarse = rules._replace(
        first=half, residuals=torch.zeros(1, 3, dtype=F64), weights=tensor(0.4, 0.5, 0.1)[None]
    )
    assert criteria_of(coarse._replace(nodes=tensor(-1e-3, 0.5, 1)[None]), 0.5).k_hn.value == 0.0


def test_one_start_is_one_draw_and_three_have_a_spread() -> None:
    operator = diagonal_operator(torch.linspace(-1, 4, 60, dtype=F64))
    for starts in (1, 2, 3, 5):
        found = criteria_of(spectrum.quadrature(operator, 12, starts), 0.5)
        assert (found.note is None) == (starts >= 3)
        assert math.isnan(found.k_hn.spread) == (starts == 1)
    assert "one start is one draw" in str(criteria_of(spectrum.quadrature(operator, 12, 1), 0.5).note)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
def test_no_criterion_depends_on_the_scale(scale: float) -> None:
    nodes, weights = tensor(-2, 1, 5), tensor(0.2, 0.5, 0.3)
    assert criteria.r_e(scale * nodes).value == pytest.approx(criteria.r_e(nodes).value)
    assert criteria.c_t(scale * nodes) == pytest.approx(criteria.c_t(nodes))
    for n in (0.5, 3.0):
        one = criteria.k_hn(nodes, weights, n=n).value
        assert criteria.k_hn(scale * nodes, weights, n=n).value == pytest.approx(one)


def test_the_negative_operator_has_the_inverse_criteria() -> None:
    nodes, weights = tensor(-2, 1, 5), tensor(0.2, 0.5, 0.3)
    assert criteria.r_e(-nodes).value == pytest.approx(1 / criteria.r_e(nodes).value)
    assert criteria.k_hn(-nodes, weights).value == pytest.approx(1 / criteria.k_hn(nodes, weights).value)
    assert criteria.c_t(-nodes) == pytest.approx(1 / criteria.c_t(nodes))


SIDES = {  # nodes: r_e, K_hn, C_t, class
    "positive": (tensor(1, 2, 4), 0.25, 0.0, 0.0, "mainly positive"),
    "semidefinite": (tensor(0, 2, 4), 0.0, 0.0, 0.0, "mainly positive"),
    "zero to rounding": (tensor(-4e-7, 2, 4), 0.0, 0.0, 0.0, "mainly positive"),
    "negative": (tensor(-4, -2, -1), 4.0, INF, -INF, "mainly negative"),
    "negative semidefinite": (tensor(-4, -2, 0), INF, INF, -INF, "mainly negative"),
    "zero": (tensor(0, 0, 0), 0.0, 0.0, 0.0, "zero"),
    "balanced": (tensor(-3, 0, 3), 1.0, 1.0, -1.0, "mixed"),
    "mostly negative": (tensor(-9, 0, 3), 3.0, math.sqrt(3), -3.0, "mainly negative"),
}


@pytest.mark.parametrize("name", SIDES)
def test_one_sided_spectra_have_defined_criteria(name: str) -> None:
    nodes, ratio, summed, depth, kind = SIDES[name]
    weights = tensor(1 / 3, 1 / 3, 1 / 3)
    assert criteria.r_e(nodes).value == pytest.approx(ratio)
    assert criteria.k_hn(nodes, weights).value == pytest.approx(summed)
    assert criteria.c_t(nodes) == pytest.approx(depth)
    assert criteria.spectrum_class(nodes) == kind


def test_rounding_is_not_counted_as_curvature_unless_asked_for() -> None:
    nodes, weights = tensor(-1e-7, 1), tensor(0.9, 0.1)
    assert criteria.k_hn(nodes, weights).value == 0.0
    assert criteria.k_hn(nodes, weights, zero=0.0).value == pytest.approx(math.sqrt(9e-7))
    assert criteria.c_t(nodes, zero=0.0) == pytest.approx(-1e-7)


def test_small_curvature_above_rounding_counts() -> None:
    nodes, weights = tensor(-1e-5, 1), tensor(0.5, 0.5)
    assert criteria.r_e(nodes).value == pytest.approx(1e-5)
    assert criteria.k_hn(nodes, weights, n=1.0).value == pytest.approx(1e-5)
    assert criteria.c_t(nodes) == pytest.approx(-1e-5)


def test_a_float32_null_space_is_not_negative_curvature() -> None:
    factor = torch.randn(60, 10, generator=torch.Generator().manual_seed(0))
    operator = Operator(lambda v: (v @ factor) @ factor.T, 60, torch.float32, torch.device("cpu"))
    rules = spectrum.quadrature(operator, 20, 4, on_breakdown="restart")
    assert float(rules.nodes.min()) < 0  # by rounding
    assert criteria.k_hn(rules.nodes, rules.weights).value == 0.0
    assert criteria.c_t(rules.nodes) == 0.0


def test_the_spread_is_that_of_the_runs() -> None:
    nodes, weights = torch.stack([tensor(-1, 4), tensor(-2, 4)]), torch.full((2, 2), 0.5, dtype=F64)
    found = criteria.r_e(nodes)
    assert found.runs.tolist() == [0.25, 0.5]
    assert found.spread == pytest.approx(tensor(0.25, 0.5).std().item())
    assert math.isnan(criteria.k_hn(nodes[0], weights[0]).spread)


def test_the_class_follows_its_rule_at_the_boundaries() -> None:
    assert criteria.spectrum_class(tensor(-1, 2.1)) == "mainly positive"
    assert criteria.spectrum_class(tensor(-1, 2)) == "mixed"
    assert criteria.spectrum_class(tensor(-2, 1)) == "mixed"
    assert criteria.spectrum_class(tensor(-2.1, 1)) == "mainly negative"
    assert criteria.spectrum_class(tensor(-1, 2), share=0.6) == "mainly positive"


BAD = {
    "no nodes": (lambda: criteria.r_e(torch.zeros(0)), r"nodes has shape \[0\]"),
    "three axes": (lambda: criteria.r_e(torch.zeros(1, 1, 1)), r"nodes has shape \[1, 1, 1\]; pass \[B, M\]"),
    "NaN nodes": (lambda: criteria.r_e(tensor(math.nan, 1)), "nodes holds NaN or infinite"),
    "infinite weights": (
        lambda: criteria.k_hn(tensor(1, 2), tensor(INF, 1)),
        "weights holds NaN or infinite",
    ),
    "unequal tables": (lambda: criteria.k_hn(tensor(1, 2), tensor(1)), r"shapes \[1, 2\] and \[1, 1\]"),
    "negative weights": (lambda: criteria.k_hn(tensor(1, 2), tensor(-1, 2)), "weights holds negative"),
    "a negative power": (
        lambda: criteria.k_hn(tensor(1), tensor(1), n=-0.5),
        "n=-0.5 is not allowed.*greater than 0",
    ),
    "a resolution of another shape": (
        lambda: criteria.k_hn(tensor(1, 2), tensor(1, 2), resolution=tensor(1)[None].expand(2, 1)),
        r"resolution has shape \[2, 1\]; pass half-widths of at least 0",
    ),
    "a negative resolution": (
        lambda: criteria.k_hn(tensor(1, 2), tensor(1, 2), resolution=-1e-3),
        "half-widths of at least 0",
    ),
    "a negative zero": (lambda: criteria.c_t(tensor(1), zero=-1e-3), "zero=-0.001 is not allowed"),
    "everything zero": (lambda: criteria.r_e(tensor(1), zero=1.0), "zero=1.0 is not allowed"),
    "a share above one": (lambda: criteria.spectrum_class(tensor(1), share=2), "share=2.0 is not allowed"),
    "no eigenvalues": (lambda: criteria.c_t(torch.zeros(0)), r"values has shape \[0\]"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_every_run_has_a_zero_of_its_own_size(scale: float) -> None:
    nodes, weights = tensor(-1, 0, 4), tensor(0.5, 0.25, 0.25)
    both = torch.stack([nodes, scale * nodes]), torch.stack([weights, weights])
    assert criteria.r_e(both[0]).runs.tolist() == pytest.approx([0.25, 0.25])
    assert criteria.k_hn(*both).runs.tolist() == pytest.approx([criteria.k_hn(nodes, weights).value] * 2)
