"""The curvature over a plane is that of dense Hessians, from few of them."""

from __future__ import annotations

import pytest
import torch

from lla_func import chart, evaluate, from_loss, plots, store
from lla_func.assessment import curvature_map
from lla_func.landscape import chosen
from tests.cases import build

P = 12


def rotated_quartic():
    """1/4 sum a_i u_i^4 + 1/2 sum b_i u_i^2 with u = Q theta: the Hessian is Q^T diag(3 a u^2 + b) Q."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(P, P, generator=generator, dtype=torch.float64))[0]
    a = torch.zeros(P, dtype=torch.float64)
    a[:2] = torch.tensor([2.0, -0.5])
    b = torch.linspace(-1.0, 3.0, P, dtype=torch.float64)
    b[:2] = torch.tensor(
        [8.0, -4.0]
    )  # so that u_1 has the largest curvature everywhere, and u_2 the smallest

    def loss(theta, batch):
        u = rotation @ theta
        return 0.25 * (a * u**4).sum() + 0.5 * (b * u**2).sum()

    theta = torch.zeros(P, dtype=torch.float64)
    plane = chart.plane(theta, rotation[0].contiguous(), rotation[1].contiguous())
    return from_loss(loss, theta), plane, a, b


def grid(steps, reach=1.0):
    axis = torch.linspace(-reach, reach, steps, dtype=torch.float64)
    return chart.mesh(axis, axis)


def test_the_map_of_a_quartic_is_exact_between_the_nodes():
    objective, plane, a, b = rotated_quartic()
    coords = grid(21)
    found = curvature_map(objective, plane, evaluate(objective, plane, coords), degree=4, tol=1e-8)
    largest = 3 * a[0] * coords[:, 0] ** 2 + b[0]
    smallest = 3 * a[1] * coords[:, 1] ** 2 + b[1]
    torch.testing.assert_close(found.metrics["largest eigenvalue"], largest)
    torch.testing.assert_close(found.metrics["smallest eigenvalue"], smallest)
    torch.testing.assert_close(found.metrics["r_e"], smallest.abs() / largest.abs())
    table = found.diagnostics["curvature"]
    assert len(table["nodes"]) == 25
    assert max(table["error"]) < 1e-9
    assert torch.tensor(table["residuals"]).max() <= 1e-8 * largest.max()


def test_eigenvalues_at_the_nodes_are_those_of_dense_hessians_and_errors_are_estimated():
    case = build("mlp")
    objective = case.metric.objective(case.model)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2, len(objective.theta), generator=generator, dtype=torch.float64)
    plane = chart.plane(objective.theta, *(directions / directions.norm(dim=1, keepdim=True)))
    coords = grid(13)
    found = curvature_map(objective, plane, evaluate(objective, plane, coords), degree=6, tol=1e-6)
    table = found.diagnostics["curvature"]

    def dense(point):
        theta = plane.origin + torch.as_tensor(point, dtype=torch.float64) @ plane.basis
        matrix = torch.autograd.functional.hessian(
            lambda x: objective.loss(x, objective.batches[0]), theta, vectorize=False
        )
        return torch.linalg.eigvalsh(matrix)[[-1, 0]]

    truth = torch.stack([dense(point) for point in table["nodes"][::7]])
    torch.testing.assert_close(
        torch.tensor(table["eigenvalues"], dtype=torch.float64)[::7], truth, rtol=1e-5, atol=1e-6
    )
    places = range(5, len(coords), 23)
    between = torch.stack([dense(coords[i].tolist()) for i in places])
    pair = torch.stack([found.metrics["largest eigenvalue"], found.metrics["smallest eigenvalue"]], 1)[
        list(places)
    ]
    assert ((pair - between).abs().amax(0) <= 2 * torch.tensor(table["error"]) + 1e-5).all()


def test_starting_from_the_neighbor_saves_products(monkeypatch):
    from lla_func.assessment import _curvature_map as module

    objective, plane, _, _ = rotated_quartic()
    case = build("cnn")
    objective = case.metric.objective(case.model)
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(2, len(objective.theta), generator=generator, dtype=torch.float64)
    plane = chart.plane(objective.theta, *(0.1 * directions / directions.norm(dim=1, keepdim=True)))
    land = evaluate(objective, plane, grid(9))
    warm = curvature_map(objective, plane, land, degree=3)
    plain = module.eigenpairs
    monkeypatch.setattr(module, "eigenpairs", lambda *a, **k: plain(*a, **{**k, "start": None}))
    cold = curvature_map(objective, plane, land, degree=3)
    spent = [each.diagnostics["curvature"]["products"] for each in (warm, cold)]
    assert spent[0] < 0.8 * spent[1]
    torch.testing.assert_close(warm.metrics["r_e"], cold.metrics["r_e"], rtol=1e-2, atol=1e-3)


def test_a_map_is_drawn_beside_the_surface_and_kept(tmp_path):
    objective, plane, _, _ = rotated_quartic()
    found = curvature_map(objective, plane, evaluate(objective, plane, grid(9)), degree=4)
    store.save_landscapes(tmp_path / "map.npz", [found], ["a quartic"])
    (again,), _ = store.load_landscapes(tmp_path / "map.npz")
    assert torch.equal(again.metrics["r_e"], found.metrics["r_e"])
    assert again.diagnostics["curvature"]["products"] == found.diagnostics["curvature"]["products"]
    figure = plots.panel([found, chosen(found, "r_e")], ["loss", "r_e"], style="contour", shared=False)
    assert [ax.get_title() for ax in figure.axes[:2]] == ["loss", "r_e"]


def test_few_products_are_warned_of_with_what_is_left():
    case = build("mlp")
    objective = case.metric.objective(case.model)
    line = chart.line(objective.theta, objective.theta)
    land = evaluate(objective, line, torch.linspace(-0.1, 0.1, 5)[:, None])
    with pytest.warns(RuntimeWarning, match="did not reach tol=1e-09 in 4 products; residuals are up to"):
        curvature_map(objective, line, land, degree=2, tol=1e-9, max_iter=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"degree": 1}, "degree=1"),
        ({"degree": 65}, "degree=65"),
        ({"tol": 0.0}, "tol=0"),
        ({"max_iter": 1}, "max_iter=1"),
        ({"curvature": "hesian"}, "did you mean 'hessian'"),
        ({"curvature": "ggn", "kernel": "vjp"}, "kernel='vjp' is for curvature='hessian'"),
    ],
)
def test_wrong_options_are_named(options, message):
    objective, plane, _, _ = rotated_quartic()
    land = evaluate(objective, plane, grid(3))
    with pytest.raises((TypeError, ValueError), match=message):
        curvature_map(objective, plane, land, **options)


def test_landscapes_that_are_no_mesh_of_the_chart_are_refused():
    objective, plane, _, _ = rotated_quartic()
    land = evaluate(objective, plane, grid(3)[:5])
    with pytest.raises(ValueError, match="not a mesh"):
        curvature_map(objective, plane, land)
    line = chart.line(plane.origin, plane.basis[0])
    with pytest.raises(ValueError, match="landscape has 2 coordinates, the chart 1"):
        curvature_map(objective, line, evaluate(objective, plane, grid(3)))
    case = build("resnet")
    adapting = case.metric.objective(case.model, batchnorm="recalibrate")
    line = chart.line(adapting.theta, adapting.theta)
    land = evaluate(adapting, line, torch.tensor([[0.0], [0.1]]))
    with pytest.raises(ValueError, match="recalibrated BatchNorm"):
        curvature_map(adapting, line, land)
