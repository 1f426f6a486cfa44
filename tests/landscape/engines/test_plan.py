"""The plan follows from the job alone, fits the budget, and the engine is chosen by counting."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from bridges.metrics import Loss
from lla_func import chart
from lla_func._torch._memory import free_memory
from lla_func.graph import Sizes
from lla_func.landscape._evaluate import evaluate
from lla_func.landscape._evaluator import EngineFallbackWarning
from lla_func.landscape.engines import _cost as cost
from lla_func.landscape.engines import _hoisted as hoisted
from lla_func.landscape.engines._plan import Limits, Plan, halved, make_plan
from lla_func.objective._objective import from_loss
from tests import cases

CONV = Sizes(largest=5000, live=20000, total=40000, affine=19000, theta=250_000, operations=30, blocks=False)
MLP = Sizes(largest=128, live=400, total=600, affine=128, theta=1400, operations=12, blocks=True)


def plan_of(sizes=CONV, **options) -> Plan:
    given = {
        "batch": 2048,
        "directions": 2,
        "separable": True,
        "workers": 2,
        "memory_budget": 2**30,
        "limits": Limits(cache=2**19, calling=2**12, shared=2**22, free=2**34),
    }
    return make_plan(sizes, **(given | options))


def test_tiles_fit_the_cache_and_share_the_batch_evenly():
    plan = plan_of()
    assert plan.samples_per_tile * CONV.largest <= 2**20
    tiles = -(-2048 // plan.samples_per_tile)
    assert plan.samples_per_tile * tiles - 2048 < tiles


def test_large_parameters_ask_for_large_tiles_and_one_worker():
    plan = plan_of(CONV._replace(theta=45_000_000))
    assert (plan.samples_per_tile, plan.workers) == (2048, 1)


def test_batches_that_must_not_be_cut_are_not():
    assert plan_of(separable=False).samples_per_tile is None


def test_points_share_a_pass_only_where_that_is_no_slower():
    convolutions = MLP._replace(blocks=False)
    assert plan_of(MLP, batch=16).points_per_pass > 1
    assert plan_of(convolutions, batch=512).points_per_pass == 1
    assert plan_of(convolutions, batch=16).points_per_pass > 1  # calling takes longer than computing
    assert plan_of(MLP._replace(theta=2**20), batch=16).points_per_pass == 1  # less than eight would fit


def test_one_worker_is_enough_where_operations_take_microseconds():
    assert plan_of(CONV, batch=2048).workers == 2
    assert plan_of(CONV, batch=4).workers == 1


@pytest.mark.parametrize("budget", [2**21, 2**23, 2**25, 2**30])
def test_the_estimate_stays_within_the_budget(budget):
    plan = plan_of(memory_budget=budget)
    assert 0 < plan.bytes <= budget


def test_a_smaller_budget_gives_smaller_pieces():
    assert plan_of(memory_budget=2**21).samples_per_tile < plan_of().samples_per_tile


def test_a_budget_below_the_smallest_pass_is_refused_before_allocating():
    with pytest.raises(MemoryError, match="memory_budget=1000 bytes is too small"):
        plan_of(memory_budget=1000)


def test_what_is_given_is_taken():
    plan = plan_of(MLP, samples_per_tile=64, points_per_pass=7)
    assert (plan.samples_per_tile, plan.points_per_pass) == (64, 7)


def test_halving_takes_points_first_then_samples_then_nothing():
    assert halved(Plan("hoisted", samples_per_tile=8, points_per_pass=6)) == {"points_per_pass": 3}
    assert halved(Plan("hoisted", samples_per_tile=8)) == {"samples_per_tile": 4}
    assert halved(Plan("hoisted", samples_per_tile=1)) is None


def test_free_memory_is_a_part_of_what_the_machine_has_in_bytes():
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert physical / 1000 < free_memory() <= physical  # neither pages nor kilobytes


def plane_of(objective):
    basis = torch.randn(2, len(objective.theta), generator=torch.Generator().manual_seed(1))
    return chart.plane(objective.theta, *(0.1 * basis).to(objective.theta))


def test_the_plan_is_the_same_in_every_run():
    objective = cases.objective("cnn", torch.float32)
    options = {"memory_budget": 2**26}
    plans = {hoisted.prepare(objective, plane_of(objective), **options)[1] for _ in range(3)}
    assert len(plans) == 1


def test_a_census_does_not_depend_on_the_clock():
    objective = cases.objective("cnn")
    assert cost.cost_of(objective, objective.theta) == cost.cost_of(objective, objective.theta)


def test_floating_point_operations_of_a_matrix_product_are_counted():
    objective = from_loss(lambda t, x: (x @ t.view(4, 5)).sum(), torch.ones(20), [torch.ones(3, 4)])
    assert cost.cost_of(objective, objective.theta).flops == 2 * 3 * 4 * 5


def test_large_jobs_are_hoisted_and_small_ones_looped():
    model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
    x = torch.randn(4096, 64, generator=torch.Generator().manual_seed(0))
    y = torch.arange(4096) % 4
    objective = Loss(nn.CrossEntropyLoss(), x, y).objective(model)
    assert cost.candidates(objective, plane_of(objective), 1000)[0] == ("hoisted",)
    assert cost.candidates(objective, plane_of(objective), 4) == (("loop",), False)
    small = Loss(nn.CrossEntropyLoss(), x[:2], y[:2]).objective(model)
    assert cost.candidates(small, plane_of(small), 20) == (("loop",), False)


def test_what_hoisting_saves_depends_on_where_the_work_is():
    def saved(*layers: nn.Module) -> float:
        x = torch.randn(2048, 64, generator=torch.Generator().manual_seed(0))
        objective = Loss(nn.CrossEntropyLoss(), x, torch.arange(2048) % 4).objective(nn.Sequential(*layers))
        return cost.cost_of(objective, objective.theta).saved

    early = saved(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 4))
    late = saved(nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 512), nn.ReLU(), nn.Linear(512, 512))
    pooled = saved(nn.Unflatten(1, (1, 8, 8)), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 4))
    assert early > 0.5 > late
    assert pooled > 0.5


def test_the_result_says_how_the_work_was_cut_and_how_fast_it_was():
    objective = cases.objective("cnn", torch.float32)
    coords = chart.mesh(torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 4))
    told = evaluate(objective, plane_of(objective), coords, engine="hoisted", samples_per_tile=2).diagnostics
    assert told["plan"]["engine"] == "hoisted"
    assert told["plan"]["samples_per_tile"] == 2
    assert told["points_per_second"] > 0
    assert told["check"]["points"] == 2
    assert told["check"]["difference"] <= told["check"]["tolerance"]


def test_too_small_a_budget_leaves_the_job_to_the_loop_and_says_so():
    objective = cases.objective("cnn", torch.float32)
    coords = torch.zeros(3, 2)
    with pytest.warns(EngineFallbackWarning, match="memory_budget=10 bytes is too small"):
        landscape = evaluate(objective, plane_of(objective), coords, engine="hoisted", memory_budget=10)
    assert landscape.diagnostics["engine"] == "loop"


@pytest.mark.parametrize("name", ["samples_per_tile", "memory_budget", "points_per_pass"])
def test_sizes_have_to_be_positive_whole_numbers(name):
    objective = cases.objective("mlp")
    with pytest.raises(ValueError, match=f"{name}=0 is too small"):
        evaluate(objective, plane_of(objective), torch.zeros(3, 2), **{name: 0})


@pytest.mark.parametrize("directions", [1, 2, 3])
def test_the_estimate_holds_what_is_hoisted_and_the_partial_sums_of_a_point(directions):
    sizes = CONV._replace(live=0, theta=0)
    plan = plan_of(sizes, directions=directions, batch=64, workers=1, samples_per_tile=64)
    assert plan.keep
    assert plan.bytes >= 64 * sizes.affine * (directions + 1 + directions)
