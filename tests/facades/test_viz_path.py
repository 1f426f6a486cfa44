"""viz_path: the loss between models is theirs at each of them, barriers are the known ones, nothing is left behind."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bridges import metrics
from lla_func import barrier, chart, from_loss, load, risk, viz_path
from lla_func.files import load_arrays, save_arrays
from tests.cases import CASES, build
from tests.engines import every_engine
from tests.state import unchanged

QUIET = {"to_save": False, "steps": 5}


def moved(model, seed=1, scale=0.3):
    """A copy of a model with other parameters and other statistics of BatchNorm."""
    generator = torch.Generator().manual_seed(seed)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
        for name, buffer in other.named_buffers():
            if name.endswith("running_mean"):
                buffer += 0.5
    return other


@pytest.fixture(scope="module")
def mlp():
    return build("mlp")


@pytest.fixture(scope="module")
def resnet():
    return build("resnet")


def well(theta, batch):
    """Minima at -1 and 1, the barrier between them 1."""
    return ((theta**2 - 1) ** 2).sum()


WELL = from_loss(well, torch.ones(1, dtype=torch.float64))


# ---- numbers -------------------------------------------------------------------------------------------------------


def test_the_barrier_of_a_double_well_is_one():
    result = viz_path([-WELL.theta, WELL.theta], WELL, to_save=False, steps=6)
    assert result.barrier.value == pytest.approx(1, rel=1e-9)
    assert result.barriers[0].at == pytest.approx(0.5, abs=1e-4)
    assert result.barriers[0].between == ("a", "b")


def test_a_quadratic_on_a_plane_is_the_same_quadratic_of_distances():
    bowl = from_loss(lambda theta, _: theta.square().sum(), torch.zeros(6, dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    thetas = [torch.randn(6, generator=generator, dtype=torch.float64) for _ in range(3)]
    result = viz_path(thetas, bowl, **QUIET)
    landscape = result.landscape
    torch.testing.assert_close(
        landscape.losses, chart.point(chart.planar_interpolation(*thetas), landscape.coords).square().sum(1)
    )
    assert result.losses.tolist() == pytest.approx([float(theta.square().sum()) for theta in thetas])
    assert [each.estimate.value for each in result.barriers] == pytest.approx([0, 0, 0], abs=1e-12)
    assert [each.between for each in result.barriers] == [("a", "b"), ("a", "c"), ("b", "c")]


@pytest.mark.parametrize("name", [name for name in CASES if name not in ("quadratic",)])
def test_each_end_has_the_loss_that_the_model_has_by_itself(name):
    case = build(name)
    others = [case.model, moved(case.model)]
    result = viz_path(others, case.metric, engine="loop", **QUIET)
    own = [float(risk(case.metric.objective(model, batchnorm="recalibrate"))) for model in others]
    assert result.losses.tolist() == own
    assert result.landscape.losses[[0, -1]].tolist() == own
    stored = [float(risk(case.metric.objective(model))) for model in others]
    assert result.own_losses.tolist() == stored


@every_engine("auto")
def test_engines_agree_on_lines_and_planes(engine, mlp):
    models = [mlp.model, moved(mlp.model), moved(mlp.model, 2)]
    for chosen in (models[:2], models):
        expected = viz_path(chosen, mlp.metric, engine="loop", **QUIET).landscape.losses
        found = viz_path(chosen, mlp.metric, engine=engine, **QUIET).landscape
        assert found.diagnostics["engine"] == engine or engine == "auto"
        torch.testing.assert_close(found.losses, expected, rtol=1e-9, atol=1e-12)


def test_batchnorm_is_recalibrated_unless_something_else_is_asked_for(resnet):
    models = [resnet.model, moved(resnet.model, scale=0.1)]
    result = viz_path(models, resnet.metric, **QUIET)
    assert result.settings["batchnorm"] == "recalibrate"
    assert not torch.allclose(result.losses, result.own_losses)
    middle = resnet.metric.objective(models[0], batchnorm="recalibrate")
    halfway = (middle.theta + resnet.metric.objective(models[1]).theta) / 2
    assert float(result.landscape.losses[2]) == pytest.approx(float(risk(middle, halfway)), rel=1e-12)
    with pytest.warns(
        RuntimeWarning, match=r"the loss of 'b' is .* statistics of BatchNorm, such as .*running_mean"
    ):
        kept = viz_path(models, resnet.metric, batchnorm="eval", **QUIET)
    assert kept.losses[0] == kept.own_losses[0]
    assert kept.losses[1] != kept.own_losses[1]


def test_further_metrics_are_evaluated_on_the_same_line(mlp):
    test = metrics.Loss(mlp.criterion, mlp.inputs[:3], mlp.targets[:3])
    models = [mlp.model, moved(mlp.model)]
    result = viz_path(models, mlp.metric, also={"test": test}, **QUIET)
    assert list(result.landscapes) == ["loss", "test"]
    alone = viz_path(models, test, **QUIET)
    torch.testing.assert_close(result.landscapes["test"].losses, alone.landscape.losses)
    found = {each.metric: each.estimate.value for each in result.barriers}
    assert found == pytest.approx({"loss": result.barrier.value, "test": alone.barrier.value}, rel=1e-9)


def test_more_models_are_a_chain_and_its_barrier_is_that_of_the_highest_piece():
    thetas = [torch.tensor([x], dtype=torch.float64) for x in (1.5, 1.0, -1.0, -1.5)]
    result = viz_path(thetas, WELL, to_save=False, steps=21)
    assert result.landscape.coords[[0, 20, 40, 60], 0].tolist() == [0, 1, 2, 3]
    assert [each.between for each in result.barriers] == [("a", "b"), ("b", "c"), ("c", "d")]
    assert result.barrier.value == pytest.approx(1, rel=1e-9)
    assert all(0 <= each.at <= 1 for each in result.barriers)


def test_three_models_may_be_a_chain_and_four_a_volume():
    thetas = [*torch.eye(4, dtype=torch.float64)]
    bowl = from_loss(lambda theta, _: theta.square().sum(), thetas[0])
    assert viz_path(thetas[:3], bowl, kind="chain", **QUIET).landscape.coords.shape == (9, 1)
    volume = viz_path(thetas, bowl, kind="volume", **QUIET)
    assert volume.landscape.coords.shape == (125, 3)
    assert volume.landscape.losses.min() == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize(("margin", "expected"), [(None, [0, 1]), (0.5, [-0.5, 1.5]), (0, [0, 1])])
def test_a_line_may_go_on_beyond_the_models_and_meets_them_all_the_same(margin, expected):
    coords = viz_path([-WELL.theta, WELL.theta], WELL, margin=margin, **QUIET).landscape.coords[:, 0]
    assert coords[[0, -1]].tolist() == expected
    assert {0.0, 1.0} <= set(coords.tolist())


def test_tiny_and_huge_losses_keep_their_barrier():
    for scale in (1e-9, 1e8):
        scaled = from_loss(lambda theta, batch, s=scale: s * well(theta, batch), WELL.theta)
        result = viz_path([-WELL.theta, WELL.theta], scaled, **QUIET)
        assert result.barrier.value == pytest.approx(scale, rel=1e-9)


# ---- what comes in, and what is left -------------------------------------------------------------------------------


def test_models_are_left_as_they_were(resnet):
    other = moved(resnet.model)
    with unchanged(resnet.model), unchanged(other):
        viz_path([resnet.model, other], resnet.metric, **QUIET)
        with pytest.raises(ValueError, match="steps"):
            viz_path([resnet.model, other], resnet.metric, steps=1)


def test_vectors_named_tensors_and_an_objective_are_as_good_as_models(mlp):
    other = moved(mlp.model)
    objective = mlp.metric.objective(mlp.model)
    expected = viz_path([mlp.model, other], mlp.metric, **QUIET).landscape.losses
    named = dict(other.state_dict())
    for second in (mlp.metric.objective(other).theta, named, mlp.metric.objective(other).theta.numpy()):
        found = viz_path([objective.theta, second], objective, **QUIET).landscape.losses
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_a_model_in_bfloat16_is_evaluated_in_the_precision_asked_for():
    case = build("mlp", torch.bfloat16)
    metric = metrics.Loss(case.criterion, case.inputs.float(), case.targets)
    found = viz_path([case.model, moved(case.model)], metric, dtype="float64", **QUIET)
    assert len(found.landscape.losses.unique()) == 5


def test_the_result_is_read_again_as_it_was(tmp_path, resnet):
    models = [resnet.model, moved(resnet.model)]
    folders = {"viz_dir": tmp_path / "viz", "res_dir": tmp_path}
    result = viz_path(
        models, resnet.metric, also={"test": resnet.metric}, names=["first", "last"], steps=5, **folders
    )
    assert sorted(path.name for path in result.paths.values()) == [
        "path_default.json",
        "path_default.npz",
        "path_default.png",
    ]
    again = load(tmp_path / "path_default.npz")
    assert again.names == ("first", "last")
    assert again.barrier[:5] == result.barrier[:5]
    for name in ("coordinates", "losses", "own_losses"):
        assert torch.equal(getattr(again, name), getattr(result, name))
    for name, landscape in result.landscapes.items():
        assert torch.equal(again.landscapes[name].losses, landscape.losses)
    assert again.landscape.chart["points"] == {"first": [0.0], "last": [1.0]}
    assert repr(again).splitlines()[1:3] == repr(result).splitlines()[1:3]
    settings = json.loads((tmp_path / "path_default.json").read_text())
    assert settings["names"] == ["first", "last"]
    assert settings["barriers"][0]["estimate"]["value"] == result.barrier.value


def test_a_store_goes_on_where_it_stopped(tmp_path):
    options = {"steps": 9, "to_save": False, "store": tmp_path}
    first = viz_path([-WELL.theta, WELL.theta], WELL, **options)
    again = viz_path([-WELL.theta, WELL.theta], WELL, **options)
    assert torch.equal(first.landscape.losses, again.landscape.losses)
    with pytest.raises(ValueError, match="another job"):
        viz_path([-WELL.theta, 2 * WELL.theta], WELL, **options)


def test_what_is_no_result_is_not_read(tmp_path):
    path = tmp_path / "other.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not an npz file"):
        load(path)


# ---- what is wrong -------------------------------------------------------------------------------------------------


def net(width=4, *, act=nn.Tanh, bias=True):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(width)
        return nn.Sequential(nn.Linear(5, width, bias=bias), act(), nn.Linear(width, 3))


X = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
METRIC = metrics.Loss(nn.CrossEntropyLoss(), X, torch.arange(12) % 3)
FROZEN = net()
FROZEN[0].requires_grad_(False)
OTHER = METRIC.objective(net())


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (
            [net(), net(5)],
            r"'b' is of another architecture than 'a': 0.weight has shape \[5, 5\], in 'a' \[4, 5\]",
        ),
        ([net(), net(bias=False)], "'b' .* it lacks 0.bias"),
        ([net(bias=False), net()], "'b' .* it has 0.bias, unlike 'a'"),
        ([net(), net().double()], "0.weight has dtype torch.float64, in 'a' torch.float32"),
        ([net(), FROZEN], r"0.weight is frozen \(requires_grad=False\), unlike in 'a'"),
        ([net(), net(), net(6)], "'c' is of another architecture than 'a'"),
        ([net()], "models has 1 model; pass two or more"),
        ([], "models has 0 models"),
        ([net(), net()], "'a' and 'b' are equal"),
        (
            [net(), moved(net(act=nn.ReLU))],
            "differ in neither parameters nor buffers; are their layers the same",
        ),
    ],
)
def test_models_that_are_not_alike_are_told_apart_by_what_differs(models, words):
    with pytest.raises(ValueError, match=words):
        viz_path(models, METRIC, **QUIET)


def test_models_whose_frozen_parameters_differ_are_not_joined():
    first, second = net(), moved(net())
    for model in (first, second):
        model[0].requires_grad_(False)
    with pytest.raises(ValueError, match="the loss of 'b' .* parameters that are frozen, such as 0.weight"):
        viz_path([first, second], METRIC, **QUIET)
    with torch.no_grad():
        second[0].load_state_dict(first[0].state_dict())
    assert viz_path([first, second], METRIC, **QUIET).losses.isfinite().all()


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"models": net()}, TypeError, "is not a list of models"),
        ({"models": "a.pth"}, TypeError, "models='a.pth' is not a list of models"),
        ({"models": [net(), "b.pth"]}, TypeError, "model 'b' is of type str"),
        (
            {"models": [net(), OTHER.theta]},
            TypeError,
            "model 'b' is of type Tensor; pass modules with a metric",
        ),
        ({"metric": OTHER}, TypeError, "model 'a' is of type Sequential; with an Objective pass vectors"),
        ({"metric": None}, TypeError, r"metric=None has no objective\(model\) method"),
        ({"also": [METRIC]}, TypeError, "also is of type list; pass a dict of metrics by name"),
        ({"also": {"loss": METRIC}}, ValueError, "also has the name 'loss'"),
        ({"also": {"test": OTHER}}, TypeError, r"also\['test'\] is an Objective, metric is none"),
        ({"names": ["x"]}, ValueError, "does not name 2 models"),
        ({"names": ["x", "x"]}, ValueError, "does not name 2 models"),
        ({"kind": "plane"}, ValueError, "kind='plane' goes through 3 models, there are 2"),
        ({"kind": "volumes"}, ValueError, "did you mean 'volume'"),
        ({"margin": -1}, ValueError, "margin=-1 is not allowed"),
        ({"steps": 1}, ValueError, "steps=1 is too small"),
        ({"slices": 0}, ValueError, "slices=0 is too small"),
        ({"sampling": "chebyshev"}, ValueError, "needs tol"),
        ({"cur_name": "a/b"}, ValueError, "cur_name='a/b' cannot be a file name"),
        ({"batchnorm": "evil"}, ValueError, "did you mean 'eval'"),
        ({"group": 3, "store": "s"}, TypeError, "group is of type int"),
        ({"cap_loss": 0}, ValueError, "cap_loss=0"),
    ],
)
def test_what_is_wrong_is_named_before_any_work(given, kind, words, monkeypatch):
    from lla_func.facades import _path as path

    def work(*_, **__):
        raise AssertionError("work began before the request was checked")

    monkeypatch.setattr(path, "evaluate", work)
    monkeypatch.setattr(path, "own_losses", work)
    operands = {"models": [net(), moved(net())], "metric": METRIC} | given
    with pytest.raises(kind, match=words):
        viz_path(operands.pop("models"), operands.pop("metric"), to_save=False, **operands)


def test_objectives_of_other_parameters_cannot_stand_beside():
    with pytest.raises(ValueError, match=r"also\['test'\] is of other parameters"):
        viz_path([-WELL.theta, WELL.theta], WELL, also={"test": OTHER}, **QUIET)
    with pytest.raises(ValueError, match="model 'b' has shape"):
        viz_path([WELL.theta, torch.zeros(3)], WELL, **QUIET)
    with pytest.raises(ValueError, match="model 'b' has NaN"):
        viz_path([WELL.theta, WELL.theta / 0 * 0], WELL, **QUIET)


def test_there_is_no_barrier_to_ask_for_without_a_line():
    objective, line = WELL, chart.linear_interpolation(-WELL.theta, WELL.theta)
    assert barrier(objective, line).estimate.value == pytest.approx(1)
    result = viz_path([-WELL.theta, WELL.theta], WELL, **QUIET)
    with pytest.raises(AttributeError, match="has no attribute 'explained'"):
        _ = result.explained


def test_a_file_of_version_1_is_read():
    result = load(Path(__file__).parents[1] / "data" / "path_1.npz")
    assert result.barrier.value == pytest.approx(1, rel=1e-9)
    assert result.names == ("a", "b")
    assert list(result.landscapes) == ["loss", "tilted"]
    assert result.landscape.losses.tolist() == pytest.approx([0, 0.5625, 1, 0.5625, 0])


def test_a_file_of_another_version_is_refused(tmp_path):
    arrays = load_arrays(Path(__file__).parents[1] / "data" / "path_1.npz")
    arrays["head"] = np.array(str(arrays["head"]).replace('"version": 1', '"version": 99'))
    with pytest.raises(ValueError, match="of version 99; this program reads 'path' of version 1"):
        load(save_arrays(tmp_path / "new.npz", **arrays))
