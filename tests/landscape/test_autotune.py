"""A trial takes the fastest way to do a job, trusts none that disagrees with the loop, and can be repeated."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from bridges.metrics import Loss
from lla_func import chart
from lla_func.landscape import _autotune
from lla_func.landscape import _evaluator as evaluator
from lla_func.landscape._evaluate import evaluate
from lla_func.landscape._evaluator import EngineFallbackWarning
from lla_func.landscape._landscape import describe
from lla_func.landscape.engines import _hoisted as hoisted
from lla_func.landscape.engines import _loop as loop
from lla_func.landscape.engines._engines import ENGINES
from lla_func.landscape.engines._plan import Plan
from lla_func.landscape.engines._verify import DisagreementError
from lla_func.objective._objective import Objective
from tests import cases

AXIS = torch.linspace(-1, 1, 12, dtype=torch.float64)
COORDS = chart.mesh(AXIS, AXIS)


@pytest.fixture(autouse=True)
def _even_small_jobs_are_tried(monkeypatch):
    monkeypatch.setattr(evaluator, "candidates", lambda objective, chart, count: (("hoisted",), True))
    monkeypatch.setattr(_autotune, "SHARE", 10.0)


def plane_of(objective: Objective) -> chart.Chart:
    basis = torch.randn(
        2, len(objective.theta), generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    return chart.span(objective.theta, *(0.3 * basis).to(objective.theta))


def slowed(prepare, seconds: float, factor: float = 1.0):
    """An engine that takes longer for each point, and whose losses are off by a factor."""

    def slow(*arguments, **options):
        run, plan = prepare(*arguments, **options)

        def waiting(coefficients):
            time.sleep(seconds * len(coefficients))
            return factor * run(coefficients)

        return waiting, plan

    return slow


@pytest.mark.parametrize("slow", ["loop", "hoisted"])
def test_the_fastest_engine_wins_and_all_rates_are_told(slow, monkeypatch):
    objective = cases.objective("mlp")
    prepare = slowed({"loop": loop, "hoisted": hoisted}[slow].prepare, 3e-2)
    monkeypatch.setattr(_autotune, "ENGINES", {**ENGINES, slow: prepare})
    monkeypatch.setattr(evaluator, "ENGINES", {**ENGINES, slow: prepare})
    landscape = evaluate(objective, plane_of(objective), COORDS)
    rates = {rate["engine"]: rate["seconds_per_point"] for rate in landscape.diagnostics["rates"]}
    assert landscape.diagnostics["engine"] == {"loop": "hoisted", "hoisted": "loop"}[slow]
    assert rates[slow] > 3e-2
    assert min(rates, key=lambda engine: rates[engine]) == landscape.diagnostics["engine"]


@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_the_plan_of_a_trial_gives_the_same_bits_again(name):
    objective = cases.objective(name, torch.float32)
    plane = plane_of(objective)
    tried = evaluate(objective, plane, COORDS)
    again = evaluate(objective, plane, COORDS, plan=tried.diagnostics["plan"])
    assert tried.diagnostics["rates"]
    assert not again.diagnostics["rates"]
    assert torch.equal(again.losses, tried.losses)
    ours, theirs = (dict(x.diagnostics["plan"]) for x in (again, tried))
    assert ours == theirs


def test_a_contender_that_disagrees_is_not_trusted(monkeypatch):
    objective = cases.objective("mlp")
    monkeypatch.setattr(
        _autotune, "ENGINES", {**ENGINES, "hoisted": slowed(hoisted.prepare, 0.0, factor=1.01)}
    )
    with pytest.warns(EngineFallbackWarning, match="DisagreementError"):
        landscape = evaluate(objective, plane_of(objective), COORDS)
    assert landscape.diagnostics["engine"] == "loop"
    assert torch.equal(
        landscape.losses, evaluate(objective, plane_of(objective), COORDS, engine="loop").losses
    )
    coefficients = COORDS[:20].to(objective.theta)
    with pytest.raises(DisagreementError):
        _autotune.autotune(objective, plane_of(objective), coefficients, count=144, options={})


def test_a_contender_that_runs_out_of_memory_is_tried_smaller(monkeypatch):
    objective = cases.objective("mlp")

    def narrow(*arguments, **options):
        run, plan = ENGINES["vmap"](*arguments, **options)

        def failing(coefficients):
            if plan.points_per_pass > 3:
                raise MemoryError("not enough memory")
            return run(coefficients)

        return failing, plan

    monkeypatch.setattr(_autotune, "ENGINES", {**ENGINES, "vmap": narrow})
    monkeypatch.setattr(evaluator, "candidates", lambda objective, chart, count: (("vmap",), True))
    monkeypatch.setattr(_autotune, "MARGIN", 0.0)
    coefficients = COORDS[:20]
    outcome = _autotune.autotune(
        objective,
        plane_of(objective),
        coefficients,
        count=144,
        options={"points_per_pass": 16},
        engines=["vmap"],
    )
    assert [rate["points_per_pass"] for rate in outcome.rates] == [1, 2]


def test_of_several_engines_one_that_fails_is_out(monkeypatch):
    objective = cases.objective("mlp")
    patient = {**ENGINES, "loop": slowed(loop.prepare, 3e-2)}

    def failing(*arguments, **options):
        raise TypeError("not today")

    monkeypatch.setattr(_autotune, "ENGINES", {**patient, "vmap": failing})
    monkeypatch.setattr(evaluator, "candidates", lambda objective, chart, count: (("vmap", "hoisted"), True))
    told = evaluate(objective, plane_of(objective), COORDS).diagnostics
    assert told["engine"] == "hoisted"
    assert {rate["engine"]: rate.get("failed") for rate in told["rates"]}["vmap"] == "TypeError"
    monkeypatch.setattr(_autotune, "ENGINES", {**ENGINES, "vmap": failing, "hoisted": failing})
    with pytest.warns(EngineFallbackWarning, match="not today"):
        assert evaluate(objective, plane_of(objective), COORDS).diagnostics["engine"] == "loop"


def test_options_that_are_given_are_not_varied():
    objective = cases.objective("cnn")
    options = {"samples_per_tile": 5, "channels_last": True}
    landscape = evaluate(objective, plane_of(objective), COORDS, **options)
    tried = [rate for rate in landscape.diagnostics["rates"] if rate["engine"] == "hoisted"]
    assert len({rate["samples_per_tile"] for rate in tried}) == 1
    assert all(rate["samples_per_tile"] <= 5 and rate["channels_last"] for rate in tried)


def test_the_layout_of_images_is_varied_where_it_is_open():
    objective = cases.objective("cnn")
    landscape = evaluate(objective, plane_of(objective), COORDS)
    tried = [rate for rate in landscape.diagnostics["rates"] if rate["engine"] == "hoisted"]
    assert len({rate["channels_last"] for rate in tried}) == 2


def test_what_is_tried_stays_within_the_memory_budget(monkeypatch):
    monkeypatch.setattr(_autotune, "ENGINES", {**ENGINES, "loop": slowed(loop.prepare, 3e-2)})
    x, y = torch.randn(512, 40), torch.arange(512) % 3
    model = nn.Sequential(nn.Linear(40, 64), nn.Tanh(), nn.Linear(64, 3))
    objective = Loss(nn.CrossEntropyLoss(), x, y).objective(model)
    budget = 2**20
    landscape = evaluate(objective, plane_of(objective), COORDS, memory_budget=budget)
    tried = [rate for rate in landscape.diagnostics["rates"] if rate["engine"] == "hoisted"]
    assert tried
    assert all(rate["samples_per_tile"] * rate["points_per_pass"] * 64 * 4 < budget for rate in tried)
    assert landscape.diagnostics["engine"] == "hoisted"
    assert 0 < landscape.diagnostics["plan"]["bytes"] <= budget


def test_the_plan_and_the_rates_are_described_in_words():
    objective = cases.objective("cnn")
    text = describe(evaluate(objective, plane_of(objective), COORDS).diagnostics)
    assert text.startswith("plan: ")
    assert "tried loop: " in text
    assert "ms a point" in text


def test_wrong_plans_are_refused():
    objective = cases.objective("mlp")
    with pytest.raises(ValueError, match=r"unknown entries \['speed'\]"):
        evaluate(objective, plane_of(objective), COORDS, plan={"engine": "loop", "speed": 3})
    with pytest.raises(ValueError, match="plan\\['engine'\\]='lop'.*did you mean 'loop'"):
        evaluate(objective, plane_of(objective), COORDS, plan=Plan("lop"))
    with pytest.raises(TypeError, match="plan=3 is not a plan"):
        evaluate(objective, plane_of(objective), COORDS, plan=3)
