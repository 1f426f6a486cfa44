"""The hoisted engine gives the loop's losses for every model, or says why it cannot."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from bridges.metrics import Loss
from lla_func import chart
from lla_func.graph._loss import record_loss
from lla_func.graph._record import RecordingError
from lla_func.landscape._evaluate import evaluate
from lla_func.landscape._evaluator import EngineFallbackWarning
from lla_func.landscape.engines import _compiled as compiled
from lla_func.landscape.engines import _hoisted as hoisted
from lla_func.landscape.engines import _loop as loop
from lla_func.landscape.engines import _workers as workers
from lla_func.landscape.engines._combine import Combination, combine_block, stacked
from lla_func.landscape.engines._verify import DisagreementError, agreement, verify
from lla_func.objective._objective import Objective, from_loss, risk
from tests import cases

COORDS = chart.mesh(torch.linspace(-1, 1, 4), torch.linspace(-0.5, 0.7, 3))


def plane_of(objective: Objective, *, count: int = 2, scale: float = 0.3) -> chart.Chart:
    generator = torch.Generator().manual_seed(1)
    basis = torch.randn(count, len(objective.theta), generator=generator, dtype=torch.float64)
    return chart.span(objective.theta, *(scale * basis).to(objective.theta))


def both(objective: Objective, plane: chart.Chart, coords: torch.Tensor = COORDS, **options):
    coefficients = chart_coefficients(plane, coords)
    with torch.no_grad():
        run, _ = hoisted.prepare(objective, plane, **options)
        return run(coefficients), loop.prepare(objective, plane)[0](coefficients)


def chart_coefficients(plane: chart.Chart, coords: torch.Tensor) -> torch.Tensor:
    return plane.coefficients(coords).to(plane.basis)


def assert_equal_to_rounding(objective: Objective, plane: chart.Chart, coords=COORDS, **options) -> None:
    actual, expected = both(objective, plane, coords, **options)
    rtol = 1e-12 if objective.theta.dtype == torch.float64 else 1e-5
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=rtol * 1e-2)


@cases.every_case(dtypes=cases.DTYPES)
def test_losses_equal_the_loop_to_rounding(name, dtype):
    objective = cases.objective(name, dtype)
    assert_equal_to_rounding(objective, plane_of(objective))


@cases.every_case()
def test_tiles_and_blocks_change_rounding_only(name, dtype):
    objective = cases.objective(name, dtype)
    assert_equal_to_rounding(objective, plane_of(objective), samples_per_tile=3)
    assert_equal_to_rounding(objective, plane_of(objective), points_per_pass=5)


@pytest.mark.parametrize("policy", ["eval", "batch"])
def test_batchnorm_by_running_and_by_batch_statistics(policy):
    objective = cases.objective("resnet", batchnorm=policy)
    assert_equal_to_rounding(objective, plane_of(objective))


@pytest.mark.parametrize("count", [1, 3])
def test_lines_and_volumes(count):
    objective = cases.objective("cnn")
    coords = torch.randn(7, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_equal_to_rounding(objective, plane_of(objective, count=count), coords)


def test_two_calls_give_the_same_bits():
    objective = cases.objective("cnn", torch.float32)
    first, second = (evaluate(objective, plane_of(objective), COORDS, engine="hoisted") for _ in range(2))
    assert torch.equal(first.losses, second.losses)
    assert first.diagnostics["engine"] == "hoisted"


def test_batches_of_unequal_size_and_sums_are_weighted_like_the_loop():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(17, 4, generator=generator, dtype=torch.float64)
    theta = torch.randn(4, generator=generator, dtype=torch.float64)
    for reduction in ("mean", "sum"):

        def loss(t, b, reduction=reduction):
            return getattr(torch.tanh(b @ t).square(), reduction)()

        objective = from_loss(loss, theta, [x[:5], x[5:]], separable=True, reduction=reduction)
        for tile in (None, 2, 5):
            assert_equal_to_rounding(objective, plane_of(objective), samples_per_tile=tile)


ACTIVATIONS = {"relu": nn.ReLU, "inplace": lambda: nn.ReLU(inplace=True), "tanh": nn.Tanh, "gelu": nn.GELU}


@st.composite
def networks(draw):
    """A random network of convolutions, norms, activations, poolings and linear layers on 2 x 12 x 12 images."""
    layers: list[nn.Module] = []
    channels, size = 2, 12
    for _ in range(draw(st.integers(0, 2))):
        width = draw(st.sampled_from([3, 4]))
        padding = draw(st.integers(0, 1))
        layers.append(nn.Conv2d(channels, width, 3, padding=padding, bias=draw(st.booleans())))
        channels, size = width, size - 2 + 2 * padding
        norm = draw(st.sampled_from(["none", "batch", "group"]))
        if norm == "batch":
            layers.append(nn.BatchNorm2d(width))
        elif norm == "group":
            layers.append(nn.GroupNorm(1, width))
        layers.append(ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))]())
        kernel, stride, pad = draw(st.sampled_from([(1, 1, 0), (2, 2, 0), (3, 2, 1), (3, 3, 0)]))
        if kernel > 1 and size > 4:
            pool = draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))
            layers.append(pool(kernel, stride, padding=pad))
            size = (size + 2 * pad - kernel) // stride + 1
    layers.append(nn.Flatten())
    width = channels * size * size
    for _ in range(draw(st.integers(0, 2))):
        layers += [nn.Linear(width, 5), ACTIVATIONS[draw(st.sampled_from(sorted(ACTIVATIONS)))]()]
        width = 5
    layers.append(nn.Linear(width, 3))
    return nn.Sequential(*layers)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(networks(), st.integers(1, 9))
def test_random_networks_equal_the_loop_to_rounding(network, batch):
    generator = torch.Generator().manual_seed(batch)
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(0.5 * torch.randn(tensor.shape, generator=generator)).abs_().add_(0.1)
    x = torch.randn(batch, 2, 12, 12, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (batch,), generator=generator)
    objective = Loss(nn.CrossEntropyLoss(), x, y).objective(network.double())
    assert_equal_to_rounding(objective, plane_of(objective, scale=0.1))


def random_numbers(theta, batch):
    return (theta * torch.rand(theta.shape)).sum()


def branching(theta, batch):
    return theta.sum() if float(theta[0]) > 0 else theta.square().sum()


def leaving_torch(theta, batch):
    return (theta * torch.from_numpy(2 * theta.detach().numpy())).sum()


def listing(theta, batch):
    return (theta * torch.tensor(theta.tolist())).sum()


def writing(theta, batch, memory=torch.zeros(3, dtype=torch.float64)):  # noqa: B008
    memory.add_(1)
    return (theta * memory).sum()


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (random_numbers, "it draws random numbers"),
        (branching, "it branches on values"),
        (leaving_torch, r"it reads values out with numpy\(\)"),
        (listing, r"it reads values out with tolist\(\)"),
        (writing, "it writes to a tensor that outlives it"),
    ],
)
def test_what_a_recording_would_repeat_wrongly_is_refused(loss, why):
    theta = torch.ones(3, dtype=torch.float64)
    with pytest.raises(RecordingError, match=why):
        record_loss(loss, theta, ())


def test_values_that_depend_on_nothing_may_leave_torch():
    table = torch.arange(3.0, dtype=torch.float64)
    recording = record_loss(
        lambda theta, batch: (theta * float(table.numpy().sum())).sum(), torch.ones(3), ()
    )
    assert recording(torch.ones(3)) == 9


def test_writes_within_an_operation_are_made_functional():
    """Circular padding writes the parts of its result in place, where functionalization does not see it at first."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), nn.Tanh(), nn.Flatten())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, 5, 5, generator=generator, dtype=torch.float64)
    objective = Loss(nn.MSELoss(), x, torch.zeros(2, 75, dtype=torch.float64)).objective(model.double())
    assert_equal_to_rounding(objective, plane_of(objective, scale=0.1))


def test_seeded_dropout_and_recalibration_go_to_the_loop_and_say_so():
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 2))
    x, y = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 2
    metric = Loss(nn.CrossEntropyLoss(), x, y)
    for options in ({"dropout_seed": 1}, {"batchnorm": "recalibrate"}):
        objective = metric.objective(model, **options)
        with pytest.warns(EngineFallbackWarning, match="hoisted.*cannot evaluate"):
            landscape = evaluate(objective, plane_of(objective), COORDS, engine="hoisted")
        assert landscape.diagnostics["engine"] == "loop"
        assert torch.equal(
            landscape.losses, evaluate(objective, plane_of(objective), COORDS, engine="loop").losses
        )


def test_a_recording_that_baked_in_a_number_is_caught_by_the_check():
    state = {"factor": 1.0}

    def drifting(theta, batch):
        state["factor"] += 1.0
        return state["factor"] * theta.square().sum()

    objective = from_loss(drifting, torch.ones(2, dtype=torch.float64))
    with pytest.warns(EngineFallbackWarning, match="DisagreementError: it gives .* where the loop gives"):
        landscape = evaluate(objective, plane_of(objective), COORDS, engine="hoisted")
    assert landscape.diagnostics["engine"] == "loop"


def test_the_check_accepts_rounding_and_equal_holes_only():
    objective = from_loss(lambda theta, batch: theta.log().sum(), torch.ones(1))
    line = chart.line(objective.theta, torch.ones(1))
    rows = torch.tensor([[-2.0], [1.0], [3.0]])
    losses = torch.tensor([torch.nan, 2.0, 4.0], dtype=torch.float64).log()
    assert verify(objective, line, rows, losses * (1 + 1e-6))["difference"] < 1e-5
    verify(objective, line, rows[:1], losses[:1])
    with pytest.raises(DisagreementError):
        verify(objective, line, rows, losses * (1 + 1e-3))


@pytest.mark.parametrize("size", [1e-30, 1e-9, 1.0, 1e30])
def test_the_check_is_as_strict_with_losses_of_any_size(size):
    expected = size * torch.tensor([3.0, 2.0, torch.inf, torch.nan], dtype=torch.float64)
    assert agreement(expected * (1 + 1e-6), expected, torch.float32)["difference"] == pytest.approx(
        1e-6, rel=1e-3
    )
    with pytest.raises(DisagreementError):
        agreement(expected * (1 + 1e-3), expected, torch.float32)
    agreement(0 * expected, 0 * expected, torch.float32)


def test_the_check_leaves_a_small_loss_the_rounding_of_a_large_one():
    expected = torch.tensor([10.0, 1e-7], dtype=torch.float64)
    agreement(expected + torch.tensor([0.0, 1e-7]), expected, torch.float32)
    with pytest.raises(DisagreementError):
        agreement(expected + torch.tensor([0.0, 1e-3]), expected, torch.float32)


def test_losses_that_are_not_finite_stay_so():
    objective = from_loss(lambda theta, batch: theta.log().sum(), torch.ones(1, dtype=torch.float64))
    line = chart.line(objective.theta, torch.ones(1, dtype=torch.float64))
    losses = evaluate(objective, line, torch.tensor([[-2.0], [-1.0], [0.0]]), engine="hoisted").losses
    assert losses[0].isnan()
    assert losses[1] == -torch.inf
    assert losses[2] == 0


def test_a_combination_does_not_depend_on_the_points_before():
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(5, generator=generator) for _ in range(3)]
    rows = torch.randn(9, 2, generator=generator).tolist() + [[1.0, 2.0], [1.0, 3.0], [2.0, 3.0], [1.0, 3.0]]
    keeping, fresh = Combination(values), Combination(values, keep=False)
    for row in rows:
        assert torch.equal(keeping.at(row), fresh.at(row))
        torch.testing.assert_close(
            combine_block(stacked(values), torch.tensor([row]), (5,))[0], fresh.at(row)
        )


def test_theta_is_formed_in_storage_allocated_once():
    combination = Combination([torch.zeros(4), torch.ones(4)])
    assert combination.at([1.0]).data_ptr() == combination.at([2.0]).data_ptr()


def test_gathered_points_equal_those_of_several_workers(monkeypatch):
    objective = cases.objective("cnn", torch.float32)
    plane = plane_of(objective)
    one = both(objective, plane)[0]
    monkeypatch.setattr(workers, "count", lambda device: 3)
    assert torch.equal(both(objective, plane)[0], one)
    torch.testing.assert_close(both(objective, plane, samples_per_tile=1)[0], one, rtol=1e-5, atol=0)


def test_functional_embeddings_and_masks_hoist():
    tokens = torch.randint(7, (6, 5), generator=torch.Generator().manual_seed(0))

    def loss(parameters, batch):
        h = functional.embedding(batch, parameters["table"])
        h = h.masked_fill(batch.unsqueeze(-1) == 0, 0.0).mean(1)
        return torch.cat([h, torch.ones_like(h[:, :1])], 1).mul(2.0).tanh().sum()

    table = torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    objective = from_loss(loss, {"table": table}, [tokens], separable=True, reduction="sum")
    assert_equal_to_rounding(objective, plane_of(objective))


def test_without_a_compiler_the_compiled_engine_is_the_hoisted_one(monkeypatch):
    objective = cases.objective("mlp", torch.float32)
    plane = plane_of(objective)
    monkeypatch.setattr(compiled, "compiler", lambda: None)
    run, plan = compiled.prepare(objective, plane)
    with torch.no_grad():
        assert torch.equal(run(chart_coefficients(plane, COORDS)), both(objective, plane)[0])
    assert plan.engine == "hoisted"


@pytest.mark.skipif(compiled.compiler() is None, reason="there is no C++ compiler")
def test_compiled_losses_equal_the_loop_to_rounding(monkeypatch):
    objective = cases.objective("mlp", torch.float32)
    plane = plane_of(objective)
    monkeypatch.setattr(workers, "count", lambda device: 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        landscape = evaluate(objective, plane, COORDS, engine="compiled")
    expected = evaluate(objective, plane, COORDS, engine="loop").losses
    assert landscape.diagnostics["engine"] == "compiled"
    torch.testing.assert_close(landscape.losses, expected, rtol=1e-5, atol=1e-7)


def test_a_combination_returns_to_a_point_after_others():
    generator = torch.Generator().manual_seed(0)
    values = [torch.randn(5, generator=generator) for _ in range(3)]
    combination = Combination(values)
    for row in ([1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [1.0, 5.0], [3.0, 2.0], [1.0, 2.0]):
        expected = values[0] + row[0] * values[1] + row[1] * values[2]
        torch.testing.assert_close(combination.at(row), expected)


@pytest.mark.parametrize("wrong", [0, 2])
def test_losses_that_are_wrong_at_the_first_or_the_middle_point_are_not_trusted(wrong):
    objective = from_loss(lambda theta, batch: theta.square().sum(), torch.ones(1))
    line = chart.line(objective.theta, torch.ones(1))
    rows = torch.arange(5.0)[:, None]
    losses = (1 + rows[:, 0].double()).square()
    verify(objective, line, rows, losses)
    losses[wrong] *= 1.01
    with pytest.raises(DisagreementError):
        verify(objective, line, rows, losses)


@pytest.mark.parametrize("engine", ["vmap", "loop", "auto"])
def test_seeded_dropout_has_the_same_masks_at_all_points_of_a_surface(engine):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 3)).double()
        metric = Loss(nn.CrossEntropyLoss(), torch.randn(8, 4).double(), torch.arange(8) % 3)
    objective = metric.objective(model, dropout_seed=3)
    plane = chart.line(objective.theta, torch.zeros_like(objective.theta))
    landscape = evaluate(objective, plane, torch.linspace(-1, 1, 6)[:, None], engine=engine)
    assert landscape.losses.tolist() == pytest.approx([float(risk(objective))] * 6, rel=1e-12)


def test_a_loss_that_torch_would_batch_point_by_point_is_refused_by_the_vmap_engine():
    labels = torch.tensor([0, 2, 1])
    objective = from_loss(
        lambda theta, x: functional.multi_margin_loss(x * theta, labels), torch.ones(3), [torch.eye(3)]
    )
    plane = chart.line(objective.theta, torch.ones(3))
    with pytest.warns(EngineFallbackWarning, match="batching rule"):
        landscape = evaluate(objective, plane, torch.linspace(-1, 1, 6)[:, None], engine="vmap")
    assert landscape.diagnostics["engine"] == "loop"
