"""Writes that are killed, find no room or are not permitted: what they leave behind, and what is said."""

from __future__ import annotations

import builtins
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lla_func import store
from lla_func.geometry._chart import line
from lla_func.landscape._evaluate import evaluate
from lla_func.landscape._job import load_landscape
from lla_func.objective._objective import from_loss
from tests.jobs import COORDS, EXPECTED, job, unfinished

KILLED = """
import os, signal, sys
from lla_func import store
with store.replacing(sys.argv[1]) as file:
    file.write(b"half of it")
    file.flush()
    print("written", flush=True)
    if sys.argv[2] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def writing(path: Path, end: str) -> subprocess.Popen:
    command = [sys.executable, "-c", KILLED, str(path), end]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    return process


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="kills a process")
def test_what_killed_writes_left_is_swept_and_what_is_being_written_stays(tmp_path):
    paths = unfinished(tmp_path)
    paths[0].unlink()
    with writing(paths[0], "dies") as dead:
        dead.communicate()
    assert dead.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "chunks").glob(".*.tmp"))) == 1
    alive = writing(tmp_path / "chunks" / "elsewhere.npz", "lives")
    assert torch.equal(job(tmp_path).losses, EXPECTED)
    assert len(list((tmp_path / "chunks").glob(".*.tmp"))) == 1
    alive.communicate(b"")
    assert (tmp_path / "chunks" / "elsewhere.npz").read_bytes() == b"half of it"
    assert not list(tmp_path.rglob("*.tmp"))


def test_leftovers_are_swept_before_the_work_wherever_they_lie(tmp_path):
    paths = unfinished(tmp_path)
    paths[0].unlink()
    left = [tmp_path / ".0123456789abcdef.tmp", tmp_path / "chunks" / ".0123456789abcdef.tmp"]
    for path in left:
        path.write_bytes(b"PK")

    def loss(theta, batch):
        assert theta.any() == 0 or not any(path.exists() for path in left)
        return theta.square().sum()

    objective = from_loss(loss, torch.zeros(2).double())
    chart = line(objective.theta, torch.tensor([3.0, 4.0]).double())
    assert torch.equal(evaluate(objective, chart, COORDS, engine="loop", store=tmp_path).losses, EXPECTED)
    assert not list(tmp_path.rglob("*.tmp"))


def test_only_files_that_nobody_holds_and_that_are_ours_are_swept(tmp_path):
    for name in (".0123abcd.tmp", ".notes.tmp", "0123.tmp"):
        (tmp_path / name).write_bytes(b"PK")
    with store.replacing(tmp_path / "result") as file:
        store.sweep(tmp_path)
        file.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".notes.tmp", "0123.tmp", "result"]


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_named_by_the_file_and_the_job_goes_on_afterwards(tmp_path, monkeypatch):
    paths = unfinished(tmp_path)
    paths[4].unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=rf"No space left on device: '.*{paths[4].name}'"):
            job(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))
    assert torch.equal(job(tmp_path).losses, EXPECTED)


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_every_writer_names_the_file_that_it_had_no_room_for(tmp_path):
    import resource

    from bridges import weights
    from lla_func.plots._files import new_figure, save

    figure = new_figure(4, 4)
    writers = {
        "arrays.npz": lambda path: store.save_arrays(path, x=torch.zeros(10_000)),
        "notes.json": lambda path: store.save_json(path, {"x": [0.5] * 10_000}),
        "lines.log": lambda path: store.append_line(path, "x" * 10_000),
        "weights.pth": lambda path: weights.save(torch.nn.Linear(100, 100), path),
        "figure.png": lambda path: save(figure, path),
    }
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for name, write in writers.items():
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        try:
            with pytest.raises(OSError, match=rf"File too large: '.*{name}'"):
                write(tmp_path / name)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """Nothing below this folder can be opened for writing, made or removed, whoever asks."""
    folder = tmp_path / "store"

    def below(path):
        return isinstance(path, str | os.PathLike) and str(path).startswith(str(folder))

    def refusing(function, writes):
        def guarded(path, *args, **kwargs):
            if below(path) and writes(*args, **kwargs):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            return function(path, *args, **kwargs)

        return guarded

    def set_read_only():
        monkeypatch.setattr(
            os,
            "open",
            refusing(os.open, lambda flags=0, *_, **__: flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)),
        )
        for module in (builtins, __import__("io")):
            opens = refusing(module.open, lambda mode="r", *_, **__: set(mode) & set("wax+"))
            monkeypatch.setattr(module, "open", opens)
        for name in ("mkdir", "unlink", "replace", "rename", "utime"):
            monkeypatch.setattr(os, name, refusing(getattr(os, name), lambda *_, **__: True))

    return folder, set_read_only


def test_a_finished_store_needs_no_permission_to_write(read_only):
    folder, set_read_only = read_only
    job(folder)
    for lock in folder.glob("*.lock"):
        lock.unlink()
    set_read_only()
    with pytest.raises(OSError, match="Read-only"):
        (folder / "new").write_text("x")
    assert torch.equal(job(folder).losses, EXPECTED)
    assert torch.equal(load_landscape(folder).losses, EXPECTED)


def test_an_unfinished_store_that_cannot_be_written_is_refused_before_the_work(read_only):
    folder, set_read_only = read_only
    unfinished(folder)
    set_read_only()
    with pytest.raises(ValueError, match=r"store='.*' is not a directory that can be written \(Read-only"):
        job(folder)


def test_viz_lla_reads_finished_stores_of_all_its_panels(read_only):
    from lla_func import viz_lla

    folder, set_read_only = read_only
    objective = from_loss(lambda theta, batch: (theta**4).sum() + theta[0] * theta[1], torch.ones(4).double())
    options = {"axes": "hessian", "steps": 3, "seed": 0, "to_save": False, "store": folder}
    first = viz_lla(objective, **options)
    set_read_only()
    assert torch.equal(viz_lla(objective, **options).landscapes[0].losses, first.landscapes[0].losses)
