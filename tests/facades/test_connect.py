"""Claims about connect: curves through valleys that are known, BatchNorm, what is kept, and what is refused."""

from __future__ import annotations

import copy
import json
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn

from bridges import metrics, trajectories
from lla_func import Curve, connect, from_loss, load, risk, viz_path
from lla_func.connectivity import DamagedStateWarning
from lla_func.files import load_arrays, save_arrays
from tests.cases import build
from tests.state import unchanged

SGD = partial(torch.optim.SGD, momentum=0.9)


def place(*xs):
    return torch.tensor(xs, dtype=torch.float64)


def well(theta, _=None):
    """Minima at (-1, 0) and (1, 0); the only way between them is over (0, 0), as high as 1."""
    return (theta[0] ** 2 - 1) ** 2 + 3 * theta[1] ** 2


def ring(theta, _=None):
    return (theta.norm() - 1) ** 2


WELL, RING = from_loss(well, place(1, 0)), from_loss(ring, place(1, 0))
A, B = place(1, 0.2), place(-1, 0.2)


@pytest.mark.parametrize("kind", ["bezier", "chain", "band"])
def test_no_curve_goes_below_the_pass_of_a_double_well_nor_stays_above_it(kind):
    found = connect(place(-1, 0), place(1, 0), WELL, kind=kind, bends=3, epochs=100)
    assert found.straight_barrier.value == pytest.approx(1, abs=1e-9)
    assert found.barrier.value == pytest.approx(1, abs=1e-3)


def test_a_bezier_curve_in_a_ring_is_the_best_one():
    t = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]

    def mean(middle):
        inner = torch.as_tensor(middle)
        points = (1 - t) ** 2 * A + 2 * t * (1 - t) * inner + t**2 * B
        return float((points.norm(dim=1) - 1).square().mean())

    best = minimize(mean, [0.0, 1.0]).x
    found = connect(A, B, RING, epochs=1500, lr=0.02)
    torch.testing.assert_close(found.points[1], torch.as_tensor(best), atol=0.02, rtol=0)
    middle = (A + B) / 2
    chord = float(ring(A) + ring(B)) / 2
    assert found.straight_barrier.value == pytest.approx(float(ring(middle)) - chord, rel=1e-6)
    assert found.barrier.value < 0.05 * found.straight_barrier.value


@pytest.mark.parametrize("kind", ["chain", "band"])
def test_pivots_go_around_a_ring(kind):
    found = connect(A, B, RING, kind=kind, bends=9, epochs=300, lr=0.02)
    assert found.barrier.value < 0.05 * found.straight_barrier.value
    radii = found.points.norm(dim=1)
    assert float((radii - 1).abs().max()) < 0.2


def test_the_ends_are_the_models_bit_for_bit_and_stay_as_they_are():
    case, other = build("resnet"), build("resnet")
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(0.1)
    with unchanged(case.model), unchanged(other.model):
        found = connect(case.model, other.model, case.metric, epochs=2, steps=3)
    for t, model in ((0, case.model), (1.0, other.model)):
        flat = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
        assert torch.equal(found.theta(t), flat)
    assert found.settings["notes"] == {"batchnorm": "recalibrate", "dropout": "off"}
    assert found.history.shape == (2,)


def test_batchnorm_takes_statistics_of_batches_while_fitting_and_of_all_data_in_barriers():
    case, other = build("resnet"), build("resnet")
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.mul_(1.5)
        for buffer in other.model.buffers():
            buffer.zero_()  # of no use, and not used
    found = connect(case.model, other.model, case.metric, epochs=1, steps=3, batch_size=5)
    whole = connect(case.model, other.model, case.metric, epochs=1, steps=3)  # one step on all of the data
    t = float(torch.rand(1, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    theta = (1 - t) * found.points[0] + t * found.points[-1]  # where the fit begins, the curve is straight
    batch = case.metric.objective(case.model, batchnorm="batch").loss(theta, next(iter(case.metric.batches)))
    assert float(whole.history[0]) == pytest.approx(float(batch), rel=1e-9)
    recalibrated = case.metric.objective(case.model, batchnorm="recalibrate")
    ends = [
        recalibrated.adapt(theta)(theta, next(iter(recalibrated.batches))) for theta in found.points[[0, -1]]
    ]
    middle = found.points[[0, -1]].mean(0)
    height = recalibrated.adapt(middle)(middle, next(iter(recalibrated.batches))) - sum(ends) / 2
    assert found.straight_barrier.value >= float(height) - 1e-9


def test_fitting_lowers_the_barrier_between_two_networks():
    case, other = build("cnn"), build("cnn")
    generator = torch.Generator().manual_seed(0)
    for model, seed in ((case.model, 0), (other.model, 1)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for layer in model:
                if hasattr(layer, "reset_parameters"):
                    layer.reset_parameters()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(150):
            optimizer.zero_grad()
            case.metric(None, model=model, use_wrapper=False, return_pred=True)[0].backward()
            optimizer.step()
    del generator
    found = connect(case.model, other.model, case.metric, epochs=150)
    assert found.straight_barrier.value > 0.1
    assert found.barrier.value < 0.2 * found.straight_barrier.value


def test_models_in_bfloat16_are_fitted_as_copies_in_more_precision():
    case, other = build("mlp", torch.bfloat16), build("mlp", torch.bfloat16)
    with torch.no_grad():
        other.model[0].weight.mul_(-1)
        other.model[2].weight.mul_(-1)
    with unchanged(case.model), unchanged(other.model):
        found = connect(case.model, other.model, case.metric, epochs=5, steps=3, dtype=torch.float32)
    assert found.points.dtype == torch.float32
    assert torch.equal(
        found.theta(0).to(torch.bfloat16),
        torch.cat([p.detach().reshape(-1) for p in case.model.parameters()]),
    )


@pytest.mark.parametrize("scale", [1e-9, 1e8])
def test_losses_of_any_size_can_be_fitted(scale):
    asked = from_loss(lambda theta, _: scale * ring(theta), place(1, 0))
    found = connect(A, B, asked, epochs=300)
    assert found.barrier.value < 0.1 * found.straight_barrier.value


def test_a_curve_is_drawn_with_the_models_that_it_connects():
    case, other = build("resnet"), build("resnet")
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(0.1)
    curve = connect(case.model, other.model, case.metric, epochs=2, steps=11)
    with unchanged(case.model):
        result = viz_path(curve, case.metric, steps=11, to_save=False)
        over = viz_path(curve, case.metric, kind="plane", steps=3, to_save=False)
    assert result.barrier.value == pytest.approx(curve.barrier.value, rel=1e-3, abs=1e-9)
    assert len(over.landscape.losses) == 9


def test_a_barrier_has_its_error_over_paired_samples():
    case = build("mlp")
    with torch.no_grad():
        case.model[2].weight.mul_(20)
        case = case._replace(targets=case.model(case.inputs).argmax(1))
    other = copy.deepcopy(case.model)  # the same function with its units in another order
    with torch.no_grad():
        for tensor, axis in ((other[0].weight, 0), (other[0].bias, 0), (other[2].weight, 1)):
            tensor.copy_(tensor.roll(3, axis))
    found = connect(case.model, other, case.metric, epochs=1).straight_barrier
    a, b = (case.metric.objective(model).theta for model in (case.model, other))
    places = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    losses = torch.stack([_losses(case, (1 - t) * a + t * b) for t in places[:, 0]])  # [N, samples]
    heights = losses - ((1 - places) * losses[0] + places * losses[-1])
    row = heights[int(heights.mean(1).argmax())]
    assert found.value == pytest.approx(float(row.mean()), rel=1e-4)
    assert found.data_error == pytest.approx(float(row.std()) / len(row) ** 0.5, rel=1e-2)


def _losses(case, theta):
    layout = case.metric.objective(case.model).layout
    outputs = torch.func.functional_call(case.model, layout.unravel(theta), (case.inputs,))
    return nn.functional.cross_entropy(outputs, case.targets, reduction="none").detach()


def test_a_point_of_a_curve_becomes_a_state_dict_with_statistics_of_the_data():
    case, other = build("resnet"), build("resnet")
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(0.1)
    curve = connect(case.model, other.model, case.metric, epochs=1, steps=3)
    state = trajectories.state_dict(curve, 0.5, like=case.model, metric=case.metric)
    middle = copy.deepcopy(case.model)
    middle.load_state_dict(state)
    recalibrated = case.metric.objective(case.model, batchnorm="recalibrate")
    expected = risk(recalibrated, curve.theta(0.5))
    assert case.metric(middle.eval()) == pytest.approx(float(expected), rel=1e-6)


def test_a_curve_of_the_first_format_is_still_read():
    found = Curve.load(Path(__file__).parents[1] / "data" / "curve_v1.npz")
    assert torch.equal(found.theta(0), A)
    assert torch.equal(found.theta(1), B)
    assert (found.kind, found.points.shape, found.history.shape) == ("bezier", (3, 2), (5,))
    assert found.straight_barrier.value > found.barrier.value > 0


def test_the_same_seed_gives_the_same_bits_and_another_one_another_curve():
    first, again = (connect(A, B, RING, epochs=30, seed=3) for _ in range(2))
    assert torch.equal(first.points, again.points)
    assert not torch.equal(first.points, connect(A, B, RING, epochs=30, seed=4).points)


def test_the_plane_through_the_bend_holds_the_curve():
    found = connect(A, B, RING, epochs=50)
    plane = found.plane(steps=5)
    assert plane.path.shape == (5, 2)
    assert float(plane.distances.max()) < 1e-12
    torch.testing.assert_close(plane.path[[0, -1]], torch.tensor([[0.0, 0.0], [1.0, 0.0]]).double())


def test_points_are_given_for_a_number_and_for_several():
    found = connect(A, B, RING, epochs=5)
    assert found.theta(0.3).shape == (2,)
    assert torch.equal(found.theta([0.3, 1.0])[0], found.theta(0.3))
    for wrong in (-0.1, 1.1, [[0.0]], math.nan, "half"):
        with pytest.raises((ValueError, TypeError), match="t"):
            found.theta(wrong)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_saved_curve_is_read_again(tmp_path, dtype):
    found = connect(A, B, RING, epochs=5)
    found = Curve(
        found.points.to(dtype),
        "bezier",
        *(getattr(found, n) for n in ("barrier", "straight_barrier", "history")),
    )
    again = Curve.load(found.save(tmp_path / "curve.npz"))
    assert again.points.dtype == dtype
    assert torch.equal(again.points, found.points)
    assert torch.equal(again.history, found.history)
    assert (again.kind, again.barrier.value) == (found.kind, found.barrier.value)
    assert repr(again) == repr(found)


def test_files_that_hold_no_curve_are_refused(tmp_path):
    path = connect(A, B, RING, epochs=5).save(tmp_path / "curve.npz")
    assert torch.equal(load(path).points, Curve.load(path).points)
    arrays = load_arrays(path)
    head = json.loads(str(arrays["head"])) | {"version": 99}
    save_arrays(tmp_path / "other.npz", a=1)
    save_arrays(tmp_path / "future.npz", **arrays | {"head": np.array(json.dumps(head))})
    save_arrays(tmp_path / "torn.npz", **{k: v for k, v in arrays.items() if k != "points"})
    for name, says in (("other", "holds no curve"), ("future", "version 99"), ("torn", "damaged")):
        with pytest.raises(ValueError, match=f"{name}.npz.*{says}"):
            Curve.load(tmp_path / f"{name}.npz")


# ---- interruptions -------------------------------------------------------------------------------------------------


def stopping(calls, theta, batch):
    if calls.pop() == 0:
        raise KeyboardInterrupt
    return ring(theta) + 0 * batch.sum()


DATA = [torch.arange(float(n))[:, None] for n in (5, 3, 4)]


def with_data(loss=lambda theta, batch: ring(theta) * (1 + 0.1 * batch.mean())):
    return from_loss(loss, place(1, 0), DATA)


@pytest.mark.parametrize("stop", [1, 2, 7, 30])
@pytest.mark.parametrize("kind", ["bezier", "band"])
def test_a_fit_goes_on_after_ctrl_c_with_the_same_bits(tmp_path, stop, kind):
    options = {"kind": kind, "bends": 2, "epochs": 12, "batch_size": 2, "optimizer": SGD}
    whole = connect(A, B, with_data(), **options)
    calls = [0]

    def interrupted(theta, batch):
        calls[0] += 1
        if calls[0] == stop + 2:
            raise KeyboardInterrupt
        return ring(theta) * (1 + 0.1 * batch.mean())

    with pytest.raises(KeyboardInterrupt):
        connect(A, B, with_data(interrupted), store=tmp_path / "fit", **options)
    again = connect(A, B, with_data(), store=tmp_path / "fit", **options)
    assert torch.equal(again.points, whole.points)
    assert torch.equal(again.history, whole.history)
    finished = connect(A, B, with_data(), store=tmp_path / "fit", **options)
    assert torch.equal(finished.points, whole.points)
    assert finished.barrier.value == whole.barrier.value


def test_a_finished_store_computes_nothing(tmp_path):
    connect(A, B, with_data(), epochs=2, store=tmp_path)
    calls = []

    def counting(theta, batch):
        calls.append(1)
        return ring(theta) * (1 + 0.1 * batch.mean())

    connect(A, B, with_data(counting), epochs=2, store=tmp_path)
    assert len(calls) <= 1  # the one that tells whether it is the same fit


SCRIPT = """
    import sys, torch
    from lla_func import connect, from_loss
    def loss(theta, batch):
        with open(sys.argv[2], "ab", buffering=0) as log:
            log.write(b".")
        return (theta.norm() - 1) ** 2 * (1 + 0.1 * batch.mean())
    a, b = torch.tensor([[1, 0.2], [-1, 0.2]], dtype=torch.float64)
    data = [torch.arange(float(n))[:, None] for n in (5, 3, 4)]
    connect(a, b, from_loss(loss, a, data), epochs=4000, batch_size=2, store=sys.argv[1], steps=3)
"""


def test_sigkill_loses_at_most_the_step_in_work(tmp_path):
    script, log, folder = tmp_path / "fit.py", tmp_path / "log", tmp_path / "fit"
    script.write_text(textwrap.dedent(SCRIPT))
    process = subprocess.Popen([sys.executable, str(script), str(folder), str(log)], env=os.environ)
    try:
        deadline = time.monotonic() + 60
        while not (log.exists() and log.stat().st_size > 43):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    begun = log.stat().st_size - 1  # but for the loss that tells whether it is the same fit
    state = torch.load(folder / "state.pt", weights_only=True)
    assert begun - 1 <= state["step"] <= begun
    options = {"batch_size": 2, "steps": 3, "epochs": 4000}
    short = state["step"] + 5

    class Enough(Exception):  # noqa: N818
        pass

    def lossy(limit, theta, batch):
        limit[0] -= 1
        if limit[0] < 0:
            raise Enough
        return ring(theta) * (1 + 0.1 * batch.mean())

    with pytest.raises(Enough):
        connect(A, B, with_data(partial(lossy, [6])), store=folder, **options)
    with pytest.raises(Enough):
        connect(A, B, with_data(partial(lossy, [short + 1])), store=tmp_path / "unbroken", **options)
    one, other = (
        torch.load(path / "state.pt", weights_only=True) for path in (folder, tmp_path / "unbroken")
    )
    assert one["step"] == other["step"] == short
    assert torch.equal(one["points"], other["points"])


def test_a_damaged_state_is_reported_and_the_fit_begins_anew(tmp_path):
    whole = connect(A, B, RING, epochs=20, store=tmp_path)
    (tmp_path / "curve.npz").unlink()
    state = (tmp_path / "state.pt").read_bytes()
    (tmp_path / "state.pt").write_bytes(state[: len(state) // 2])
    with pytest.warns(DamagedStateWarning, match="state.pt.*begins anew"):
        again = connect(A, B, RING, epochs=20, store=tmp_path)
    assert torch.equal(again.points, whole.points)
    (tmp_path / "curve.npz").write_bytes(b"nothing")
    with pytest.warns(DamagedStateWarning, match="curve.npz.*made anew"):
        assert torch.equal(connect(A, B, RING, epochs=20, store=tmp_path).points, whole.points)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": 1}, r"seed \(0 there, 1 now\)"),
        ({"epochs": 21}, r"epochs \(20 there, 21 now\)"),
        ({"optimizer": torch.optim.SGD}, "optimizer"),
        ({"optimizer": partial(torch.optim.Adam, eps=1e-3)}, "optimizer"),
    ],
)
def test_a_store_of_another_fit_is_refused_and_what_differs_is_named(tmp_path, change, says):
    connect(A, B, RING, epochs=20, store=tmp_path)
    with pytest.raises(ValueError, match=f"holds another fit; what differs: {says}"):
        connect(A, B, RING, **{"epochs": 20, "store": tmp_path} | change)


def test_a_store_of_other_ends_or_another_loss_is_refused(tmp_path):
    connect(A, B, RING, epochs=5, store=tmp_path)
    with pytest.raises(ValueError, match="what differs: ends"):
        connect(A, 2 * B, RING, epochs=5, store=tmp_path)
    with pytest.raises(ValueError, match="what differs: the loss at the first end"):
        connect(A, B, from_loss(lambda theta, _: 2 * ring(theta), A), epochs=5, store=tmp_path)
    manifest = tmp_path / "connection.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 9}))
    with pytest.raises(ValueError, match="has format 9"):
        connect(A, B, RING, epochs=5, store=tmp_path)
    manifest.write_text("{")
    with pytest.raises(ValueError, match="is damaged"):
        connect(A, B, RING, epochs=5, store=tmp_path)
    manifest.unlink()
    with pytest.raises(ValueError, match="has a state but no connection.json"):
        connect(A, B, RING, epochs=5, store=tmp_path)


# ---- bad calls -----------------------------------------------------------------------------------------------------

X, Y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
METRIC = metrics.Loss(nn.CrossEntropyLoss(), X, Y)
MODEL, OTHER = nn.Linear(3, 3), nn.Linear(3, 3)
FROZEN = [nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(2)]
for frozen in FROZEN:
    frozen[1].requires_grad_(False)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: connect(A, A, RING), "the same weights"),
        (lambda: connect(MODEL, copy.deepcopy(MODEL), METRIC), "the same weights"),
        (lambda: connect(A, B[:1], RING), r"model_b has shape \[1\]; pass \[2\]"),
        (lambda: connect(A, B * math.nan, RING), "model_b has NaN"),
        (lambda: connect(A, [1.0, 2.0], RING), "model_b is of type list"),
        (lambda: connect(MODEL, OTHER, RING), "model_a is of type Linear; with an Objective"),
        (lambda: connect(A, B, METRIC), "model_a is a tensor; between vectors"),
        (lambda: connect(MODEL, OTHER, None), "metric"),
        (lambda: connect(MODEL, OTHER, nn.CrossEntropyLoss()), "criterion without data"),
        (lambda: connect(MODEL, nn.Linear(3, 4), METRIC), "another architecture"),
        (lambda: connect(MODEL, nn.Sequential(nn.Linear(3, 3)), METRIC), "another architecture"),
        (lambda: connect(*FROZEN, METRIC), "is frozen and differs|frozen, such as"),
        (lambda: connect(A, B, RING, kind="bezir"), "kind='bezir' is not one of .*did you mean 'bezier'"),
        (lambda: connect(A, B, RING, bends=0), "bends=0 is too small"),
        (lambda: connect(A, B, RING, epochs=1.5), "epochs=1.5 is not a whole number"),
        (lambda: connect(A, B, RING, lr=0), "lr=0 is not allowed"),
        (lambda: connect(A, B, RING, lr=math.nan), "lr=nan is not allowed"),
        (
            lambda: connect(A, B, RING, optimizer="adam"),
            "optimizer='adam' cannot be called; pass a class of torch.optim",
        ),
        (lambda: connect(A, B, RING, optimizer=lambda p: None), "cannot be called with the points and lr"),
        (lambda: connect(A, B, RING, optimizer=lambda p, lr: 1), "makes a int"),
        (lambda: connect(A, B, RING, batch_size=0), "batch_size=0 is too small"),
        (lambda: connect(A, B, RING, steps=2), "steps=2 is too small"),
        (lambda: connect(A, B, RING, seed=-1), "seed=-1 is too small"),
        (lambda: connect(A, B, RING, spring=2.0), "spring=2.0 is for kind='band'"),
        (lambda: connect(A, B, RING, climbing=True), "climbing=True is for kind='band'"),
        (lambda: connect(A, B, RING, climbing="no", kind="band"), "climbing='no' is neither True nor False"),
        (lambda: connect(A, B, RING, store=""), "store='' is empty"),
        (lambda: connect(A, B, RING, progress=1), "progress=1 is neither"),
        (lambda: connect(A, B, from_loss(lambda t, _: t.detach().sum(), A)), "the loss has no gradient"),
        (lambda: connect(A, B, from_loss(lambda t, _: (-t[0]).log(), -A)), "the loss at model_a is nan"),
        (
            lambda: connect(A, B, from_loss(lambda t, _: t.square().sum() ** 40, A), lr=1e3, optimizer=SGD),
            "smaller lr",
        ),
    ],
)
def test_bad_arguments_are_named(call, says):
    with pytest.raises((ValueError, TypeError), match=says):
        call()
