"""viz_lla evaluates, draws, keeps and returns further metrics beside the loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bridges.metrics import Loss, accuracy, class_losses
from lla_func import plots, store, viz_lla
from lla_func.landscape import chosen
from tests.cases import build

STEPS = 5


@pytest.fixture
def problem():
    case = build("mlp")
    return case.model, Loss(nn.CrossEntropyLoss(), case.inputs, case.targets)


def folders(tmp_path):
    return {"viz_dir": tmp_path / "pictures", "res_dir": tmp_path / "numbers"}


def test_metrics_are_returned_drawn_and_kept(tmp_path, problem):
    model, metric = problem
    metrics = {"accuracy": accuracy, "class losses": class_losses, "test": metric}
    result = viz_lla(model, metric, steps=STEPS, num_plots=2, seed=0, metrics=metrics, **folders(tmp_path))
    classes = metric.objective(model).outputs(
        torch.cat([p.reshape(-1) for p in model.parameters()]), metric.batches[0]
    )
    kept, _ = store.load_landscapes(result.paths["losses"])
    for landscape, loaded in zip(result.landscapes, kept, strict=True):
        assert landscape.values["accuracy"].shape == (STEPS**2,)
        assert landscape.values["class losses"].shape == (STEPS**2, classes.shape[1])
        torch.testing.assert_close(landscape.values["test"], landscape.losses)
        assert set(landscape.errors) == {"loss", *metrics}
        for name in metrics:
            assert (
                torch.equal(
                    loaded.metrics[name],
                    landscape.metrics[name],
                )
                or landscape.metrics[name].isnan().any()
            )
        assert chosen(landscape, "test").center == pytest.approx(result.center_loss)
    pictures = {path.name for path in (tmp_path / "pictures").iterdir()}
    for name in ("", "_accuracy", "_class_losses_0", "_test", "_error_of_loss"):
        assert {f"default{name}.png", f"default{name}_contour.png"} <= pictures


def test_errors_alone_are_drawn_as_a_band(tmp_path, problem):
    model, metric = problem
    result = viz_lla(model, metric, dim=1, steps=STEPS, num_plots=1, seed=0, errors=True, **folders(tmp_path))
    plain = viz_lla(model, metric, dim=1, steps=STEPS, num_plots=1, seed=0, to_save=False)
    torch.testing.assert_close(result.landscapes[0].losses, plain.landscapes[0].losses)
    axes = plots.profile(result.landscapes[0])
    assert [c.get_label() for c in axes.collections] == ["standard error over data"]
    assert not plots.profile(plain.landscapes[0]).collections


def test_a_store_keeps_metrics_and_errors(tmp_path, problem):
    model, metric = problem
    call = dict(
        steps=STEPS,
        num_plots=1,
        seed=0,
        to_save=False,
        store=tmp_path,
        metrics={"test": metric, "a": accuracy},
    )
    first, again = (viz_lla(model, metric, **call).landscapes[0] for _ in range(2))
    for name in ("test", "a"):
        assert torch.equal(first.metrics[name], again.metrics[name])
        assert torch.equal(first.errors[name], again.errors[name])


def test_figures_choose_a_value_and_name_it(problem):
    model, metric = problem
    result = viz_lla(
        model, metric, steps=STEPS, num_plots=1, seed=0, to_save=False, metrics={"accuracy": accuracy}
    )
    landscape = result.landscapes[0]
    assert plots.surface3d(landscape, metric="accuracy").get_zlabel() == "accuracy"
    figure = plots.panel([landscape], ["a plane"], style="contour", metric="error of accuracy")
    assert figure.axes[-1].get_ylabel() == "error of accuracy"
    for metric, message in (
        ("recall", "'loss', 'accuracy'"),
        (("accuracy", 0), "has 0 values at each point"),
    ):
        with pytest.raises(ValueError, match=message):
            plots.contour(landscape, metric=metric)


def test_the_curvature_is_mapped_beside_the_surface_on_request(tmp_path, problem):
    model, metric = problem
    result = viz_lla(model, metric, steps=STEPS, num_plots=1, seed=0, curvature_map=2, **folders(tmp_path))
    found = result.landscapes[0]
    assert list(found.metrics) == ["largest eigenvalue", "smallest eigenvalue", "r_e"]
    assert len(found.diagnostics["curvature"]["nodes"]) == 9
    assert (tmp_path / "pictures" / "default_r_e_contour.png").exists()
    with pytest.raises(ValueError, match="curvature_map=2 is for curvature hessian, ggn or fisher"):
        viz_lla(model, metric, curvature_map=2, curvature="finite_difference", to_save=False)


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ([accuracy], "metrics"),
        ({"a/b": accuracy}, "cannot be a file name"),
        ({"a": 3}, r"metrics\['a'\]=3 is no metric"),
    ],
)
def test_wrong_metrics_are_found_before_any_work(tmp_path, problem, metrics, message):
    with pytest.raises((TypeError, ValueError), match=message):
        viz_lla(*problem, steps=STEPS, metrics=metrics, **folders(tmp_path))
    assert not list(tmp_path.rglob("*.npz"))
