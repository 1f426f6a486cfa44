"""Metrics and errors over data are those of a plain computation, in one pass, whatever the engine and the cut."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

from lla_func import chart as charts
from lla_func import evaluate, from_loss
from lla_func.landscape import load_landscape, store
from lla_func.objective import PerSample, mean_and_error, merged, moments, values
from tests.engines import every_engine

F = nn.functional
CLASSES, SAMPLES, FEATURES = 4, 37, 5


def per_class(outputs, batch):
    mine = batch[1][:, None] == torch.arange(CLASSES)
    return PerSample((outputs.argmax(1) == batch[1])[:, None].double().expand(-1, CLASSES), mine.double())


METRICS = {
    "accuracy": lambda outputs, batch: outputs.argmax(1) == batch[1],
    "squares": lambda outputs, batch: outputs.square(),
    "per class": per_class,
    "largest": lambda outputs, batch: outputs.amax(),
}


def problem(*, metrics=METRICS, dtype=torch.float64, batches=1, samples=SAMPLES, **options):
    """Softmax regression through tanh, in as many uneven batches."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, FEATURES, generator=generator, dtype=torch.float64).to(dtype)
    y = torch.randint(CLASSES, (samples,), generator=generator)
    theta = torch.randn(FEATURES * CLASSES, generator=generator, dtype=torch.float64).to(dtype)
    calls = []

    def outputs(theta, batch):
        calls.append(len(batch[0]))
        return (batch[0] @ theta.view(FEATURES, CLASSES)).tanh()

    def criterion(outputs, batch):
        return F.cross_entropy(outputs, batch[1])

    data = [(x, y)] if batches == 1 else [(a, b) for a, b in zip(x.split(11), y.split(11), strict=True)]
    objective = from_loss(
        lambda theta, batch: criterion(outputs(theta, batch), batch),
        theta,
        data,
        separable=True,
        outputs=outputs,
        criterion=criterion,
        per_sample=lambda outputs, batch: F.cross_entropy(outputs, batch[1], reduction="none"),
        metrics=metrics,
        **options,
    )
    generator = torch.Generator().manual_seed(1)
    first, second = torch.randn(2, len(theta), generator=generator, dtype=torch.float64).to(dtype)
    return objective, charts.plane(theta, first, second), calls


def grid(steps=5, reach=1.0):
    axis = torch.linspace(-reach, reach, steps, dtype=torch.float64)
    return charts.mesh(axis, axis)


def expected(objective, chart, coords):
    """Values and errors by plain means and standard deviations over all samples."""
    x = torch.cat([batch[0] for batch in objective.batches])
    y = torch.cat([batch[1] for batch in objective.batches])
    found = {}
    for row in coords:
        theta = chart.origin + row.to(chart.basis) @ chart.basis
        outputs = (x @ theta.view(FEATURES, CLASSES)).tanh()
        losses = F.cross_entropy(outputs, y, reduction="none").double()
        right = (outputs.argmax(1) == y).double()
        classes = [right[y == k] for k in range(CLASSES)]
        here = {
            "loss": losses.mean(),
            "accuracy": right.mean(),
            "squares": outputs.double().square().mean(0),
            "per class": torch.stack([one.mean() for one in classes]),
            "error of loss": losses.std() / len(x) ** 0.5,
            "error of accuracy": right.std() / len(x) ** 0.5,
            "error of squares": outputs.double().square().std(0) / len(x) ** 0.5,
        }
        for name, value in here.items():
            found.setdefault(name, []).append(value)
    return {name: torch.stack(value) for name, value in found.items()}


@every_engine("auto", compiling=True)
@pytest.mark.parametrize("batches", [1, 4])
def test_metrics_and_errors_are_those_of_all_samples_at_once(engine, batches):
    objective, chart, _ = problem(batches=batches)
    coords = grid()
    land = evaluate(objective, chart, coords, engine=engine)
    assert engine == "auto" or land.diagnostics["engine"] == engine
    truth = expected(objective, chart, coords)
    assert list(land.values) == ["loss", *METRICS]
    for name in ("loss", "accuracy", "squares", "per class"):
        torch.testing.assert_close(land.values[name], truth[name], rtol=1e-12, atol=1e-13)
        assert land.errors[name].shape == land.values[name].shape
    for name in ("loss", "accuracy", "squares"):
        torch.testing.assert_close(land.errors[name], truth[f"error of {name}"], rtol=1e-9, atol=1e-13)
    assert "largest" not in land.errors


@every_engine()
def test_tiles_make_no_difference(engine):
    objective, chart, _ = problem(metrics={name: METRICS[name] for name in ("accuracy", "per class")})
    coords = grid(4)
    whole = evaluate(objective, chart, coords, engine="loop")
    cut = evaluate(objective, chart, coords, engine=engine, samples_per_tile=7, points_per_pass=3)
    for kind in ("values", "errors"):
        for name, value in getattr(whole, kind).items():
            torch.testing.assert_close(getattr(cut, kind)[name], value, rtol=1e-9, atol=1e-12)


def test_a_number_for_a_batch_is_never_taken_of_a_tile():
    objective, chart, _ = problem(metrics={"largest": METRICS["largest"]})
    land = evaluate(objective, chart, grid(3), engine="hoisted", samples_per_tile=5)
    x = objective.batches[0][0]
    thetas = chart.origin + grid(3) @ chart.basis
    truth = torch.stack([(x @ t.view(FEATURES, CLASSES)).tanh().max() for t in thetas])
    torch.testing.assert_close(land.metrics["largest"], truth)


def test_each_point_takes_one_forward_pass_with_metrics_and_errors_as_without():
    coords = grid(6)
    counts = []
    for metrics, errors in (({}, False), (METRICS, True)):
        objective, chart, calls = problem(metrics=metrics, batches=4)
        evaluate(objective, chart, coords, engine="loop", errors=errors)
        counts.append(len(calls))
    assert counts[0] == len(coords) * 4
    assert counts[1] == counts[0] + 1  # the trial that finds out what the metrics give


@every_engine()
def test_without_metrics_losses_are_bit_for_bit_what_they_were(engine):
    objective, chart, _ = problem(dtype=torch.float32)
    plain = objective._replace(metrics={}, per_sample=None)
    coords = grid(4)
    with_knowledge = evaluate(objective._replace(metrics={}), chart, coords, engine=engine)
    before = evaluate(plain, chart, coords, engine=engine)
    assert torch.equal(with_knowledge.losses, before.losses)
    assert not before.metrics
    assert not before.errors


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_a_spread_of_a_thousandth_shows_in_losses_of_a_hundred_million(offset):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, generator=generator, dtype=torch.float64)
    parts = [moments(offset + 1e-3 * piece) for piece in x.split([1, 499, 300, 200])]
    mean, error = mean_and_error(merged(parts))
    torch.testing.assert_close(mean[0], offset + 1e-3 * x.mean(), rtol=1e-15, atol=1e-13)
    torch.testing.assert_close(error[0], 1e-3 * x.std() / 1000**0.5, rtol=1e-4, atol=0)


def test_the_error_of_a_weighted_mean_is_what_samples_of_the_data_show():
    generator = torch.Generator().manual_seed(0)
    w = torch.rand(4000, 200, generator=generator, dtype=torch.float64) * 4
    x = w + torch.randn(4000, 200, generator=generator, dtype=torch.float64)
    means, errors = zip(*(mean_and_error(moments(a, b)) for a, b in zip(x, w, strict=True)), strict=True)
    torch.testing.assert_close(torch.cat(errors).mean(), torch.cat(means).std(), rtol=0.05, atol=0)


def test_what_has_weight_zero_may_be_anything():
    nans = torch.tensor([1.0, 2.0, float("nan"), 3.0]), torch.tensor([1.0, 1.0, 0.0, 1.0])
    mean, error = mean_and_error(merged([moments(*nans), moments(torch.tensor([9.0]), torch.zeros(1))]))
    assert float(mean) == 2.0
    torch.testing.assert_close(error[0], torch.tensor([1.0, 2.0, 3.0]).std().double() / 3**0.5)


def test_the_error_of_a_sum_grows_with_the_samples():
    objective, chart, _ = problem(metrics={})
    total = objective._replace(
        reduction="sum", criterion=lambda outputs, batch: F.cross_entropy(outputs, batch[1], reduction="sum")
    )
    mean, whole = (evaluate(one, chart, grid(2), engine="loop", errors=True) for one in (objective, total))
    torch.testing.assert_close(whole.losses, SAMPLES * mean.losses)
    torch.testing.assert_close(whole.errors["loss"], SAMPLES * mean.errors["loss"])


def test_batches_without_weight_count_for_metrics_and_not_for_the_loss():
    objective, chart, _ = problem(batches=4)
    weighted = objective._replace(weight=lambda batch: 0.0 if len(batch[0]) == 4 else float(len(batch[0])))
    land = evaluate(weighted, chart, grid(2), engine="loop")
    truth = expected(objective, chart, grid(2))
    torch.testing.assert_close(land.metrics["accuracy"], truth["accuracy"])
    short = evaluate(objective._replace(batches=objective.batches[:3]), chart, grid(2), engine="loop")
    assert torch.equal(land.losses, short.losses)


# ---- what is kept, interpolated and evaluated elsewhere -------------------------------------------------------------


def test_metrics_come_back_from_a_store_and_from_a_file(tmp_path):
    objective, chart, calls = problem(batches=4)
    coords = grid(4)
    first = evaluate(objective, chart, coords, engine="hoisted", store=tmp_path / "job")
    (tmp_path / "job" / "landscape.npz").unlink()
    calls.clear()
    again = evaluate(objective, chart, coords, engine="hoisted", store=tmp_path / "job")
    assert len(calls) < 3 * 4  # the trial and the metrics at the center
    store.save_landscapes(tmp_path / "file.npz", [first], ["a plane"])
    for other in (
        again,
        load_landscape(tmp_path / "job"),
        store.load_landscapes(tmp_path / "file.npz")[0][0],
    ):
        for kind in ("metrics", "errors"):
            assert list(getattr(other, kind)) == list(getattr(first, kind))
            for name, value in getattr(first, kind).items():
                assert torch.equal(getattr(other, kind)[name], value)


def test_files_of_a_later_format_are_refused(tmp_path):
    objective, chart, _ = problem()
    path = store.save_landscapes(tmp_path / "a.npz", [evaluate(objective, chart, grid(2))], ["a plane"])
    arrays = store.load_arrays(path)
    store.save_arrays(path, **{**arrays, "format": arrays["format"] + 1})
    with pytest.raises(ValueError, match="another version of lla_func .format 3, this one reads up to 2"):
        store.load_landscapes(path)


def test_a_job_whose_chunks_are_half_there_is_completed(tmp_path):
    objective, chart, _ = problem()
    coords = grid(6)
    first = evaluate(objective, chart, coords, engine="hoisted", store=tmp_path)
    (tmp_path / "landscape.npz").unlink()
    for path in sorted((tmp_path / "chunks").glob("*.npz"))[::2]:
        path.unlink()
    again = evaluate(objective, chart, coords, engine="hoisted", store=tmp_path)
    for name, value in first.metrics.items():
        assert torch.equal(again.metrics[name], value)


def test_a_store_tells_other_metrics_and_damaged_ones_apart(tmp_path):
    objective, chart, _ = problem()
    evaluate(objective, chart, grid(3), store=tmp_path)
    other = objective._replace(
        metrics={**METRICS, "accuracy": lambda outputs, batch: outputs.argmin(1) == batch[1]}
    )
    with pytest.raises(ValueError, match=r"the metric 'accuracy' at the center"):
        evaluate(other, chart, grid(3), store=tmp_path)
    with pytest.raises(ValueError, match="metrics"):
        evaluate(objective._replace(metrics={}), chart, grid(3), store=tmp_path)
    arrays = store.load_arrays(tmp_path / "landscape.npz")
    arrays["metrics_accuracy_0"] += 0.1
    store.save_arrays(tmp_path / "landscape.npz", **arrays)
    with pytest.raises(ValueError, match="checksum"):
        load_landscape(tmp_path)


def test_chebyshev_sampling_interpolates_metrics_and_says_how_far_off_they_are():
    objective, chart, _ = problem(metrics={k: METRICS[k] for k in ("squares", "accuracy")})
    coords = grid(33, reach=0.4)
    land = evaluate(objective, chart, coords, sampling="chebyshev", tol=1e-4)
    truth = evaluate(objective, chart, coords)
    sampled = land.diagnostics["sampling"]
    assert sampled["degree"] is not None
    off = (land.metrics["squares"] - truth.metrics["squares"]).abs().max()
    assert off <= max(2 * sampled["metrics_error"]["squares"], 1e-12)
    assert (land.metrics["accuracy"] - truth.metrics["accuracy"]).abs().max() <= 3 * sampled["metrics_error"][
        "accuracy"
    ]
    assert torch.equal(land.metrics["accuracy"][sampled["true"]], truth.metrics["accuracy"][sampled["true"]])
    torch.testing.assert_close(land.errors["loss"], truth.errors["loss"], rtol=1e-2, atol=0)


def test_an_objective_as_a_metric_is_evaluated_on_the_same_chart(tmp_path):
    objective, chart, _ = problem(metrics={})
    test, _, _ = problem(metrics={"accuracy": METRICS["accuracy"]}, samples=20)
    both = objective._replace(metrics={"test": test})
    land = evaluate(both, chart, grid(3), store=tmp_path)
    alone = evaluate(test, chart, grid(3))
    assert torch.equal(land.losses, evaluate(objective, chart, grid(3)).losses)
    torch.testing.assert_close(land.metrics["test"], alone.losses)
    torch.testing.assert_close(land.errors["test"], alone.errors["loss"])
    torch.testing.assert_close(land.metrics["test.accuracy"], alone.metrics["accuracy"])
    torch.testing.assert_close(values(both, chart.origin).metrics["test"], alone.losses[4])


def test_an_accumulator_sees_all_batches_of_a_point_and_starts_anew_at_the_next():
    class Median:
        def __init__(self):
            self.seen = None

        def reset(self):
            self.seen = []

        def update(self, outputs, batch):
            self.seen.append(outputs)

        def compute(self):
            return torch.cat(self.seen).median(0).values

    objective, chart, _ = problem(metrics={"median": Median(), "accuracy": METRICS["accuracy"]}, batches=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        land = evaluate(objective, chart, grid(5))
    assert land.diagnostics["engine"] == "loop"
    x = torch.cat([batch[0] for batch in objective.batches])
    thetas = chart.origin + grid(5) @ chart.basis
    truth = torch.stack([(x @ t.view(FEATURES, CLASSES)).tanh().median(0).values for t in thetas])
    torch.testing.assert_close(land.metrics["median"], truth)
    assert "median" not in land.errors


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"a": 3}, r"metrics\['a'\] is of type int"),
        ({"a": lambda outputs, batch: "high"}, "metric 'a' gives str"),
        ({"a": lambda outputs, batch: outputs[None, None]}, r"metric 'a' gives shape \[1, 1"),
        ({"a": lambda outputs, batch: torch.view_as_complex(outputs.view(-1, 2, 2))}, "complex"),
        ({"loss": lambda outputs, batch: outputs.sum()}, "names are texts other than 'loss'"),
        ({3: lambda outputs, batch: outputs.sum()}, "names are texts"),
        ({"a": lambda outputs, batch: PerSample(outputs, outputs[:, :2])}, "one weight for each value"),
    ],
)
def test_a_metric_that_is_none_is_named(metrics, message):
    objective, chart, _ = problem(metrics=metrics)
    with pytest.raises((TypeError, ValueError), match=message):
        evaluate(objective, chart, grid(2))


def test_errors_that_nobody_knows_are_refused_with_the_way_out():
    objective, chart, _ = problem(metrics={})
    with pytest.raises(ValueError, match=r"errors=True needs the losses of single samples.*per_sample="):
        evaluate(objective._replace(per_sample=None), chart, grid(2), errors=True)
    with pytest.raises(ValueError, match=r"metrics \['a'\] are read off the model's outputs"):
        evaluate(objective._replace(outputs=None, metrics={"a": METRICS["accuracy"]}), chart, grid(2))
    with pytest.raises(ValueError, match="per_sample gives"):
        evaluate(
            objective._replace(per_sample=lambda outputs, batch: outputs.mean()), chart, grid(2), errors=True
        )


def test_losses_that_are_not_finite_are_recorded_with_their_metrics():
    objective, _, _ = problem()
    chart = charts.line(objective.theta, torch.full_like(objective.theta, torch.finfo(torch.float64).max))
    land = evaluate(objective, chart, torch.tensor([[0.0], [10.0]]))
    assert land.losses.isfinite().tolist() == [True, False]
    assert land.errors["loss"].isfinite().tolist() == [True, False]
