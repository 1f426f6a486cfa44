"""Sharpness of quadratics, where every kind has a closed form, and of samples that are known one by one."""

from __future__ import annotations

import math

import pytest
import torch

from lla_func import assessment, from_loss, sharpness
from lla_func.assessment import SHARPNESS, _center
from lla_func.geometry import directions
from tests.assessment.quadratics import bowl, draw
from tests.cases import objective as case

SCALES = (1e-9, 1.0, 1e8)


def slope_of(objective, matrix):
    return matrix @ objective.theta


@pytest.mark.parametrize("scale", SCALES)
def test_one_step_of_a_quadratic_rises_by_its_taylor_series(scale):
    objective, matrix = bowl(scale=scale)
    g = slope_of(objective, matrix)
    unit = g / g.norm()
    expected = 0.3 * g.norm() + 0.3**2 / 2 * unit @ matrix @ unit
    found = sharpness(objective, kind="sam", rho=0.3)
    assert found.value == pytest.approx(float(expected), rel=1e-12)
    assert (found.converged, found.note, found.products) == (True, None, 3)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("eta", [0.0, 0.1])
def test_one_adaptive_step_of_a_quadratic_rises_by_its_taylor_series_in_units_of_the_weights(scale, eta):
    objective, matrix = bowl(scale=scale)
    units = objective.theta.abs() + eta
    g = units * slope_of(objective, matrix)
    step = 0.3 * units * g / g.norm()
    expected = step @ slope_of(objective, matrix) + step @ matrix @ step / 2
    assert sharpness(objective, kind="asam", rho=0.3, eta=eta).value == pytest.approx(
        float(expected), rel=1e-12
    )


def ball_maximum(g, matrix, rho):
    """The maximum of g e + e H e / 2 over |e| = rho: (m I - H) e = g with |e| = rho, m above the largest eigenvalue."""
    values, vectors = torch.linalg.eigh(matrix)
    along = vectors.T @ g
    low, high = float(values[-1]), float(values[-1]) + float(g.norm()) / rho
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float((along / (middle - values)).norm()) > rho else (low, middle)
    e = along / (high - values)
    return float(along @ e + (values * e * e).sum() / 2)


@pytest.mark.parametrize("scale", SCALES)
def test_ascent_finds_the_maximum_of_a_quadratic_within_the_ball(scale):
    objective, matrix = bowl(scale=scale, at=0.2)
    found = sharpness(objective, kind="sam_max", rho=0.5, steps=200, tol=1e-9)
    expected = ball_maximum(slope_of(objective, matrix), matrix, 0.5)
    assert found.value == pytest.approx(expected, rel=1e-5)
    assert found.value <= expected * (1 + 1e-12)  # a lower bound
    assert found.converged
    assert len(found.samples) == 3


def test_ascent_says_what_the_quadratic_bounds_it_by():
    objective, matrix = bowl(at=0.2)
    found = sharpness(objective, kind="sam_max", rho=0.5)
    g, top = slope_of(objective, matrix), float(torch.linalg.eigvalsh(matrix)[-1])
    bound = 0.5 * float(g.norm()) + 0.5**2 * top / 2
    assert found.value <= bound
    assert "a lower bound of the maximum" in found.note
    assert f"the quadratic predicts at most {bound:.6g}" in found.note


def test_adaptive_ascent_says_what_the_quadratic_bounds_it_by_in_units_of_the_weights():
    objective, matrix = bowl(at=0.2)
    units = torch.diag(objective.theta.abs() + 0.01)
    scaled = units @ matrix @ units
    g = units @ slope_of(objective, matrix)
    bound = 0.5 * float(g.norm()) + 0.5**2 * float(torch.linalg.eigvalsh(scaled)[-1]) / 2
    found = sharpness(objective, kind="asam_max", rho=0.5, steps=200, tol=1e-9)
    assert found.value == pytest.approx(ball_maximum(g, scaled, 0.5), rel=1e-5)
    assert f"the quadratic predicts at most {bound:.6g}" in found.note


def test_ascent_at_a_minimum_finds_the_largest_eigenvalue():
    objective, matrix = bowl(at=0.0)
    found = sharpness(objective, kind="sam_max", rho=0.5, steps=300, tol=1e-10)
    assert found.value == pytest.approx(0.125 * float(torch.linalg.eigvalsh(matrix)[-1]), rel=1e-5)


def test_the_first_start_is_the_step_along_the_gradient():
    objective, _ = bowl(at=0.2)
    one = sharpness(objective, kind="sam", rho=0.5).value
    found = [
        sharpness(objective, kind="sam_max", rho=0.5, steps=1, restarts=1, seed=s).value for s in range(4)
    ]
    assert len(set(found)) == 1
    assert found[0] >= one


def test_ascent_of_a_hill_stays_within_the_ball_and_ends_at_its_highest_point():
    center, curves = torch.tensor([0.6, 0.45]).double(), torch.tensor([1.0, 10.0]).double()
    hill = from_loss(lambda t, _: 9 - (curves * (t - center) ** 2).sum(), torch.zeros(2).double())
    angle = torch.linspace(0, 2 * math.pi, 100_001, dtype=torch.float64)
    rim = 0.5 * torch.stack([angle.cos(), angle.sin()], dim=1)
    highest = float((curves * center**2).sum() - (curves * (rim - center) ** 2).sum(1).min())
    found = sharpness(hill, kind="sam_max", rho=0.5, steps=100, tol=1e-8)
    assert found.value <= highest * (1 + 1e-9)
    assert found.value == pytest.approx(highest, rel=0.02)


@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_ascent_never_ends_below_one_step(name):
    objective = case(name)
    for kind in ("sam", "asam"):
        options = {"rho": 0.2, "over_data": False}
        one = sharpness(objective, kind=kind, **options).value
        most = sharpness(objective, kind=f"{kind}_max", steps=5, restarts=2, predict=False, **options).value
        assert most >= one > 0


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("relative", [False, True])
def test_the_average_rise_of_a_quadratic_is_its_trace(scale, relative):
    objective, matrix = bowl(size=40, scale=scale)
    diagonal = matrix.diagonal() * (objective.theta**2 if relative else 1 / 40)
    found = sharpness(objective, kind="average", rho=0.1, draws=200, relative=relative)
    expected = 0.1**2 / 2 * float(diagonal.sum())
    assert abs(found.value - expected) < 3 * found.error < 0.4 * expected
    assert len(found.samples) == 200


def test_the_error_of_an_average_covers_the_truth_as_often_as_it_says():
    objective, matrix = bowl(size=40)
    expected = 0.1**2 / 80 * float(matrix.trace())
    found = [sharpness(objective, kind="average", rho=0.1, draws=8, seed=seed) for seed in range(60)]
    covered = sum(abs(each.value - expected) <= 2 * each.error for each in found)
    assert covered >= 51  # of 60 at 95 %, less than one in a thousand times


@pytest.mark.parametrize("scale", SCALES)
def test_the_critical_learning_rate_of_a_quadratic_is_two_over_its_curvature_along_the_gradient(scale):
    objective, matrix = bowl(scale=scale, offset=3.0)
    g = slope_of(objective, matrix)
    expected = 2 * float(g @ g / (g @ matrix @ g))
    found = sharpness(objective, kind="critical_lr", tol=1e-4)
    assert abs(found.value - expected) <= found.error <= 2e-4 * expected
    assert found.converged
    assert f"critical sharpness {2 / found.value:.6g}" in found.note


@pytest.mark.parametrize("scale", SCALES)
def test_the_basin_of_a_quadratic_reaches_where_it_crosses_the_level(scale):
    objective, matrix = bowl(scale=scale, offset=2.0, at_minimum=True)
    rise = 0.7 * scale
    found = sharpness(objective, kind="basin", rise=rise, draws=15, tol=1e-6, seed=4)
    generator = torch.Generator().manual_seed(4)
    radii = []
    for _ in range(15):
        d = torch.randn(12, generator=generator, dtype=torch.float64)[None]
        d = directions.normalize(d, objective.theta, objective.layout, kind="filter")[0]
        radii.append(math.sqrt(2 * rise / float(d @ matrix @ d)))
    expected = torch.tensor(radii, dtype=torch.float64)
    torch.testing.assert_close(found.samples, expected, rtol=1e-5, atol=0)
    assert found.value == pytest.approx(float(expected.sort().values[7]), rel=1e-5)
    assert found.error > 0


def test_the_brackets_of_a_rate_and_of_a_radius_hold_the_truth_however_wide_they_are():
    for seed in range(12):
        objective, matrix = bowl(seed=seed)
        g = slope_of(objective, matrix)
        found = sharpness(objective, kind="critical_lr", tol=0.5)
        expected = 2 * float(g @ g / (g @ matrix @ g))
        assert abs(found.value - expected) <= found.error <= expected


def test_a_basin_is_measured_in_units_of_each_filter():
    weight = torch.stack([torch.full((4,), 0.5), torch.full((4,), 50.0)]).double()
    for row, size in enumerate([1.0, 100.0]):  # the norms of the two filters
        objective = from_loss(lambda p, _, r=row: (p["w"][r] - weight[r]).square().sum(), {"w": weight})
        found = sharpness(objective, kind="basin", rise=4.0, draws=5, tol=1e-6)
        torch.testing.assert_close(found.samples, torch.full((5,), 2 / size).double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("relative", [False, True])
def test_the_flatness_of_a_quadratic_is_the_noise_that_its_trace_allows(scale, relative):
    objective, matrix = bowl(size=40, scale=scale)
    total = float((matrix.diagonal() * (objective.theta**2 if relative else 1)).sum())
    found = sharpness(objective, kind="pac_bayes", rise=0.5 * scale, draws=40, relative=relative)
    expected = math.sqrt(scale / total)
    assert abs(found.value - expected) < 3 * found.error < 0.4 * expected
    assert found.converged


def test_by_default_the_loss_doubles():
    objective, _ = bowl(offset=2.0)
    loss = float(objective.loss(objective.theta, ()))
    for kind in ("basin", "pac_bayes"):
        first, second = (sharpness(objective, kind=kind, draws=5, **given) for given in ({}, {"rise": loss}))
        assert first.value == second.value


def regression(reduction="mean"):
    """Squared errors of a linear model on samples of unequal batches, so that single losses are known."""
    batches = [(draw(n, 3, seed=n), draw(n, seed=n + 50)) for n in (9, 4, 17)]

    def errors(t, batch):
        return (batch[0] @ t - batch[1]) ** 2

    def criterion(found, batch):
        return found.sum() if reduction == "sum" else found.mean()

    made = from_loss(
        lambda t, batch: criterion(errors(t, batch), batch),
        draw(3, seed=7),
        batches,
        separable=True,
        reduction=reduction,
        outputs=errors,
        criterion=criterion,
        per_sample=lambda found, batch: found,
    )
    return made, torch.cat([b[0] for b in batches]), torch.cat([b[1] for b in batches])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_error_over_data_is_that_of_the_samples_own_rises(reduction):
    objective, x, y = regression(reduction)
    theta = objective.theta
    g = 2 * x.T @ (x @ theta - y) / (len(x) if reduction == "mean" else 1)
    moved = theta + 0.2 * g / g.norm()
    rises = (x @ moved - y) ** 2 - (x @ theta - y) ** 2
    found = sharpness(objective, kind="sam", rho=0.2)
    n = len(x)
    spread = float(rises.std()) * (1 / math.sqrt(n) if reduction == "mean" else math.sqrt(n))
    assert found.value == pytest.approx(
        float(rises.mean() if reduction == "mean" else rises.sum()), rel=1e-12
    )
    assert found.data_error == pytest.approx(spread, rel=1e-12)


def test_the_error_over_data_of_an_average_is_that_of_each_samples_mean_rise():
    objective, x, _ = regression()
    found = sharpness(objective, kind="average", rho=0.2, draws=4)
    assert found.data_error > 0
    doubled = [(torch.cat([a, a]), torch.cat([b, b])) for a, b in objective.batches]
    twice = sharpness(objective._replace(batches=doubled), kind="average", rho=0.2, draws=4)
    assert twice.value == pytest.approx(found.value, rel=1e-12)
    n = len(x)
    assert twice.data_error == pytest.approx(found.data_error * math.sqrt((n - 1) / (2 * n - 1)), rel=1e-9)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_error_over_data_of_a_critical_rate_is_that_of_the_rise_there_over_its_slope(reduction):
    objective, x, y = regression(reduction)
    theta, n = objective.theta, len(x)
    g = 2 * x.T @ (x @ theta - y) / (n if reduction == "mean" else 1)
    found = sharpness(objective, kind="critical_lr", tol=1e-3)
    rises = (x @ (theta - found.value * g) - y) ** 2 - (x @ theta - y) ** 2
    error = float(rises.std()) * (1 / math.sqrt(n) if reduction == "mean" else math.sqrt(n))
    assert found.data_error == pytest.approx(error / float(g @ g), rel=0.12)  # the slope there is |g|^2


def test_the_error_over_data_of_flatness_is_that_of_the_mean_rise_over_its_slope():
    objective, _, _ = regression()
    found = sharpness(objective, kind="pac_bayes", rise=0.5, draws=4, seed=2)
    rise = sharpness(objective, kind="average", rho=found.value * math.sqrt(3), draws=4, seed=2)
    assert rise.value == pytest.approx(0.5, rel=0.02)
    slope = 2 * rise.value / found.value  # of a square
    assert found.data_error == pytest.approx(rise.data_error / slope, rel=0.12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_data_are_cut_into_pieces_without_a_difference(reduction, monkeypatch):
    objective, _, _ = regression(reduction)
    whole = sharpness(objective, kind="sam", rho=0.2)
    monkeypatch.setattr(_center, "TILE", 4)
    cut = sharpness(objective, kind="sam", rho=0.2)
    assert cut.value == pytest.approx(whole.value, rel=1e-12)
    assert cut.data_error == pytest.approx(whole.data_error, rel=1e-12)


def test_without_single_samples_there_is_no_error_over_data():
    objective, _, _ = regression()
    assert sharpness(objective, kind="sam").data_error is not None
    assert sharpness(objective._replace(separable=False), kind="sam").data_error is None
    assert sharpness(objective._replace(per_sample=None), kind="sam").data_error is None
    assert sharpness(objective, kind="sam", over_data=False).data_error is None


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    objective = case("mlp")
    before = torch.get_rng_state()
    for kind in SHARPNESS:
        if "seed" not in assessment.options_of(kind):
            continue
        given = {"rho": 0.2} if "rho" in assessment.options_of(kind) else {}
        few = {"draws": 4} if "draws" in assessment.options_of(kind) else {"steps": 2, "predict": False}
        one, two, other = (sharpness(objective, kind=kind, seed=s, **few, **given) for s in (3, 3, 4))
        assert one.value == two.value
        assert torch.equal(one.samples, two.samples)
        assert not torch.equal(one.samples, other.samples)
    assert torch.equal(torch.get_rng_state(), before)
