"""viz_lla: the front door, from a model to pictures and numbers on disk."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from lla_func import Landscape, LandscapeResult, from_loss, risk, store, viz_lla
from tests.engines import every_engine


def test_the_default_draws_four_random_planes_and_writes_them(run, tmp_path):
    result = run(to_save=True)
    assert isinstance(result, LandscapeResult)
    assert len(result.landscapes) == 4
    assert {kind: path.name for kind, path in result.paths.items()} == {
        "losses": "default.npz",
        "settings": "default.json",
        "surface": "default.png",
        "contour": "default_contour.png",
    }
    for path in result.paths.values():
        assert path.stat().st_size > 100
    assert sorted(p.name for p in (tmp_path / "viz").iterdir()) == ["default.png", "default_contour.png"]


def test_saved_numbers_are_the_returned_ones(run):
    result = run(num_plots=2, to_save=True)
    landscapes, titles = store.load_landscapes(result.paths["losses"])
    assert tuple(titles) == result.titles
    for saved, returned in zip(landscapes, result.landscapes, strict=True):
        assert isinstance(saved, Landscape)
        assert torch.equal(saved.losses, returned.losses)
        assert torch.equal(saved.coords, returned.coords)


def test_the_surface_is_symmetric_about_the_center_whose_loss_is_always_there(run, model, metric):
    result = run(num_plots=1, dist=3, steps=4)
    coords = result.landscapes[0].coords
    assert coords.min() == -1.5
    assert coords.max() == 1.5
    assert torch.equal(coords, -coords.flip(0))
    assert result.center_loss == float(risk(metric.objective(model)))
    assert result.landscapes[0].center == result.center_loss


def test_an_odd_grid_contains_the_center(run):
    result = run(num_plots=1, steps=5)
    middle = result.landscapes[0].losses[12]
    assert float(middle) == pytest.approx(result.center_loss, rel=1e-6)


def test_the_settings_repeat_the_run_exactly(run, model, metric, tmp_path):
    first = run(num_plots=2, to_save=True, seed=None, normalization="filter", freeze="0.*")
    settings = json.loads(first.paths["settings"].read_text())
    known = (
        "dist",
        "steps",
        "num_plots",
        "axes",
        "normalization",
        "order",
        "mode",
        "freeze",
        "seed",
        "distribution",
    )
    again = viz_lla(model, metric, to_save=False, **{name: settings[name] for name in known})
    for a, b in zip(first.landscapes, again.landscapes, strict=True):
        assert torch.equal(a.losses, b.losses)
    assert settings["notes"]["batchnorm"]
    assert settings["theta"]


def test_without_a_seed_every_run_draws_other_directions(run):
    first, second = run(num_plots=1, seed=None), run(num_plots=1, seed=None)
    assert first.seed != second.seed
    assert not torch.equal(first.landscapes[0].losses, second.landscapes[0].losses)


def test_another_seed_gives_other_numbers_and_the_same_seed_the_same(run):
    a, b, c = (run(num_plots=1, seed=seed).landscapes[0].losses for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_random_planes_of_one_run_differ(run):
    first, second = run(num_plots=2).landscapes
    assert not torch.equal(first.losses, second.losses)


def test_return_loss_gives_arrays_as_the_original(run):
    one = run(num_plots=1, return_loss=True)
    assert isinstance(one, np.ndarray)
    assert one.shape == (4, 4)
    several = run(num_plots=2, return_loss=True)
    assert [array.shape for array in several.values()] == [(4, 4), (4, 4)]


def test_returned_planes_are_named_by_row_and_column_as_in_the_original(run):
    assert list(run(num_plots=4, steps=2, return_loss=True)) == ["00", "01", "10", "11"]
    assert list(run(num_plots=3, num_per_plot=3, steps=2, return_loss=True)) == ["00", "01", "02"]
    assert list(run(viz_dev=True, steps=2, return_loss=True)) == ["00", "01", "10", "11"]
    plain = run(num_plots=2, num_per_plot=1)
    named = run(num_plots=2, num_per_plot=1, return_loss=True)
    assert np.array_equal(named["10"], plain.landscapes[1].losses.reshape(4, 4).numpy())


def test_no_two_returned_planes_share_a_name(run):
    assert len(run(num_plots=124, num_per_plot=11, steps=2, engine="loop", return_loss=True)) == 124


def test_a_result_shows_itself_as_a_short_table(run):
    result = run(num_plots=2, axes="random", to_save=True, steps=12)
    shown = repr(result)
    assert len(shown) < 1000
    for part in ("288 points", f"{result.center_loss:.6g}", "random plane 2", "12 x 12", "4 files in"):
        assert part in shown
    assert f"{float(result.landscapes[0].losses.max()):.6g}" in shown


def test_a_result_shows_lines_and_what_is_not_finite(run):
    holes = from_loss(lambda theta, batch: theta.sum().log(), torch.ones(3))
    shown = repr(viz_lla(holes, dim=1, dist=40, num_plots=1, steps=5, seed=0, to_save=False))
    assert "losses are NaN or infinite" in shown


def test_the_cap_clips_returned_arrays_but_not_the_result(run):
    free = run(num_plots=1, dist=30)
    cap = float(free.landscapes[0].losses.median())
    assert torch.equal(
        run(num_plots=1, dist=30, cap_loss=cap).landscapes[0].losses, free.landscapes[0].losses
    )
    assert run(num_plots=1, dist=30, cap_loss=cap, return_loss=True).max() == cap


def test_rows_follow_the_first_direction(run, model, metric):
    objective = metric.objective(model)
    basis = torch.zeros(2, len(objective.theta))
    basis[0, -1] = 1.0
    basis[1, 0] = 1.0
    losses = run(axes=basis, return_loss=True, dist=2)
    theta = objective.theta.clone()
    theta[-1] -= 1.0
    theta[0] += 1.0
    assert losses[0, -1] == pytest.approx(float(risk(objective, theta)), rel=1e-6)


class Caching(nn.Module):
    """Remembers a table from its first pass, in a dict and as a buffer."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)
        self.tables = {}

    def forward(self, x):
        if len(x) not in self.tables:
            self.tables[len(x)] = torch.arange(5.0) / 5
        if not hasattr(self, "scale"):
            self.register_buffer("scale", torch.full((3,), 2.0))
        return self.layer(x + self.tables[len(x)]) * self.scale


@every_engine()
def test_what_a_model_remembers_of_a_pass_stays_usable_and_buffers_do_not_stay(metric, engine):
    model = Caching()
    viz_lla(model, metric, num_plots=1, steps=5, seed=0, to_save=False, engine=engine)
    assert [table.tolist() for table in copy.deepcopy(model).tables.values()]
    assert list(model.state_dict()) == ["layer.weight", "layer.bias"]


def test_a_line_is_drawn_as_a_profile(run):
    result = run(dim=1, num_plots=2, to_save=True)
    assert result.landscapes[0].coords.shape == (4, 1)
    assert result.paths["profile"].name == "default.png"


def test_an_objective_needs_no_metric(tmp_path):
    bowl = from_loss(lambda theta, batch: theta.square().sum(), torch.zeros(4))
    result = viz_lla(bowl, num_plots=1, steps=3, viz_dir=tmp_path, res_dir=tmp_path, seed=0)
    assert result.center_loss == 0
    assert result.landscapes[0].losses.min() >= 0


def test_nothing_is_written_when_not_asked(run, tmp_path):
    result = run(num_plots=1)
    assert result.paths == {}
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_keeps_the_panels_already_computed(run, monkeypatch, tmp_path):
    from lla_func.facades import _landscape as facades

    evaluate, calls = facades.evaluate, []

    def interrupted(*args, **options):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return evaluate(*args, **options)

    monkeypatch.setattr(facades, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(to_save=True)
    landscapes, _ = store.load_landscapes(tmp_path / "res" / "default.npz")
    assert len(landscapes) == 2


def test_angles_norms_and_batchnorm_policy_are_reported(run):
    result = run(num_plots=1, normalization="filter", batchnorm="batch")
    landscape = result.landscapes[0]
    assert landscape.chart["angles"][0] == pytest.approx(90, abs=1e-4)
    assert landscape.chart["norms"][0] > 0
    assert landscape.diagnostics["batchnorm"]


def test_nonfinite_points_are_counted(run, model):
    with torch.no_grad():
        model[2].weight.mul_(1e30)
    result = run(num_plots=1, dist=1e38)
    assert result.nonfinite == int((~torch.isfinite(result.landscapes[0].losses)).sum())
    assert result.nonfinite > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"axes": "hesian"},
            "axes='hesian' is not one of 'random', 'adam', 'hessian'; did you mean 'hessian'",
        ),
        ({"axes": torch.zeros(2, 3)}, r"axes has shape \[2, 3\]; pass directions \[2, 39\]"),
        ({"mode": "adam"}, "mode='adam' is not one of 'add', 'adameq'"),
        ({"mode": "adameq"}, "mode='adameq' needs axes='adam'"),
        ({"axes": "adam"}, "axes='adam' needs optimizer="),
        ({"normalization": "filters"}, "normalization='filters' is not one of .*did you mean 'filter'"),
        ({"order": 3}, "order=3 is not one of 1, 2"),
        ({"steps": 0}, "steps=0 is too small; pass an int of at least 2"),
        ({"dist": 0}, "dist=0 is not allowed; pass a finite number greater than 0"),
        ({"dist": float("nan")}, "dist=nan is not allowed"),
        ({"num_plots": 0}, "num_plots=0 is too small"),
        ({"num_per_plot": -1}, "num_per_plot=-1 is too small"),
        ({"cap_loss": -1.0}, "cap_loss=-1.0 is not allowed"),
        ({"engine": "warp"}, "engine='warp' is not one of"),
        ({"batchnorm": "train"}, "batchnorm='train' is not one of 'eval', 'batch', 'recalibrate'"),
        ({"raa": 2, "freeze": "0.*"}, "raa=2 and freeze='0.\\*' are two names of one option"),
        ({"raa": 4}, "freeze=4 is out of range; the model has 4 parameter tensors"),
        ({"freeze": "features.*"}, "'features.\\*' matches no parameter"),
        ({"ignore": "bias"}, "ignore='bias' is not one of None, 'bias_norm'"),
        ({"distribution": "cauchy"}, "distribution='cauchy' is not one of"),
        ({"dim": 3}, "dim=3 is not one of 1, 2"),
        ({"seed": -1}, "seed=-1 is too small"),
        ({"device": "meta"}, "device='meta' is not where the metric evaluates"),
        ({"cur_name": "a/b"}, "cur_name"),
    ],
)
def test_bad_options_are_named_before_anything_is_written(run, tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        run(to_save=True, **options)
    assert not list(tmp_path.glob("res/*.npz"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 4.5}, "steps=4.5 is not a whole number"),
        ({"dist": "far"}, "dist='far' is not a number"),
        ({"seed": "x"}, "seed='x' is not a whole number"),
    ],
)
def test_options_of_the_wrong_type_are_named(run, options, words):
    with pytest.raises(TypeError, match=words):
        run(**options)


def test_a_metric_that_is_none_is_named(model):
    with pytest.raises(
        TypeError, match=r"metric=None has no objective\(model\) method; pass bridges.metrics.Loss"
    ):
        viz_lla(model, None, to_save=False)


def test_a_metric_beside_an_objective_is_refused(model, metric):
    with pytest.raises(ValueError, match="metric is not used with an Objective"):
        viz_lla(metric.objective(model), metric, to_save=False)


@pytest.mark.parametrize("which", ["viz_dir", "res_dir"])
def test_an_unwritable_directory_fails_before_the_work_starts(run, tmp_path, which, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr("lla_func.evaluate", lambda *a, **k: pytest.fail("work started"))
    with pytest.raises(ValueError, match=which):
        run(to_save=True, **{which: tmp_path / "file" / "below"})
