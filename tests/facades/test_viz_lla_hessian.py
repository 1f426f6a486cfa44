"""The Hessian part of viz_lla: planes along eigenvectors, and the spectrum beside the pictures."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lla_func import from_loss, products, viz_lla


def test_viz_lla_takes_several_starts(case):
    result = viz_lla(
        case.model, case.metric, eval_hessian=True, calc_crit=True, n_v=3, steps=2, to_save=False, seed=0
    )
    assert result.hessian.quadrature.nodes.shape[0] == 3
    assert result.hessian.criteria.k_hn.spread > 0


def saddle():
    """Two parameters with eigenvalues 3 and -1."""
    return from_loss(lambda t, _: 1.5 * t[0] ** 2 - 0.5 * t[1] ** 2 + 2, torch.zeros(2, dtype=torch.float64))


def test_hessian_axes_show_the_quadratic_of_their_eigenvalues():
    result = viz_lla(saddle(), axes="hessian", steps=5, to_save=False, seed=0)
    a, b = result.landscapes[0].coords.T
    torch.testing.assert_close(result.landscapes[0].losses, 2 + 1.5 * a**2 - 0.5 * b**2, rtol=1e-9, atol=1e-9)
    assert result.titles == ("hessian axes",)
    assert result.curvature.eigenvalues == pytest.approx((3, -1))
    assert result.curvature.measured == pytest.approx((3, -1), rel=1e-6)


@pytest.mark.parametrize(("factor", "offset"), [(1e-8, 0.0), (1e6, 0.0), (1.0, 1e4)])
def test_measured_curvature_is_the_eigenvalue_at_every_scale_of_the_loss(factor, offset):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(30, 4, generator=generator).double(), torch.randint(3, (30,), generator=generator)
    weights = torch.randn(12, generator=generator, dtype=torch.float64)
    objective = from_loss(
        lambda t, b: factor * nn.functional.cross_entropy(b[0] @ t.view(4, 3), b[1]) + offset,
        weights,
        [(x, y)],
    )
    found = viz_lla(objective, axes="hessian", steps=2, to_save=False, seed=0).curvature
    assert found.measured == pytest.approx(found.eigenvalues, rel=1e-3)


def test_extremes_pair_the_largest_with_the_smallest_eigenvalue():
    weights = torch.tensor([5.0, 4.0, 0.1, -1.0], dtype=torch.float64)
    objective = from_loss(lambda t, _: (weights * t * t).sum() / 2, torch.zeros(4, dtype=torch.float64))
    pairs = {
        pair: viz_lla(objective, axes="hessian", hessian_pair=pair, steps=2, to_save=False, seed=0)
        for pair in ("top", "extremes")
    }
    assert pairs["top"].curvature.eigenvalues == pytest.approx((5, 4))
    assert pairs["extremes"].curvature.eigenvalues == pytest.approx((5, -1))


def test_all_modes_with_hessian_axes_are_eight_panels(case, tmp_path):
    result = viz_lla(
        *(case.model, case.metric),
        axes="hessian",
        viz_dev=True,
        eval_hessian=True,
        calc_crit=True,
        steps=2,
        seed=0,
        viz_dir=tmp_path,
        res_dir=tmp_path,
    )
    assert len(result.landscapes) == 8
    assert [title.split()[0] for title in result.titles] == ["random"] * 4 + ["hessian"] * 4
    assert result.hessian.criteria.r_e.value > 0
    assert {"surface", "contour", "esd", "spectrum", "hessian_criteria"} <= set(result.paths)


def test_hessian_work_is_done_once(case, monkeypatch):
    calls = []
    build_operator = products.hessian
    monkeypatch.setattr(products, "hessian", lambda *a, **k: calls.append(1) or build_operator(*a, **k))
    result = viz_lla(
        *(case.model, case.metric),
        axes="hessian",
        eval_hessian=True,
        calc_crit=True,
        steps=2,
        to_save=False,
        seed=0,
    )
    assert len(calls) == 1
    assert result.hessian.products["eigenpairs"] < 25


def test_the_quadratic_prediction_is_drawn_on_request(case, tmp_path):
    options = {"axes": "hessian", "steps": 4, "seed": 0, "viz_dir": tmp_path, "res_dir": tmp_path}
    plain = viz_lla(case.model, case.metric, cur_name="plain", **options).paths["contour"].read_bytes()
    overlaid = viz_lla(case.model, case.metric, cur_name="plain", quadratic=True, **options)
    assert overlaid.paths["contour"].read_bytes() != plain


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"calc_crit": True}, "calc_crit=True needs eval_hessian=True"),
        ({"axes": "hessian", "hessian_pair": "ends"}, "hessian_pair='ends' is not one of 'top', 'extremes'"),
        ({"quadratic": True}, "quadratic=True needs planes along the eigenvectors"),
        ({"quadratic": True, "axes": "hessian", "normalization": "filter"}, "quadratic=True needs planes"),
        ({"eval_hessian": True, "n_kh": -1}, "n_kh=-1 is not allowed"),
        ({"eval_hessian": True, "n_v": 0}, "n_v=0 is too small"),
        ({"n_v": 3}, "n_v=3 needs eval_hessian=True"),
    ],
)
def test_bad_hessian_options_of_viz_lla_are_named(case, options, words):
    with pytest.raises(ValueError, match=words):
        viz_lla(case.model, case.metric, to_save=False, **options)
