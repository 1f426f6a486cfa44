"""The plane of a training: equal to SVD and scikit-learn, exact where the path lies in a plane, bounded in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lla_func import Layout, Trajectory
from lla_func.geometry import _trajectory_plane as planes
from lla_func.geometry import chart as charts
from lla_func.geometry import plane_coords, trajectory_plane
from lla_func.geometry._recording import Recording
from lla_func.geometry._sketch import Projection


def walk(count=20, width=300, seed=0, dtype=torch.float64, scale=1.0):
    """A random walk far from the origin, as trainings are."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.randn(count, width, dtype=torch.float64, generator=generator)
    start = 10 * torch.randn(width, dtype=torch.float64, generator=torch.Generator().manual_seed(99))
    return (scale * (start + steps.cumsum(0))).to(dtype)


def centered(thetas):
    return thetas.double() - thetas.double().mean(0)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_principal_components_are_those_of_the_singular_value_decomposition(scale):
    thetas = walk(scale=scale)
    found = trajectory_plane(Trajectory.of(thetas))
    u, s, vt = np.linalg.svd(centered(thetas).numpy(), full_matrices=False)
    overlap = np.abs(found.chart.basis.numpy() @ vt[:2].T)
    assert np.allclose(overlap, np.eye(2), atol=1e-10)
    assert np.allclose(found.explained, (s**2 / (s**2).sum())[:2], rtol=1e-10)
    assert np.allclose(found.coordinates[0].abs().numpy(), np.abs(u[:, :2] * s[:2]), atol=1e-9 * s[0])
    residual = np.linalg.norm((u[:, 2:] * s[2:]), axis=1)
    assert np.allclose(found.distances[0], residual, rtol=1e-9)


def test_principal_components_are_those_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    thetas = walk()
    found = trajectory_plane(Trajectory.of(thetas))
    pca = decomposition.PCA(2, svd_solver="full")
    coordinates = pca.fit_transform(thetas.numpy())
    signs = np.sign((found.chart.basis.numpy() * pca.components_).sum(1))
    assert np.allclose(found.chart.basis, signs[:, None] * pca.components_, atol=1e-10)
    assert np.allclose(found.chart.origin, pca.mean_, rtol=1e-12)
    assert np.allclose(found.explained, pca.explained_variance_ratio_, rtol=1e-10)
    assert np.allclose(found.coordinates[0], signs * coordinates, atol=1e-9 * np.abs(coordinates).max())


def test_blocks_of_a_small_budget_make_no_difference(monkeypatch):
    path = Trajectory.of(walk())
    whole = trajectory_plane(path)
    blocks = []
    kept = planes._Rows.block
    monkeypatch.setattr(
        planes._Rows, "block", lambda self, rows, a, b: blocks.append(b - a) or kept(self, rows, a, b)
    )
    small = trajectory_plane(path, memory_budget=2**16)
    assert max(blocks) * len(path) * 8 * 3 <= 2**15
    assert torch.allclose(small.chart.basis, whole.chart.basis, atol=1e-12)
    assert torch.allclose(small.coordinates[0], whole.coordinates[0], atol=1e-10)
    assert torch.allclose(small.distances[0], whole.distances[0], rtol=1e-10)


def test_with_more_checkpoints_than_fit_directions_are_of_a_part_and_distances_of_all():
    angle = torch.linspace(0, 6, 500, dtype=torch.float64)[:, None]
    first, second, third = torch.eye(30, dtype=torch.float64)[:3]
    thetas = 5 * angle * first + torch.cos(angle) * second + 1e-3 * torch.sin(40 * angle) * third
    found = trajectory_plane(Trajectory.of(thetas), memory_budget=2**16)
    assert found.fitted == 32
    assert len(found.distances[0]) == 500
    centered_coords = thetas - found.chart.origin
    residual = centered_coords - centered_coords @ found.chart.basis.T @ found.chart.basis
    assert torch.allclose(found.distances[0], residual.norm(dim=1), atol=1e-12)
    assert found.distances[0].max() < 2e-3


def test_sgd_on_a_quadratic_confined_to_a_plane_stays_there_and_the_path_is_the_closed_form():
    """Of 1/2 sum_i l_i (v_i^T x)^2 a step is c_i <- (1 - lr l_i) c_i, and nothing else moves."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(40, 2, dtype=torch.float64, generator=generator))[0].T
    away = torch.randn(40, dtype=torch.float64, generator=generator)
    eigenvalues, start, rate = torch.tensor([1.0, 0.1]).double(), torch.tensor([3.0, -2.0]).double(), 0.2
    theta = torch.nn.Parameter(away + start @ basis)
    optimizer = torch.optim.SGD([theta], lr=rate)
    thetas = [theta.detach().clone()]
    for _ in range(30):
        optimizer.zero_grad()
        (0.5 * eigenvalues * (basis @ (theta - away)).square()).sum().backward()
        optimizer.step()
        thetas.append(theta.detach().clone())
    path = Trajectory.of(thetas)
    closed = start * (1 - rate * eigenvalues) ** torch.arange(31.0).double()[:, None]
    given = trajectory_plane(path, axes=basis, center="mean")
    shift = closed - closed.mean(0)
    signs = (given.chart.basis * basis).sum(1).sign()
    assert torch.allclose(given.coordinates[0], shift * signs, atol=1e-12)
    for found in (given, trajectory_plane(path), trajectory_plane(path, axes="ends")):
        assert float(found.distances[0].max()) < 1e-12
        assert float(found.explained.sum()) == pytest.approx(1, abs=1e-14)
        rebuilt = charts.point(found.chart, found.coordinates[0])
        assert torch.allclose(rebuilt, torch.stack(thetas), atol=1e-12)


def test_the_plane_through_both_ends_has_them_at_no_distance_and_the_complement_orthogonal():
    thetas = walk()
    found = trajectory_plane(Trajectory.of(thetas), axes="ends")
    length = float((thetas[-1] - thetas[0]).norm())
    assert found.distances[0][[0, -1]].max() < 1e-12 * length
    assert torch.allclose(found.coordinates[0][0], torch.zeros(2).double(), atol=1e-12 * length)
    assert torch.allclose(found.coordinates[0][-1], torch.tensor([length, 0.0]).double(), atol=1e-9)
    along = (thetas[-1] - thetas[0]) / length
    rest = thetas - thetas[0] - ((thetas - thetas[0]) @ along)[:, None] * along
    top = torch.linalg.svd(rest)[2][0]
    assert abs(float(found.chart.basis[1] @ top)) == pytest.approx(1, abs=1e-10)
    assert abs(float(found.chart.basis[0] @ found.chart.basis[1])) < 1e-14


def test_given_directions_span_the_plane_whatever_their_lengths_and_angle():
    thetas = walk()
    first, second = torch.randn(2, 300, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    found = trajectory_plane(Trajectory.of(thetas), axes=torch.stack([100 * first, first + 1e-3 * second]))
    q = torch.linalg.qr(torch.stack([first, second]).T)[0]
    away = thetas - thetas[-1]
    assert torch.allclose(found.distances[0], (away - away @ q @ q.T).norm(dim=1), rtol=1e-9)
    assert found.kind == "given"
    assert found.distances[0][-1] == 0


def test_an_axis_along_which_a_run_comes_back_has_its_ends_on_the_positive_side():
    turn = torch.linspace(-1, 1, 21, dtype=torch.float64)[:, None]
    arc = torch.cat([5 * turn, turn**2, 0 * turn], dim=1)
    for sign in (1, -1):
        found = trajectory_plane(Trajectory.of(sign * arc))
        assert found.coordinates[0][0, 1] > 0
        assert found.coordinates[0][-1, 1] > 0


@pytest.mark.parametrize("axes", ["pca", "ends"])
def test_axes_point_to_where_the_first_run_ends(axes):
    thetas = walk()
    forth = trajectory_plane(Trajectory.of(thetas), axes=axes)
    back = trajectory_plane(Trajectory.of(thetas.flip(0)), axes=axes)
    for found in (forth, back):
        assert found.coordinates[0][-1, 0] > found.coordinates[0][0, 0]
    assert torch.allclose((forth.chart.basis * back.chart.basis).sum(1)[0], torch.tensor(-1.0).double())


def test_several_runs_share_one_plane_and_each_keeps_its_own_numbers():
    parts = [walk(12, seed=0), walk(17, seed=1), walk(3, seed=2)]
    found = trajectory_plane([Trajectory.of(part) for part in parts])
    assert [len(part) for part in found.coordinates] == [12, 17, 3]
    u, s, _ = np.linalg.svd(centered(torch.cat(parts)).numpy(), full_matrices=False)
    assert np.allclose(torch.cat(found.coordinates).abs().numpy(), np.abs(u[:, :2] * s[:2]), atol=1e-9 * s[0])
    assert np.allclose(torch.cat(found.distances), np.linalg.norm(u[:, 2:] * s[2:], axis=1), rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_checkpoints_of_low_precision_are_summed_in_float64(dtype):
    thetas = walk(dtype=dtype, scale=0.1)
    found = trajectory_plane(Trajectory.of(thetas))
    s = np.linalg.svd(centered(thetas).numpy(), compute_uv=False)
    assert found.chart.basis.dtype is torch.float32
    assert np.allclose(found.explained, (s**2 / (s**2).sum())[:2], rtol=1e-6)
    assert found.coordinates[0].dtype is torch.float64
    exact = trajectory_plane(Trajectory.of(thetas), dtype=torch.float64)
    assert torch.allclose(found.distances[0], exact.distances[0], rtol=1e-6)


def test_projections_have_a_path_with_about_the_distances_of_the_whole(tmp_path):
    thetas = walk(30, 4000)
    run = Recording(tmp_path, Layout.of({"theta": thetas[0]}), torch.float64, projection=Projection(2000, 0))
    for step, theta in enumerate(thetas):
        run.due(step)
        run.add(step, [theta])
    run.close()
    whole = trajectory_plane(Trajectory.of(thetas))
    found = trajectory_plane(Trajectory.open(tmp_path))
    assert found.chart.basis.shape == (2, 2000)
    assert torch.allclose(found.explained, whole.explained, atol=0.02)
    scale = whole.coordinates[0].abs().max()
    assert float((found.coordinates[0] - whole.coordinates[0]).abs().max()) < 0.2 * float(scale)


def test_the_mesh_covers_all_paths_with_a_margin():
    found = trajectory_plane(Trajectory.of(walk()))
    coords = plane_coords(found, 7, margin=0.1)
    low, high = found.coordinates[0].min(0).values, found.coordinates[0].max(0).values
    assert len(coords) == 49
    assert torch.allclose(coords.min(0).values, low - 0.1 * (high - low))
    assert torch.allclose(coords.max(0).values, high + 0.1 * (high - low))


def test_the_summary_of_the_chart_is_what_results_keep():
    summary = charts.summary(trajectory_plane(Trajectory.of(walk())).chart)
    assert summary["labels"][0].startswith("principal component 1 (")
    assert summary["angles"] == [pytest.approx(90)]


def bad(t, value):
    thetas = walk()
    thetas[t, 7] = value
    return Trajectory.of(thetas)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (
            lambda: bad(13, float("nan")),
            {},
            r"checkpoint 13 \(step 13\) .* take those before it, path\[:13\]",
        ),
        (lambda: bad(5, float("-inf")), {"axes": "ends"}, "checkpoint 5"),
        (lambda: Trajectory.of(walk(1)), {}, "has one checkpoint"),
        (lambda: Trajectory.of(walk(2)), {}, "moves along a line only"),
        (lambda: Trajectory.of(walk(1).repeat(5, 1)), {}, "does not move"),
        (
            lambda: Trajectory.of(torch.linspace(0, 1, 9)[:, None] * torch.ones(4)),
            {},
            "moves along a line only",
        ),
        (
            lambda: Trajectory.of(torch.cat([walk(3), walk(3).flip(0)])),
            {"axes": "ends"},
            "start and an end that differ",
        ),
        (lambda: Trajectory.of(walk()), {"axes": "pcs"}, "axes='pcs'.*did you mean 'pca'"),
        (lambda: Trajectory.of(walk()), {"axes": torch.ones(2, 300)}, "two directions along one line"),
        (lambda: Trajectory.of(walk()), {"axes": torch.eye(2)}, r"axes has shape \[2, 2\]; pass \[2, 300\]"),
        (lambda: Trajectory.of(walk()), {"axes": torch.zeros(2, 300)}, "length zero"),
        (lambda: Trajectory.of(walk()), {"center": "middle"}, "center='middle'"),
        (lambda: Trajectory.of(walk()), {"axes": "ends", "center": "mean"}, "goes through start and end"),
        (lambda: Trajectory.of(walk()), {"memory_budget": 10}, "memory_budget=10"),
        (lambda: Trajectory.of(walk())[:0], {}, "has no checkpoint"),
        (
            lambda: [Trajectory.of(walk()), Trajectory.of(walk(width=299))],
            {},
            r"paths\[1\] is of another model",
        ),
    ],
)
def test_wrong_requests_are_refused_with_a_reason(make, options, message):
    with pytest.raises(ValueError, match=message):
        trajectory_plane(make(), **options)


@pytest.mark.parametrize("paths", [[], "run", 3, [torch.ones(3, 4)], torch.ones(3, 4)])
def test_what_is_no_trajectory_is_refused(paths):
    with pytest.raises(TypeError, match="Trajectory"):
        trajectory_plane(paths)
