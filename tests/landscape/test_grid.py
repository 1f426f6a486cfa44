"""evaluate: exact losses at any coordinates, by any engine, with fallbacks that say so."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from lla_func import chart
from lla_func.landscape._evaluate import evaluate
from lla_func.landscape._evaluator import EngineFallbackWarning
from lla_func.landscape._landscape import Landscape, axes, surface
from lla_func.objective._objective import from_loss, risk
from tests.engines import QUICK, every_engine


def quadratic(diagonal=(3.0, 1.0, 0.5), theta=(0.0, 0.0, 0.0)):
    h = torch.tensor(diagonal, dtype=torch.float64)
    return from_loss(lambda t, batch: 0.5 * (h * t * t).sum(), torch.tensor(theta, dtype=torch.float64))


def regression():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 4, generator=generator, dtype=torch.float64)
    y = torch.randn(12, generator=generator, dtype=torch.float64)
    batches = [(x[:3], y[:3]), (x[3:], y[3:])]
    theta = torch.randn(4, generator=generator, dtype=torch.float64)
    return from_loss(lambda t, b: functional.mse_loss(torch.tanh(b[0] @ t), b[1]), theta, batches)


def plane_of(objective, seed=1):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(2, len(objective.theta), generator=generator, dtype=torch.float64)
    return chart.plane(objective.theta, *basis)


@every_engine()
def test_a_quadratic_along_its_eigenvectors_is_its_closed_form_to_rounding(engine):
    objective = quadratic()
    e = torch.eye(3, dtype=torch.float64)
    coords = chart.mesh(torch.linspace(-1, 1, 7), torch.linspace(-2, 2, 5))
    losses = evaluate(objective, chart.plane(objective.theta, e[0], e[2]), coords, engine=engine).losses
    expected = 0.5 * (3.0 * coords[:, 0] ** 2 + 0.5 * coords[:, 1] ** 2)
    torch.testing.assert_close(losses, expected, rtol=1e-15, atol=1e-15)


@every_engine("auto")
def test_losses_equal_the_risk_at_each_point(engine):
    objective = regression()
    plane = plane_of(objective)
    coords = torch.tensor([[0.0, 0.0], [0.3, -0.2], [-1.5, 2.0]], dtype=torch.float64)
    losses = evaluate(objective, plane, coords, engine=engine).losses
    expected = torch.stack([risk(objective, theta) for theta in chart.point(plane, coords)])
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0)


def test_the_number_of_points_per_pass_changes_results_by_rounding_only():
    objective = regression()
    coords = chart.mesh(torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 3))
    results = [
        evaluate(objective, plane_of(objective), coords, engine="vmap", points_per_pass=n).losses
        for n in (1, 4, 15, 99)
    ]
    for losses in results[1:]:
        torch.testing.assert_close(losses, results[0], rtol=1e-13, atol=0)


@every_engine()
def test_the_same_call_gives_the_same_bits(engine):
    objective = regression()
    coords = chart.mesh(torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 3))
    first, second = (evaluate(objective, plane_of(objective), coords, engine=engine).losses for _ in range(2))
    assert torch.equal(first, second)


def test_sum_reduction_is_the_same_for_all_engines():
    objective = regression()._replace(reduction="sum")
    coords = torch.tensor([[0.5, 0.5]])
    by_loop, *others = (evaluate(objective, plane_of(objective), coords, engine=e).losses for e in QUICK)
    for losses in others:
        torch.testing.assert_close(losses, by_loop, rtol=1e-13, atol=0)


def test_nonfinite_losses_are_recorded_and_counted():
    objective = from_loss(lambda t, batch: t.log().sum(), torch.ones(1, dtype=torch.float64))
    landscape = evaluate(
        objective,
        chart.line(objective.theta, torch.ones(1, dtype=torch.float64)),
        torch.tensor([[-2.0], [-1.0], [0.0]]),
    )
    assert landscape.losses[0].isnan()
    assert landscape.losses[1] == -torch.inf
    assert landscape.losses[2] == 0
    assert landscape.diagnostics["nonfinite"] == 2


def data_dependent(theta, batch):
    return theta.sum() if float(theta[0]) > 0 else theta.square().sum()


def test_vmap_gives_way_to_the_loop_once_and_says_why():
    objective = from_loss(data_dependent, torch.ones(2, dtype=torch.float64))
    line = chart.line(objective.theta, torch.ones(2, dtype=torch.float64))
    coords = torch.linspace(-3, 3, 9)[:, None]
    with pytest.warns(EngineFallbackWarning, match="engine 'vmap' cannot evaluate this objective") as caught:
        landscape = evaluate(objective, line, coords, engine="vmap", points_per_pass=2)
    assert len(caught) == 1
    assert landscape.diagnostics["engine"] == "loop"
    assert "item()" in landscape.diagnostics["fallback"]
    assert torch.equal(landscape.losses, evaluate(objective, line, coords, engine="loop").losses)


def test_an_error_in_the_loss_itself_is_raised_as_it_is():
    def broken(theta, batch):
        raise RuntimeError("the sensor is unplugged")

    objective = from_loss(broken, torch.ones(2))
    line = chart.line(objective.theta, torch.ones(2))
    with pytest.warns(EngineFallbackWarning, match="sensor"), pytest.raises(RuntimeError, match="sensor"):
        evaluate(objective, line, torch.zeros(1, 1), engine="vmap")


def test_running_out_of_memory_halves_the_points_per_pass():
    sizes = []

    def hungry(theta, batch):
        sizes.append(1)
        if len(sizes) < 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return theta.square().sum()

    objective = from_loss(hungry, torch.ones(2))
    coords = torch.linspace(-1, 1, 8)[:, None]
    landscape = evaluate(
        objective, chart.line(objective.theta, torch.ones(2)), coords, engine="vmap", points_per_pass=8
    )
    assert landscape.diagnostics["points_per_pass"] == 2
    assert landscape.diagnostics["engine"] == "vmap"
    assert torch.allclose(landscape.losses, 2 * (1 + coords[:, 0].double()) ** 2)


def test_progress_is_shown_only_when_asked(capsys):
    objective = quadratic()
    coords = torch.zeros(3, 2)
    evaluate(objective, plane_of(objective), coords)
    assert capsys.readouterr().err == ""
    evaluate(objective, plane_of(objective), coords, progress=True)
    assert "point" in capsys.readouterr().err


def test_a_mesh_gives_its_axes_and_surface_back():
    coords = chart.mesh(torch.linspace(-1, 1, 3), torch.linspace(0, 1, 2))
    landscape = Landscape(coords, torch.arange(6.0), {}, {})
    assert [axis.tolist() for axis in axes(landscape)] == [[-1, 0, 1], [0, 1]]
    assert surface(landscape).tolist() == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(ValueError, match=r"coords \[5, 2\] is not a mesh"):
        axes(landscape._replace(coords=coords[:5]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coords": torch.zeros(3, 3)}, r"coords has shape \[3, 3\], a plane needs \[N, 2\]"),
        ({"coords": torch.zeros(0, 2)}, "coords is empty"),
        ({"coords": torch.tensor([[0.0, float("nan")]])}, "coords has NaN or infinite values"),
        ({"engine": "vamp"}, "did you mean 'vmap'"),
        ({"points_per_pass": 0}, "points_per_pass=0 is too small"),
        (
            {"chart": chart.line(torch.zeros(2), torch.ones(2)), "coords": torch.zeros(1, 1)},
            "chart has P=2 parameters, the objective P=3",
        ),
    ],
)
def test_bad_input_is_named(change, words):
    objective = quadratic()
    call = {"chart": plane_of(objective), "coords": torch.zeros(1, 2), **change}
    with pytest.raises(ValueError, match=words):
        evaluate(objective, call.pop("chart"), call.pop("coords"), **call)
