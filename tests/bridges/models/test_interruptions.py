"""Claims about Ctrl-C: wherever it falls, the model is left bit for bit as it was."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from functools import partial

import pytest
import torch
from torch import nn
from torch.autograd import forward_ad

from bridges.metrics import Loss
from bridges.models._rng import LOCK
from lla_func import viz_esd, viz_lla
from lla_func._torch._interruptions import noticed
from tests.cases import build
from tests.engines import QUICK
from tests.state import differences, snapshot

OPTIONS = {
    "eval": {},
    "batch": {"batchnorm": "batch"},
    "recalibrate": {"batchnorm": "recalibrate"},
    "dropout": {"dropout_seed": 1},
}


class Messy(nn.Module):
    """Convolutions with BatchNorm whose passes leave traces of every kind: draws, attributes, buffers and hooks."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.5))
        self.head = nn.Linear(2, 3)
        self.kept = None

    def forward(self, x):
        self.kept = self.body(x + torch.rand(())).mean((2, 3))
        self.head.register_forward_hook(lambda *_: None)
        self.register_buffer("new", self.kept.detach(), persistent=False)
        self.head.bias.requires_grad_(False) if not self.head.bias.requires_grad else None
        return self.head(self.kept)


def messy() -> tuple[nn.Module, Loss]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Messy().double()
        model.body[1].eval()
        return model, Loss(
            nn.CrossEntropyLoss(), torch.randn(4, 1, 6, 6).double(), torch.tensor([0, 1, 2, 0])
        )


class Interrupting:
    """A trace function that raises at the n-th event in the project's own code."""

    def __init__(self, number: int, opcodes: bool):
        self.left = number
        self.opcodes = opcodes

    def __call__(self, frame, event, arg):
        if f"{os.sep}bridges{os.sep}" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = self.opcodes
        if event == ("opcode" if self.opcodes else "line"):
            self.left -= 1
            if self.left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self


def interrupted_everywhere(model: nn.Module, run, *, opcodes: bool, stride: int = 1) -> int:
    """Interrupts ``run`` at each event in turn and compares the model; the number of events."""
    before, number, tracing = snapshot(model), 0, sys.gettrace()
    while True:
        trace = Interrupting(number, opcodes)
        try:
            sys.settrace(trace)
            run()
            return number
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(tracing)
        assert differences(before, snapshot(model)) == [], f"at event {number}"
        number += stride


def at_every_event(policy: str, *, opcodes: bool, stride: int) -> None:
    model, metric = messy()
    objective = metric.objective(model, **OPTIONS[policy])
    (batch,) = objective.batches

    def run():
        loss = objective.loss if objective.adapt is None else objective.adapt(objective.theta)
        loss(objective.theta, batch)

    assert interrupted_everywhere(model, run, opcodes=opcodes, stride=stride) > 200
    assert not LOCK._is_owned()


@pytest.mark.parametrize(
    ("policy", "stride"), [("eval", 5), ("batch", 13), ("recalibrate", 41), ("dropout", 13)]
)
def test_an_interruption_at_any_line_of_a_borrow_leaves_the_model(policy, stride):
    at_every_event(policy, opcodes=False, stride=stride)


@pytest.mark.slow
@pytest.mark.parametrize("policy", OPTIONS)
def test_an_interruption_at_any_bytecode_of_a_borrow_leaves_the_model(policy):
    at_every_event(policy, opcodes=True, stride=1 if policy == "eval" else 17)


def lla(model: nn.Module, metric: Loss, **options) -> None:
    viz_lla(model, metric, steps=5, to_save=False, seed=0, **options)


def esd(model: nn.Module, metric: Loss, **options) -> None:
    viz_esd(model, metric, esd_n_iter=4, to_save=False, seed=0, **options)


RUNS = {
    **{f"lla, {engine}": partial(lla, engine=engine) for engine in ("auto", *QUICK)},
    **{f"lla, loop, {name}": partial(lla, engine="loop", **options) for name, options in OPTIONS.items()},
    "lla, chebyshev": partial(lla, sampling="chebyshev", tol=0.5, engine="loop"),
    **{f"esd, {kernel}": partial(esd, kernel=kernel) for kernel in ("auto", "vjp", "linearize")},
    "esd, eigenpairs and trace, batch": partial(
        esd, eigs=True, eigs_n_iter=4, trace=True, trace_n_iter=4, batchnorm="batch"
    ),
    "esd, ggn": partial(esd, curvature="ggn"),
}


def until_interrupted(run, after: float) -> float:
    """Runs again and again until a SIGINT comes; how long it took then to end."""
    sent: list[float] = []

    def send():
        time.sleep(after)
        sent.append(time.perf_counter())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    try:
        sender = threading.Thread(target=send)
        sender.start()
        while not sent or time.perf_counter() - sent[0] < 20:
            run()
        raise AssertionError("the interruption was swallowed")
    except KeyboardInterrupt:
        took = time.perf_counter() - sent[0]
    sender.join()
    return took


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # dropped by Python, raised by us
@pytest.mark.filterwarnings("ignore:.*did not converge")  # they are as short as can be
@pytest.mark.parametrize("name", RUNS)
def test_interruptions_at_random_moments_leave_the_model(name):
    case, choose = build("resnet"), random.Random(name)
    metric = case.metric
    before = snapshot(case.model)
    run = partial(RUNS[name], case.model, metric)
    run()  # loads what is loaded only once
    start = time.perf_counter()
    run()
    length = time.perf_counter() - start
    for _ in range(40):  # 560 in all
        took = until_interrupted(run, choose.uniform(0, length))
        assert differences(before, snapshot(case.model)) == []
        assert took < 2


def test_an_interruption_that_torch_makes_an_error_of_is_one_again():
    model, metric = messy()
    calls = []

    class Hiding(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            calls.append(1)
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise RuntimeError("") from None

    metric.criterion = lambda p, y: Hiding.apply(p).sum()
    with pytest.raises(KeyboardInterrupt):
        esd(model, metric)
    assert len(calls) == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("enter", [forward_ad.enter_dual_level, torch._C._enter_dual_level])
def test_an_interruption_while_forward_mode_is_entered_leaves_it(enter):
    def interrupted():
        with noticed():
            enter()
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with forward_ad.dual_level():  # fails where one is entered already
        pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("run", [partial(lla, engine="loop"), esd])
def test_an_interruption_that_python_drops_is_raised_at_the_next_step(run):
    model, metric = messy()
    calls = []

    class Fragile:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def criterion(prediction, targets):
        calls.append(1)
        if len(calls) == begin:
            Fragile()
        return nn.functional.cross_entropy(prediction, targets)

    metric.criterion, begin = criterion, -1
    run(model, metric)
    begin = len(calls) + len(calls) // 2 + 1
    with pytest.raises(KeyboardInterrupt):
        run(model, metric)
    assert len(calls) < begin + 8


def test_a_handler_that_raises_nothing_is_left_to_decide():
    seen, before = [], signal.signal(signal.SIGINT, lambda *_: seen.append(1))
    try:
        with noticed():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [1]
