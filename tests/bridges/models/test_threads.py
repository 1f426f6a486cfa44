"""Claims about threads: two that study models at once get what each gets alone, and leave nothing behind."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch
from torch import nn

from bridges.metrics import Loss
from lla_func._torch._precision import full_precision
from lla_func._torch._switches import Switch, math_attention
from lla_func.hessian._products import hessian
from tests.cases import build
from tests.state import unchanged


def together(*runs):
    """What functions give, each called in a thread of its own, all at once."""
    found, start = [None] * len(runs), threading.Barrier(len(runs))

    def call(index, run):
        start.wait()
        try:
            found[index] = run()
        except BaseException as error:
            found[index] = error

    threads = [threading.Thread(target=call, args=pair) for pair in enumerate(runs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return found


def losses(objective, thetas):
    with torch.no_grad():
        return torch.stack([objective.loss(theta, objective.batches[0]) for theta in thetas])


@pytest.mark.parametrize("options", [{}, {"batchnorm": "batch"}, {"dropout_seed": 1}])
def test_two_threads_on_one_model_get_what_each_gets_alone(options):
    case = build("resnet")
    model = nn.Sequential(case.model, nn.Dropout(0.5)).double()
    objective = Loss(nn.CrossEntropyLoss(), case.inputs, case.targets).objective(model, **options)
    points = [objective.theta + 0.1 * i * torch.ones_like(objective.theta) for i in range(20)]
    runs = [partial(losses, objective, points), partial(losses, objective, points[::-1])]
    with unchanged(model):
        expected = [run() for run in runs]
        assert all(map(torch.equal, together(*runs), expected))


def test_two_threads_on_two_models_leave_the_switches_and_the_generators():
    cases = [build("transformer"), build("transformer")]
    objectives = [case.metric.objective(case.model, dropout_seed=3) for case in cases]
    vector = torch.ones_like(objectives[0].theta)

    def run(objective):
        operator = hessian(objective, kernel="vjp")
        return torch.stack([operator.matvec(vector) for _ in range(5)])

    with unchanged(cases[0].model), unchanged(cases[1].model):
        expected = [run(objective) for objective in objectives]
        found = together(*(partial(run, objective) for objective in objectives))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_a_switch_is_as_needed_until_the_last_that_needs_it_ends():
    level = [0]
    switch = Switch(lambda: level[0], lambda n: level.__setitem__(0, n), lambda n: level.__setitem__(0, n))
    first, second = switch.at(1), switch.at(2)
    first.__enter__()
    second.__enter__()
    assert level == [2]
    first.__exit__(None, None, None)  # ends before the one that began after it
    assert level == [2]
    second.__exit__(None, None, None)
    assert level == [0]


@pytest.mark.parametrize("make", [math_attention, full_precision])
def test_a_switch_left_out_of_order_is_restored(make):
    def settings():
        backends = torch.backends
        return (
            backends.mha.get_fastpath_enabled(),
            backends.cuda.flash_sdp_enabled(),
            backends.cudnn.allow_tf32,
            backends.cuda.matmul.allow_tf32,
        )

    before = settings()
    first, second = make(), make()
    first.__enter__()
    second.__enter__()
    inside = settings()
    assert inside != before
    first.__exit__(None, None, None)
    assert settings() == inside
    second.__exit__(None, None, None)
    assert settings() == before


def test_dropout_in_encoder_layers_is_the_same_with_and_without_derivatives():
    case = build("transformer")
    objective = case.metric.objective(case.model, dropout_seed=3)
    (batch,) = objective.batches
    with torch.no_grad():
        plain = objective.loss(objective.theta, batch)
    differentiable = objective.loss(objective.theta.clone().requires_grad_(), batch).detach()
    torch.testing.assert_close(plain, differentiable, rtol=1e-12, atol=0)
    assert abs(plain - case.metric.objective(case.model).loss(objective.theta, batch)) > 1e-4
