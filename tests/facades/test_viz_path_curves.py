"""viz_path along curves: the curve beside the straight line, or on its plane, for anything with a chart and points."""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from lla_func import chart, from_loss, load, viz_path
from lla_func.facades._path_writing import figures
from tests.cases import build

QUIET = {"to_save": False, "steps": 21}
ENDS = torch.tensor([[-1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)


class Plane(NamedTuple):
    chart: chart.Chart
    marks: Tensor
    path: Tensor
    distances: Tensor


def bend(points):
    """The quadratic Bezier curve of three points, as much of it as viz_path asks for."""

    def coefficients(coords):
        t = coords[:, :1].double()
        return torch.cat([(1 - t) ** 2, 2 * t * (1 - t), t**2], 1)

    curve = chart.Chart(torch.zeros_like(points[0]), points, coefficients, 1, "bezier", ("t",), (0.0,))

    def plane():
        axes = torch.eye(3, dtype=points.dtype)[:2]
        path = chart.point(curve, torch.linspace(0, 1, 9, dtype=torch.float64)[:, None])
        flat = chart.plane(torch.zeros_like(points[0]), *axes)
        return Plane(flat, points[:, :2].double(), path[:, :2].double(), torch.zeros(9, dtype=torch.float64))

    return SimpleNamespace(chart=curve, points=points, plane=plane)


HILL = from_loss(lambda theta, _: (-(theta[0] ** 2) - 4 * theta[1] ** 2).exp() + theta[2] ** 2, ENDS[0])


def test_a_curve_is_shown_with_the_straight_line_beside_it():
    result = viz_path(bend(ENDS), HILL, **QUIET)
    assert list(result.landscapes) == ["loss", "straight line"]
    found = {each.metric: each.estimate.value for each in result.barriers}
    assert found["straight line"] == pytest.approx(1 - float(torch.tensor(-1.0).exp()), rel=1e-6)
    assert found["loss"] < 0.1 * found["straight line"]
    assert result.barrier.value == found["loss"]
    assert torch.equal(result.landscape.losses[[0, -1]], result.landscapes["straight line"].losses[[0, -1]])
    (drawn,) = figures(result).values()
    assert [text.get_text() for text in drawn.axes[0].texts[:2]] == ["a", "b"]


def test_the_plane_of_a_curve_has_the_curve_on_it(tmp_path):
    folders = {"viz_dir": tmp_path, "res_dir": tmp_path}
    result = viz_path(bend(ENDS), HILL, kind="plane", steps=5, **folders)
    assert result.names == ("a", "bend", "b")
    assert result.coordinates.tolist() == ENDS[:, :2].tolist()
    assert result.path.shape == (9, 2)
    assert torch.equal(load(tmp_path / "path_default.npz").path, result.path)
    with pytest.raises(ValueError, match="no barrier here"):
        _ = result.barrier


def test_a_curve_of_a_model_is_evaluated_with_its_metric():
    case = build("mlp")
    objective = case.metric.objective(case.model)
    curve = bend(torch.stack([objective.theta, objective.theta + 0.1, objective.theta * 0.9]))
    result = viz_path(curve, case.metric, like=case.model, names=["start", "end"], **QUIET)
    expected = viz_path(curve, objective, **QUIET)
    torch.testing.assert_close(result.landscape.losses, expected.landscape.losses)
    assert result.names == ("start", "end")
    doubled = viz_path(
        curve, case.metric, like=case.model, also={"test": case.metric}, dropout_seed=1, **QUIET
    )
    assert list(doubled.landscapes) == ["loss", "test", "straight line"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"metric": build("mlp").metric}, "like= is missing: pass the model"),
        ({"like": build("mlp").model}, "like= is not used with an Objective"),
        ({"kind": "volume"}, "kind='volume' is for models; a curve is shown along itself"),
        ({"names": ["a", "b", "c"]}, "does not name 2 models"),
        ({"names": ["a"], "kind": "plane"}, "does not name 2 models"),
        ({"also": {"straight line": HILL}}, "also has the name 'straight line'"),
    ],
)
def test_what_does_not_fit_a_curve_is_refused(given, words):
    options = {"metric": HILL, **QUIET, **given}
    with pytest.raises(ValueError, match=words):
        viz_path(bend(ENDS), options.pop("metric"), **options)


def test_models_know_themselves():
    with pytest.raises(ValueError, match="like= is for curves and trajectories"):
        viz_path([ENDS[0], ENDS[1]], HILL, like=build("mlp").model, **QUIET)
