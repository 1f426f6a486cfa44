"""Recording: thinned by rules, continued on request, and after any interruption all but the step in work is there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from lla_func import Layout, Trajectory
from lla_func.files import _shards
from lla_func.geometry import _recording as recording
from lla_func.geometry._recording import Recording
from lla_func.geometry._sketch import Projection, sketch

ROOT = Path(__file__).parents[2]
LAYOUT = Layout.of({"theta": torch.zeros(50)})


def theta(step):
    return torch.full((50,), float(step)) + torch.arange(50)


def feed(target, steps):
    return [step for step in steps if target.due(step) and target.add(step, [theta(step)]) is None]


def begun(folder, **options):
    return Recording(folder, LAYOUT, torch.float32, **options)


def intact(path):
    return all(torch.equal(path.theta(t), theta(step)) for t, step in enumerate(path.steps.tolist()))


def test_steps_that_are_due_are_recorded(tmp_path):
    run = begun(tmp_path, every=10)
    assert feed(run, range(35)) == [0, 10, 20, 30]
    assert intact(Trajectory.open(tmp_path))
    run.close()


@pytest.mark.parametrize("keep", [2, 3, 8, 10])
@pytest.mark.parametrize("first", [0, 1])
def test_at_most_so_many_are_kept_at_even_distances_over_the_whole_run(tmp_path, keep, first):
    run = begun(tmp_path, keep=keep)
    for step in range(first, 100):
        feed(run, [step])
        path = Trajectory.open(tmp_path)
        steps = path.steps.tolist()
        assert len(steps) <= keep
        assert steps[0] == first
        gaps = {b - a for a, b in pairwise(steps)}
        assert len(gaps) <= 1
        assert step - steps[-1] < max(gaps, default=1)
        assert intact(path)
    assert len(steps) > keep // 2
    run.close()


def test_rows_that_were_dropped_are_used_again(tmp_path, monkeypatch):
    monkeypatch.setattr(_shards, "SHARD_BYTES", 1000)
    run = begun(tmp_path, keep=10)
    feed(run, range(1000))
    run.close()
    assert max(entry.slot for entry in run.trajectory.entries) <= 10
    assert len(list(tmp_path.glob("thetas_*.npy"))) <= 3


def test_an_existing_run_is_continued_only_on_request(tmp_path):
    first = begun(tmp_path)
    feed(first, range(5))
    first.close()
    with pytest.raises(ValueError, match="holds a trajectory of 5 checkpoints; pass resume=True"):
        begun(tmp_path)
    again = begun(tmp_path, resume=True)
    assert feed(again, range(5, 8)) == [5, 6, 7]
    again.close()
    path = Trajectory.open(tmp_path)
    assert path.steps.tolist() == list(range(8))
    assert intact(path)


def test_resume_begins_a_run_where_there_is_none(tmp_path):
    run = begun(tmp_path / "new", resume=True)
    assert feed(run, range(3)) == [0, 1, 2]
    run.close()


def test_a_step_to_resume_at_drops_what_came_later(tmp_path):
    first = begun(tmp_path)
    feed(first, range(10))
    first.close()
    again = begun(tmp_path, resume=4)
    assert again.trajectory.steps.tolist() == [0, 1, 2, 3]
    feed(again, range(4, 6))
    again.close()
    assert Trajectory.open(tmp_path).steps.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_continued_run_is_thinned_on(tmp_path):
    for start in (0, 40):
        run = begun(tmp_path, keep=8, resume=True)
        feed(run, range(start, start + 40))
        run.close()
    path = Trajectory.open(tmp_path)
    assert 4 < len(path) <= 8
    assert intact(path)


def test_steps_that_do_not_increase_are_refused_and_nothing_is_lost(tmp_path):
    run = begun(tmp_path)
    feed(run, range(5))
    with pytest.raises(ValueError, match="step=2 is not after the last recorded step, 4.*resume=2"):
        run.due(2)
    assert len(run.trajectory) == 5
    run.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 2}, "rules was"),
        ({"keep": 5}, "rules was"),
        ({"projection": Projection(4, 0)}, "projection was None"),
    ],
)
def test_another_run_cannot_be_continued(tmp_path, options, message):
    begun(tmp_path).close()
    with pytest.raises(ValueError, match=message):
        begun(tmp_path, resume=True, **options)


def test_another_model_cannot_be_continued(tmp_path):
    begun(tmp_path).close()
    with pytest.raises(ValueError, match=r"'theta' has shape \[49\] there, shape \[50\]"):
        Recording(tmp_path, Layout.of({"theta": torch.zeros(49)}), torch.float32, resume=True)
    with pytest.raises(ValueError, match="dtype was 'float32', now it is 'float64'"):
        Recording(tmp_path, LAYOUT, torch.float64, resume=True)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"every": 0}, ValueError, "every=0"),
        ({"every": 1.5}, TypeError, "every=1.5"),
        ({"keep": 1}, ValueError, "keep=1"),
        ({"keep": "all"}, TypeError, "keep='all'"),
        ({"resume": "yes"}, TypeError, "resume='yes'"),
        ({"resume": -1}, ValueError, "resume=-1"),
        ({"sync": "no"}, TypeError, "sync='no'"),
        ({"projection": Projection(1, 0)}, ValueError, "project=1"),
        ({"projection": Projection(5, -1)}, ValueError, "seed=-1"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        begun(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="folder='.*file'"):
        begun(tmp_path / "file")


def test_two_recordings_into_one_folder_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "PATIENCE", 0.1)
    run = begun(tmp_path)
    with pytest.raises(ValueError, match="is being recorded to by another process"):
        begun(tmp_path, resume=True)
    run.close()
    begun(tmp_path, resume=True).close()


@pytest.mark.parametrize("where", ["row", "line", "thinning"])
def test_ctrl_c_loses_the_step_in_work_at_most_and_the_recording_goes_on(tmp_path, monkeypatch, where):
    run = begun(tmp_path, keep=8)
    feed(run, range(8))
    owner, name = {
        "row": (_shards.Shards, "write"),
        "line": (Recording, "_append"),
        "thinning": (Recording, "_write_index"),
    }[where]
    with monkeypatch.context() as patch:

        def interrupted(*_):
            raise KeyboardInterrupt

        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            feed(run, [8])
    path = Trajectory.open(tmp_path)
    assert path.steps.tolist()[:8] == list(range(8))
    assert intact(path)
    feed(run, range(9, 40))
    run.close()
    path = Trajectory.open(tmp_path)
    assert 4 <= len(path) <= 8
    assert path.steps[0] == 0
    assert intact(path)


CHILD = """
import sys, torch
from lla_func import Layout
from lla_func.geometry import Recording
layout, keep = Layout.of({"theta": torch.zeros(50_000)}), int(sys.argv[2]) or None
run = Recording(sys.argv[1], layout, torch.float32, keep=keep, resume=True)
step = int(run.trajectory.steps[-1]) + 1 if len(run.trajectory) else 0
while True:
    if run.due(step):
        run.add(step, [torch.full((50_000,), float(step))])
    print(step, flush=True)
    step += 1
"""


@pytest.mark.parametrize("keep", [0, 20])
def test_a_kill_loses_the_step_in_work_at_most(tmp_path, keep):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for life in range(2):
        command = [sys.executable, "-c", CHILD, str(tmp_path / "run"), str(keep)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(60):
                child.stdout.readline()
            time.sleep(0.013 * (1 + life))
            os.kill(child.pid, signal.SIGKILL)
            rest = [line for line in child.stdout if line.endswith("\n")]
        path = Trajectory.open(tmp_path / "run")
        steps = path.steps.tolist()
        if not keep:
            assert steps == list(range(len(steps)))
            assert int(rest[-1]) <= steps[-1] <= int(rest[-1]) + 1
        assert len(steps) <= (keep or len(steps))
        for t, step in enumerate(steps):
            assert bool((path.theta(t) == step).all())


def test_projections_are_kept_in_place_of_thetas(tmp_path):
    run = begun(tmp_path, projection=Projection(7, seed=3))
    feed(run, range(4))
    run.close()
    path = Trajectory.open(tmp_path)
    assert path.projection == Projection(7, 3)
    expected = torch.stack([sketch([theta(step)], Projection(7, 3)) for step in range(4)])
    assert torch.equal(path.columns(0, 7), expected)
    with pytest.raises(ValueError, match="keeps random projections"):
        path.theta(0)


def test_projections_keep_inner_products_on_average():
    # all of one sign, so that sums without random signs would be far off
    x, y = torch.rand(2, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = torch.tensor(
        [float(sketch([x], Projection(100, s)) @ sketch([y], Projection(100, s))) for s in range(300)]
    )
    spread = (2 / 100) ** 0.5 * float(x.norm() * y.norm())
    assert abs(float(found.mean() - x @ y)) < 4 * spread / 300**0.5
    assert 0.5 * spread / 2**0.5 < float(found.std()) < 1.3 * spread


def test_another_seed_is_another_projection_and_cuts_make_no_difference(monkeypatch):
    x = torch.randn(600_000, generator=torch.Generator().manual_seed(0))
    one = sketch([x], Projection(50, 0))
    assert torch.allclose(
        one, sketch(x.split(1000), Projection(50, 0)), rtol=1e-12, atol=1e-9 * float(one.norm())
    )
    assert not torch.allclose(one, sketch([x], Projection(50, 1)))
