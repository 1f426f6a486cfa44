"""Claims about where calls are made: under what settings of torch, in what thread, and with compiled models."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from bridges.metrics import Loss
from lla_func import viz_esd, viz_lla
from lla_func.geometry._chart import line
from lla_func.landscape._evaluate import evaluate
from lla_func.objective._objective import from_loss
from tests.cases import build
from tests.engines import QUICK
from tests.state import unchanged


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


SURROUNDINGS = {
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "float64 by default": default_dtype,
    "deterministic algorithms": deterministic,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


def numbers(model: nn.Module, metric: Loss) -> list[torch.Tensor]:
    found = [
        viz_lla(model, metric, steps=3, to_save=False, seed=0, engine=engine).landscapes[0].losses
        for engine in QUICK
    ]
    spectrum = viz_esd(model, metric, esd_n_iter=4, to_save=False, seed=0)
    return [*found, spectrum.nodes]


def same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SURROUNDINGS)
def test_numbers_are_the_same_in_all_surroundings(name):
    case = build("mlp", torch.float32)
    expected = numbers(case.model, case.metric)
    with unchanged(case.model), SURROUNDINGS[name]():
        found = numbers(case.model, case.metric)
    same(found, expected)


def test_numbers_are_the_same_in_a_thread():
    case, found = build("mlp", torch.float32), []
    thread = threading.Thread(target=lambda: found.extend(numbers(case.model, case.metric)))
    thread.start()
    thread.join()
    same(found, numbers(case.model, case.metric))


def test_models_and_data_made_in_inference_mode_have_derivatives():
    case = build("mlp", torch.float32)
    expected = numbers(case.model, case.metric)
    with torch.inference_mode():
        case = build("mlp", torch.float32)
    same(numbers(case.model, Loss(case.criterion, case.inputs, case.targets)), expected)


def test_a_default_device_without_values_is_named():
    case = build("mlp")
    with torch.device("meta"), pytest.raises(ValueError, match="default device is 'meta'"):
        case.metric.objective(case.model)


def test_a_pure_loss_is_computed_without_autocast():
    x = torch.linspace(0.1, 1, 64).reshape(8, 8)
    objective = from_loss(lambda theta, _: (x * theta @ x).sum(), torch.linspace(1, 2, 8))
    chart = line(objective.theta, torch.ones(8))
    coords = torch.tensor([[0.0], [0.1]])
    expected = evaluate(objective, chart, coords, engine="loop").losses
    with torch.autocast("cpu"):
        assert torch.equal(evaluate(objective, chart, coords, engine="loop").losses, expected)


def test_the_loss_of_a_model_is_computed_without_autocast():
    case = build("mlp", torch.float32)
    objective = case.metric.objective(case.model)
    expected = objective.loss(objective.theta, objective.batches[0])
    with torch.autocast("cpu"):
        assert torch.equal(objective.loss(objective.theta, objective.batches[0]), expected)


def test_a_loss_may_switch_autocast_on_inside():
    case = build("mlp", torch.float32)

    def criterion(prediction, targets):
        with torch.autocast("cpu"):
            assert (torch.ones(1, 1) @ torch.ones(1, 1)).dtype == torch.bfloat16
        return nn.functional.cross_entropy(prediction, targets)

    Loss(criterion, case.inputs, case.targets).objective(case.model)


def compiled_part() -> nn.Module:
    model = build("mlp", torch.float32).model
    return nn.Sequential(torch.compile(model[0], backend="eager"), *model[1:])


def compiled_in_place() -> nn.Module:
    model = build("mlp", torch.float32).model
    model.compile(backend="eager")
    return model


class Function(nn.Module):
    """Calls a compiled function in its forward pass."""

    def __init__(self):
        super().__init__()
        self.inner = build("mlp", torch.float32).model
        self.function = torch.compile(self.inner, backend="eager").__call__

    def forward(self, x):
        return self.function(x)


@pytest.mark.slow  # loads torch's compiler
@pytest.mark.parametrize("make", [compiled_part, compiled_in_place, Function])
def test_compiled_models_have_the_numbers_of_their_source(make):
    case = build("mlp", torch.float32)
    model = make()
    with unchanged(model):
        found = numbers(model, case.metric)
    same(found, numbers(case.model, case.metric))
    model(case.inputs)  # compiled still
    assert torch._dynamo.eval_frame._stance.stance == "default"


WORKERS = """
import multiprocessing, sys, torch
from torch import nn
from bridges.metrics import Loss
from lla_func import viz_esd, viz_lla

def work(threads):
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, metric = nn.Linear(3, 2), Loss(nn.CrossEntropyLoss(), torch.ones(4, 3), torch.arange(4) % 2)
    try:
        found = viz_lla(model, metric, steps=3, num_plots=1, to_save=False, seed=0).landscapes[0].losses
        return found.tolist(), viz_esd(model, metric, eigs=True, esd=False, to_save=False, seed=0)[0].tolist()
    except RuntimeError as error:
        return str(error)

if __name__ == "__main__":
    torch.set_num_threads(2)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spawned = pool.apply(work, (1,))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        refused, forked = pool.apply(work, (None,)), pool.apply(work, (1,))
    assert spawned == forked == work(1), (spawned, forked)
    assert "set_num_threads(1)" in refused and "spawn" in refused, refused
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="nothing is forked there")
def test_workers_compute_what_their_parent_does_and_forked_ones_say_what_would_hang(tmp_path):
    (tmp_path / "workers.py").write_text(WORKERS)
    subprocess.run([sys.executable, tmp_path / "workers.py"], check=True, timeout=120)
