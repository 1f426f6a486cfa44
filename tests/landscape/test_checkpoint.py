"""A job in a store survives interruptions, is shared by processes, and is never mixed up with another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from lla_func import chart
from lla_func.landscape._chunks import remembered
from lla_func.landscape._directions import directions_of
from lla_func.landscape._evaluate import evaluate
from lla_func.landscape._job import begin, load_landscape
from lla_func.landscape.engines._plan import Plan
from lla_func.objective._objective import Objective, from_loss
from tests import cases
from tests.engines import every_engine

ROOT = Path(__file__).parents[2]
AXIS = torch.linspace(-1, 1, 14, dtype=torch.float64)
COORDS = chart.mesh(AXIS, AXIS)


def plane_of(objective: Objective) -> chart.Chart:
    generator = torch.Generator().manual_seed(1)
    basis = 0.3 * torch.randn(2, len(objective.theta), generator=generator, dtype=torch.float64)
    return chart.span(objective.theta, *basis.to(objective.theta))


def interrupted_after(
    objective: Objective, calls: int, error: type[BaseException] = KeyboardInterrupt
) -> Objective:
    """The same objective, whose loss fails after some calls."""
    left = calls

    def loss(theta, batch):
        nonlocal left
        left -= 1
        if left < 0:
            raise error
        return objective.loss(theta, batch)

    return objective._replace(loss=loss)


@every_engine()
def test_after_an_interruption_the_same_call_ends_with_the_bits_of_an_unbroken_run(tmp_path, engine):
    objective = cases.objective("mlp", torch.float32)
    plane = plane_of(objective)
    unbroken = evaluate(objective, plane, COORDS, engine=engine, store=tmp_path / "unbroken")
    half = tmp_path / "half"
    evaluate(objective, plane, COORDS, engine=engine, store=half)
    for path in sorted((half / "chunks").iterdir())[::2]:
        path.unlink()
    (half / "landscape.npz").unlink()
    again = evaluate(objective, plane, COORDS, engine=engine, store=half)
    assert torch.equal(again.losses, unbroken.losses)
    assert again.diagnostics["plan"] == unbroken.diagnostics["plan"]


def test_an_interruption_loses_only_the_chunk_in_work(tmp_path):
    objective = cases.objective("mlp")
    plane = plane_of(objective)
    with pytest.raises(KeyboardInterrupt):
        evaluate(interrupted_after(objective, 60), plane, COORDS, engine="loop", store=tmp_path)
    with pytest.raises(ValueError, match=r"is not finished, \d+ losses are there"):
        load_landscape(tmp_path)
    kept = len(list((tmp_path / "chunks").iterdir()))
    counted = 0

    def counting(theta, batch):
        nonlocal counted
        counted += 1
        return objective.loss(theta, batch)

    landscape = evaluate(objective._replace(loss=counting), plane, COORDS, engine="loop", store=tmp_path)
    assert 10 < kept < 60
    assert counted <= len(COORDS) - 3 * kept + 4
    expected = evaluate(objective, plane, COORDS, engine="loop").losses
    assert torch.equal(landscape.losses, expected)


def test_a_finished_store_is_read_without_the_model(tmp_path):
    objective = cases.objective("mlp")
    landscape = evaluate(objective, plane_of(objective), COORDS, store=tmp_path)
    read = load_landscape(tmp_path)
    assert torch.equal(read.losses, landscape.losses)
    assert torch.equal(read.coords, COORDS)
    assert read.chart["kind"] == landscape.chart["kind"]


def test_a_finished_store_evaluates_no_point_again(tmp_path):
    objective = cases.objective("mlp")
    landscape = evaluate(objective, plane_of(objective), COORDS, store=tmp_path)
    once = interrupted_after(objective, 1)  # the loss at the center tells the job from others
    assert torch.equal(evaluate(once, plane_of(objective), COORDS, store=tmp_path).losses, landscape.losses)


def test_another_job_is_refused_by_what_differs(tmp_path):
    objective = cases.objective("mlp")
    plane = plane_of(objective)
    evaluate(objective, plane, COORDS, store=tmp_path)
    inputs, targets = objective.batches[0]
    others = {
        "theta": (objective._replace(theta=objective.theta + 1), plane, COORDS, {}),
        "directions": (objective, plane._replace(basis=2 * plane.basis), COORDS, {}),
        "points": (objective, plane, 2 * COORDS, {}),
        "data": (objective._replace(batches=[(inputs + 1, targets)]), plane, COORDS, {}),
        "engine": (objective, plane, COORDS, {"engine": "vmap"}),
        "tol": (objective, plane, COORDS, {"sampling": "chebyshev", "tol": 0.1}),
        "the loss at the center": (
            objective._replace(loss=lambda theta, batch: 2 * objective.loss(theta, batch)),
            plane,
            COORDS,
            {},
        ),
    }
    for what, (other, surface, coords, options) in others.items():
        with pytest.raises(ValueError, match=rf"holds another job; what differs: .*{what}"):
            evaluate(other, surface, coords, store=tmp_path, **options)


def test_another_job_is_refused_however_small_its_losses(tmp_path):
    objective = cases.objective("mlp")

    def times(factor):
        return objective._replace(loss=lambda theta, batch: factor * objective.loss(theta, batch))

    plane = plane_of(objective)
    evaluate(times(1e-15), plane, COORDS, engine="loop", store=tmp_path)
    with pytest.raises(ValueError, match="the loss at the center"):
        evaluate(times(2e-15), plane, COORDS, engine="loop", store=tmp_path)


@pytest.mark.parametrize(("factor", "same"), [(1 + 1e-6, True), (1.001, False)])
def test_the_loss_at_the_center_may_differ_by_rounding_and_no_more(tmp_path, factor, same):
    objective = cases.objective("mlp")
    plane = plane_of(objective)
    other = objective._replace(loss=lambda theta, batch: factor * objective.loss(theta, batch))
    evaluate(objective, plane, COORDS, engine="loop", store=tmp_path)
    if same:
        evaluate(other, plane, COORDS, engine="loop", store=tmp_path)
    else:
        with pytest.raises(ValueError, match="the loss at the center"):
            evaluate(other, plane, COORDS, engine="loop", store=tmp_path)


def test_a_job_whose_loss_is_not_a_number_at_the_center_goes_on(tmp_path):
    objective = from_loss(lambda theta, batch: theta.log().sum(), torch.full((1,), -1.0, dtype=torch.float64))
    line = chart.line(objective.theta, torch.ones(1, dtype=torch.float64))
    coords = torch.tensor([[0.0], [2.0]])
    first, second = (evaluate(objective, line, coords, store=tmp_path) for _ in range(2))
    assert first.losses[0].isnan()
    torch.testing.assert_close(second.losses, first.losses, rtol=0, atol=0, equal_nan=True)


def test_chebyshev_sampling_finds_its_points_again(tmp_path):
    objective = cases.objective("mlp")
    plane = plane_of(objective)
    options = {"sampling": "chebyshev", "tol": 1e-2, "engine": "loop"}
    unbroken = evaluate(objective, plane, COORDS, **options)
    with pytest.raises(KeyboardInterrupt):
        evaluate(interrupted_after(objective, 90), plane, COORDS, store=tmp_path, **options)
    again = evaluate(objective, plane, COORDS, store=tmp_path, **options)
    assert torch.equal(again.losses, unbroken.losses)
    assert again.diagnostics["sampling"] == unbroken.diagnostics["sampling"]


def test_files_half_written_by_a_killed_process_do_no_harm(tmp_path):
    objective = cases.objective("mlp")
    plane = plane_of(objective)
    with pytest.raises(KeyboardInterrupt):
        evaluate(interrupted_after(objective, 60), plane, COORDS, engine="loop", store=tmp_path)
    (tmp_path / "chunks" / ".1234.tmp").write_bytes(b"PK")
    landscape = evaluate(objective, plane, COORDS, engine="loop", store=tmp_path)
    assert torch.equal(landscape.losses, evaluate(objective, plane, COORDS, engine="loop").losses)


def test_calls_are_kept_apart_and_pieces_are_whole_passes(tmp_path):
    identity = {"settings": {}, "notes": {}, "loss": 0.0}
    job = begin(tmp_path, identity, lambda: (Plan("vmap", points_per_pass=4), []))
    seen: list[int] = []

    def losses(coords):
        seen.append(len(coords))
        return coords[:, 0]

    for _ in range(2):
        keeping = remembered(losses, job)
        for count in (10, 3):
            coords = torch.arange(count, dtype=torch.float64)[:, None]
            assert torch.equal(keeping(coords), coords[:, 0])
    assert seen == [4, 4, 2, 3]


def test_a_job_keeps_the_directions_that_it_began_with_and_refuses_others(tmp_path):
    first = torch.eye(2, 5)
    torch.testing.assert_close(directions_of(tmp_path, first), first, rtol=0, atol=0)
    rounded = first + 1e-6
    torch.testing.assert_close(directions_of(tmp_path, rounded), first, rtol=0, atol=0)
    tilted = first + 0.3 * first.roll(1, dims=1)  # by 17 degrees
    swapped, negative, one = first.flip(0), torch.stack([first[0], -first[1]]), first[:1]
    for other in (tilted, swapped, negative, one):
        with pytest.raises(ValueError, match="was begun with other directions; choose another folder"):
            directions_of(tmp_path, other)


SHARED = """
import sys, torch
from tests.landscape.test_checkpoint import COORDS, plane_of
from tests import cases
from lla_func.landscape._evaluate import evaluate
import time
objective = cases.objective("mlp")
def slow(theta, batch):
    time.sleep(0.01)
    return objective.loss(theta, batch)
print("begin", flush=True)
landscape = evaluate(objective._replace(loss=slow), plane_of(objective), COORDS, engine="loop", store=sys.argv[1])
print(landscape.diagnostics["points_per_second"] * landscape.diagnostics["seconds"])
torch.save(landscape.losses, sys.argv[2])
"""


def start(store: Path, result: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", SHARED, str(store), str(result)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def test_two_processes_share_the_points_and_a_killed_one_loses_only_its_chunk(tmp_path):
    store = tmp_path / "store"
    victim, survivor = start(store, tmp_path / "a.pt"), start(store, tmp_path / "b.pt")
    deadline = time.monotonic() + 60
    while len(list(store.glob("chunks/*.npz"))) < 12 and time.monotonic() < deadline:
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    out, _ = survivor.communicate(timeout=60)
    assert survivor.returncode == 0
    computed = float(out.split()[-1])
    assert computed < len(COORDS), "the survivor did everything, so nothing was shared"
    objective = cases.objective("mlp")
    expected = evaluate(objective, plane_of(objective), COORDS, engine="loop").losses
    assert torch.equal(torch.load(tmp_path / "b.pt", weights_only=True), expected)
    assert torch.equal(load_landscape(store).losses, expected)
