"""Chebyshev sampling: as exact as it says, from fewer evaluations, or the whole grid."""

from __future__ import annotations

import re

import pytest
import torch

from bridges import metrics
from bridges.loaders import digits, lenet
from lla_func import chart, directions, viz_lla
from lla_func.landscape._chebyshev import interpolate, nodes, sample
from lla_func.landscape._evaluate import evaluate
from lla_func.objective._objective import from_loss
from tests import surfaces
from tests.command import run

AXIS = torch.linspace(-1.0, 1.0, 40, dtype=torch.float64)


def waves(coords):
    a, b = coords.T
    return torch.exp(-a) * torch.cos(2 * b) + 2.0


def every_surface(seeds):
    """The names and surfaces of every kind with these seeds."""
    for seed in seeds:
        for activation in surfaces.ACTIVATIONS:
            yield (activation, seed), surfaces.network(activation, seed)
        for kind in surfaces.SYNTHETIC:
            yield (kind, seed), surfaces.synthetic(kind, seed)


def judge(surface, tol):
    """The true error of a sampled surface, the estimated one, and whether anything was interpolated."""
    truth = surface(chart.mesh(AXIS, AXIS))
    result = sample(surface, (AXIS, AXIS), tol=tol)
    error = (result.losses - truth).abs().max() / (truth.max() - truth.min())
    return float(error), result.error, result.degree is not None


def test_nodes_of_a_lower_degree_come_first():
    assert torch.equal(nodes(20, -2.0, 3.0)[:9], nodes(8, -2.0, 3.0))


def test_nodes_are_distinct_and_within_the_interval():
    sites = nodes(32, -2.0, 3.0)
    assert len(sites.unique()) == 33
    assert sites.min() == -2.0
    assert sites.max() == 3.0


@pytest.mark.parametrize("degree", [2, 7, 32])
def test_polynomials_up_to_the_degree_are_interpolated_to_rounding(degree):
    sites = nodes(degree, -1.0, 1.0)
    for power in range(degree + 1):
        actual = interpolate(sites**power, [sites], [AXIS])
        torch.testing.assert_close(actual, AXIS**power, rtol=0, atol=1e-10)


def test_interpolation_reproduces_the_values_at_the_nodes():
    sites = nodes(9, -1.0, 1.0)
    values = torch.randn(10, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(interpolate(values, [sites, sites], [sites, sites]), values)


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-8])
def test_the_true_error_over_the_whole_grid_is_below_tol(tol):
    result = sample(waves, (AXIS, AXIS), tol=tol)
    expected = waves(chart.mesh(AXIS, AXIS))
    assert (result.losses - expected).abs().max() <= tol * (expected.max() - expected.min())
    assert result.reason is None
    assert result.evaluations < len(expected) / 3


def test_a_smaller_tol_takes_more_evaluations():
    loose, tight = (sample(waves, (AXIS, AXIS), tol=tol) for tol in (1e-2, 1e-8))
    assert loose.evaluations < tight.evaluations


def test_evaluations_are_counted_and_no_point_is_evaluated_twice():
    seen = []

    def counting(coords):
        seen.extend(map(tuple, coords.tolist()))
        return waves(coords)

    for tol in (1e-3, 1e-14):
        seen.clear()
        result = sample(counting, (AXIS, AXIS), tol=tol)
        assert result.evaluations == len(seen)
        inside = [point for point in seen if point[0] in AXIS and point[1] in AXIS]
        assert len(set(inside)) >= int(result.true.sum())


def test_points_marked_true_are_evaluated_and_not_interpolated():
    result = sample(waves, (AXIS, AXIS), tol=1e-2)
    expected = waves(chart.mesh(AXIS, AXIS))
    assert result.true.sum() >= 12
    assert torch.equal(result.losses[result.true], expected[result.true])
    assert not torch.equal(result.losses[~result.true], expected[~result.true])


@pytest.mark.parametrize(
    ("surface", "reason"),
    [
        (lambda c: c.sum(1).abs(), "leaves an estimated error of|as many points as the grid"),
        (lambda c: waves(c).clamp_max(2.5), "leaves an estimated error of|as many points as the grid"),
        (lambda c: torch.where(c[:, 0] > 0.5, torch.inf, waves(c)), "not finite"),
        (lambda c: torch.where(c[:, 0] > 0.5, torch.nan, waves(c)), "not finite"),
    ],
)
def test_a_surface_that_is_not_smooth_is_evaluated_everywhere_and_says_why(surface, reason):
    result = sample(surface, (AXIS, AXIS), tol=1e-3)
    torch.testing.assert_close(result.losses, surface(chart.mesh(AXIS, AXIS)), rtol=0, atol=0, equal_nan=True)
    assert result.true.all()
    assert result.degree is None
    assert re.search(reason, result.reason)


def test_the_log_loss_of_a_deep_valley_takes_a_higher_degree():
    def valley(coords):
        return 1e-3 + coords.square().sum(1) ** 2

    plain, log = (sample(valley, (AXIS, AXIS), tol=1e-2, log=flag) for flag in (False, True))
    expected = valley(chart.mesh(AXIS, AXIS)).log()
    assert (log.losses.log() - expected).abs().max() <= 1e-2 * (expected.max() - expected.min())
    assert log.evaluations >= plain.evaluations
    assert "not positive" in sample(lambda c: waves(c) - 5, (AXIS, AXIS), tol=1e-2, log=True).reason


def test_a_small_grid_is_evaluated_everywhere():
    axis = AXIS[:5]
    result = sample(waves, (axis, axis), tol=1e-2)
    assert result.evaluations == 25
    assert "as many points" in result.reason


def test_a_constant_surface_has_no_error():
    assert sample(lambda c: torch.ones(len(c), dtype=torch.float64), (AXIS, AXIS), tol=1e-3).error == 0


@pytest.mark.parametrize("count", [1, 3])
def test_lines_and_volumes_are_sampled_too(count):
    axis = AXIS[::2] if count == 3 else torch.linspace(-1, 1, 400, dtype=torch.float64)
    result = sample(lambda c: c.sum(1).exp(), (axis,) * count, tol=1e-3)
    expected = chart.mesh(*(axis,) * count).sum(1).exp()
    assert result.reason is None
    assert (result.losses - expected).abs().max() <= 1e-3 * (expected.max() - expected.min())


def bowl():
    objective = from_loss(lambda t, batch: t.sin().exp().sum(), torch.zeros(2, dtype=torch.float64))
    return objective, chart.plane(objective.theta, *torch.eye(2, dtype=torch.float64))


def test_evaluate_reports_what_was_sampled():
    objective, plane = bowl()
    coords = chart.mesh(AXIS, AXIS)
    exact = evaluate(objective, plane, coords)
    result = evaluate(objective, plane, coords, sampling="chebyshev", tol=1e-3)
    told = result.diagnostics["sampling"]
    assert (result.losses - exact.losses).abs().max() <= 1e-3 * (exact.losses.max() - exact.losses.min())
    assert told["evaluations"] < 500
    assert torch.equal(result.losses[told["true"]], exact.losses[told["true"]])
    assert exact.diagnostics["sampling"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampling": "chebychev"}, "did you mean 'chebyshev'"),
        ({"sampling": "chebyshev"}, "needs tol"),
        ({"sampling": "chebyshev", "tol": 0}, "tol=0 is not allowed"),
    ],
)
def test_bad_options_are_named(options, message):
    objective, plane = bowl()
    with pytest.raises(ValueError, match=message):
        evaluate(objective, plane, chart.mesh(AXIS, AXIS), **options)


def test_coordinates_that_are_no_mesh_are_refused():
    objective, plane = bowl()
    with pytest.raises(ValueError, match="is not a mesh"):
        evaluate(objective, plane, torch.eye(2), sampling="chebyshev", tol=0.1)


def test_the_estimated_error_of_networks_and_features_is_met():
    """A few of the surfaces of the slow test below."""
    tol = 0.01
    outcomes = [judge(surface, tol) for _, surface in every_surface(range(1))]
    interpolated = [(true, told) for true, told, interpolated in outcomes if interpolated]
    assert len(interpolated) >= 8
    assert all(true <= tol and told <= tol for true, told in interpolated)
    assert sum(true <= told for true, told in interpolated) >= 0.9 * len(interpolated)


def test_whatever_describes_tol_says_that_it_is_an_estimate_and_what_it_misses(capsys):
    assert run("eval", "--help") == 0
    for text in (sample.__doc__, evaluate.__doc__, viz_lla.__doc__, capsys.readouterr().out):
        words = " ".join(text.split())
        assert "estimated error" in words
        assert "can be missed" in words


@pytest.mark.slow
def test_of_300_surfaces_at_three_tolerances_one_percent_at_most_exceed_tol_and_none_twice_tol():
    outcomes = [
        (name, tol, *judge(surface, tol))
        for name, surface in every_surface(range(17))
        for tol in (0.05, 0.01, 0.001)
    ]
    assert len(outcomes) >= 900
    exceeding = [outcome for outcome in outcomes if outcome[2] > outcome[1]]
    assert len(exceeding) <= 0.01 * len(outcomes), exceeding
    assert all(true <= 2 * tol for _, tol, true, *_ in exceeding), exceeding
    interpolated = [outcome for outcome in outcomes if outcome[-1]]
    assert len(interpolated) >= 0.5 * len(outcomes)
    assert sum(true <= told for _, _, true, told, _ in interpolated) >= 0.95 * len(interpolated)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_plane_of_lenet_within_one_percent_takes_at_most_150_of_1600_points(seed):
    inputs, targets = digits.bundled()
    model = lenet.ModelInit().eval()
    objective = metrics.Loss(torch.nn.CrossEntropyLoss(), inputs, targets).objective(model)
    basis = directions.random(objective.layout, 2, generator=torch.Generator().manual_seed(seed))
    basis = directions.normalize(basis, objective.theta, objective.layout, kind="filter", order=2)
    plane = chart.plane(objective.theta, *basis)
    result = evaluate(objective, plane, chart.mesh(AXIS, AXIS), sampling="chebyshev", tol=0.01)
    told = result.diagnostics["sampling"]
    assert told["reason"] is None
    assert told["evaluations"] <= 150
    few = torch.randperm(1600, generator=torch.Generator().manual_seed(seed))[:100]
    exact = evaluate(objective, plane, result.coords[few]).losses
    span = result.losses.max() - result.losses.min()
    assert (result.losses[few] - exact).abs().max() <= told["error"] * span <= 0.01 * span


def test_what_held_out_points_deny_is_not_accepted_although_interpolants_agree():
    lines = [nodes(degree, -1.0, 1.0) for degree in (32, 64)]

    def comb(coords):
        """Zero at all nodes, so that every interpolant is the same, and one elsewhere."""
        missed = [(coords[:, i, None] - lines[1]).abs().amin(1) > 1e-12 for i in range(2)]
        return (missed[0] & missed[1]).double()

    result = sample(comb, (AXIS, AXIS), tol=1e-2)
    assert result.degree is None
    assert torch.equal(result.losses, comb(chart.mesh(AXIS, AXIS)))


@pytest.mark.parametrize("tol", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("floor", [1e-3, 1e-5])
def test_the_log_loss_is_within_tol_of_its_own_range_which_takes_a_higher_degree(floor, tol):
    axis = torch.linspace(
        -1.0, 1.0, 41, dtype=torch.float64
    )  # the bottom is a point of the grid, but no node

    def valley(coords):
        return floor + 1 - torch.exp(-6 * (coords - 0.3).square().sum(1))

    plain, log = (sample(valley, (axis, axis), tol=tol, log=flag) for flag in (False, True))
    truth = valley(chart.mesh(axis, axis)).log()
    assert (log.losses.log() - truth).abs().max() <= log.error * (truth.max() - truth.min())
    assert log.error <= tol
    assert log.degree > plain.degree
