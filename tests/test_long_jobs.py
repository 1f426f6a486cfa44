"""Long jobs by the command: stores, going on, fewer points, several processes, and processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from bridges.command import _cli as cli
from bridges.command import _processes as processes
from bridges.models._borrowed import unwrap
from lla_func.landscape._job import load_landscape
from lla_func.landscape._store import load_landscapes
from tests.command import run

ROOT = Path(__file__).parents[1]
SMALL = ["--loader", "template", "--steps", "4", "-np", "1"]


pytestmark = pytest.mark.usefixtures("own_folder")


def test_resume_needs_nothing_but_the_folder(tmp_path, capsys):
    assert run("eval", *SMALL, "--store", "job", "--name", "long") == 0
    (tmp_path / "job" / "01_random_axes" / "landscape.npz").unlink()
    (tmp_path / "job").rename("moved")
    capsys.readouterr()
    assert run("eval", "--resume", "moved") == 0
    assert "eval_long.npz" in capsys.readouterr().out
    (saved,), _ = load_landscapes("analysis_results/eval_long.npz")
    assert torch.equal(load_landscape("moved/01_random_axes").losses, saved.losses)


def test_resume_takes_no_other_options_and_needs_a_job(capsys):
    assert run("eval", *SMALL, "--store", "job") == 0
    assert run("eval", "--resume", "job", "--dist", "2") == 2
    assert "leave out --dist 2" in capsys.readouterr().err
    assert run("eval", "--resume", "elsewhere") == 2
    assert "no job there" in capsys.readouterr().err


def test_another_command_in_the_same_store_is_refused(capsys):
    assert run("eval", *SMALL, "--store", "job") == 0
    assert run("eval", *SMALL, "--store", "job", "--seed", "1") == 2
    assert "holds another job; what differs: theta, directions" in capsys.readouterr().err


def test_tol_evaluates_fewer_points_and_says_how_many(capsys):
    assert run("eval", "--loader", "mlp", "-np", "1", "--steps", "30", "--dist", "0.2", "--tol", "0.01") == 0
    out = capsys.readouterr().out
    assert " of 900 points evaluated, within 0." in out


def test_the_plan_is_printed_on_request(capsys):
    assert run("eval", *SMALL, "--plan", "--engine", "loop") == 0
    assert "plan: loop; workers: 1" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "size"), [("512", 512), ("2k", 2048), ("1.5M", 3 * 2**19), ("8G", 2**33)])
def test_memory_is_given_in_common_units(text, size):
    assert cli.parser().parse_args(["eval", "--memory", text]).memory == size


@pytest.mark.parametrize("text", ["", "0", "8X", "G", "1e999", "-3M"])
def test_other_sizes_are_refused(text, capsys):
    assert run("eval", f"--memory={text}") == 2
    assert "write 500M or 8G" in capsys.readouterr().err


def test_several_processes_need_a_store(monkeypatch, capsys):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert run("eval", *SMALL) == 2
    assert "--store DIR" in capsys.readouterr().err
    assert run("train", "--loader", "template") == 2
    assert "one process" in capsys.readouterr().err


def test_a_contradictory_environment_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(ValueError, match="RANK=3 is not below WORLD_SIZE=1"):
        processes.launched()


def test_models_in_data_parallel_shells_are_unwrapped():
    model = nn.Linear(2, 2)
    assert unwrap(nn.DataParallel(model)) is model


def torchrun(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *arguments]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def workers_of(launcher: int) -> list[int]:
    """The processes that a process started, from the system's table of processes."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, rest = entry.read_text().split(" ", 1)
        except OSError:
            continue
        if int(rest.rsplit(")", 1)[1].split()[1]) == launcher:
            found.append(int(number))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes in /proc")
def test_a_rank_killed_in_the_middle_loses_only_its_chunk(tmp_path):
    command = ["-m", "bridges", "eval", "--loader", "lenet", "-np", "1", "--steps", "30", "--engine", "loop"]
    store = tmp_path / "job" / "01_random_axes"
    with subprocess.Popen(
        torchrun("--max-restarts=2", *command, "--store", "job"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as job:
        deadline = time.monotonic() + 120
        while len(list(store.glob("chunks/*.npz"))) < 10:
            assert time.monotonic() < deadline
            assert job.poll() is None, job.communicate()[0]
            time.sleep(0.05)
        at_kill = len(list(store.glob("chunks/*.npz")))
        os.kill(workers_of(job.pid)[-1], signal.SIGKILL)
        output, _ = job.communicate(timeout=300)
    assert job.returncode == 0, output
    assert at_kill < 60, "the job was over before a rank could be killed"
    subprocess.run(
        [sys.executable, *command, "--store", "unbroken"], cwd=tmp_path, env=environment(), check=True
    )
    unbroken = load_landscape(tmp_path / "unbroken" / "01_random_axes")
    assert torch.equal(load_landscape(store).losses, unbroken.losses)
    (drawn,), _ = load_landscapes(tmp_path / "analysis_results" / "eval_default.npz")
    assert torch.equal(drawn.losses, unbroken.losses)
    assert (tmp_path / "viz_results" / "eval_default.png").stat().st_size > 0


@pytest.mark.slow
def test_after_a_restart_nobody_waits_for_the_dead():
    command = torchrun("--max-restarts=1", "-m", "tests.test_long_jobs")
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_esd_by_two_processes_is_that_of_one(tmp_path):
    command = ["-m", "bridges", "esd", "--loader", "mlp", "--weights", "None", "--esd_n_iter", "20"]
    for folder, launch in {"two": torchrun(*command), "one": [sys.executable, *command]}.items():
        (tmp_path / folder).mkdir()
        subprocess.run(launch, cwd=tmp_path / folder, env=environment(), check=True, capture_output=True)
    import json

    found = [
        json.loads((tmp_path / folder / "analysis_results" / "esd_esd_init_default.json").read_text())[
            "results"
        ]
        for folder in ("one", "two")
    ]
    assert found[1]["eigenvalues"] == pytest.approx(found[0]["eigenvalues"], rel=1e-3)
    assert found[1]["trace"] == pytest.approx(found[0]["trace"], rel=1e-3)


def one_dies_and_is_late_when_it_comes_back() -> None:
    """What each process of the test of restarts does."""
    again = os.environ["TORCHELASTIC_RESTART_COUNT"] == "1"
    late = os.environ["RANK"] == "1"
    if again and late:
        time.sleep(4)  # meanwhile the other one finds what the store holds
    with processes.joined(torch.device("cpu")):
        if late and not again:
            os.kill(os.getpid(), signal.SIGKILL)
        torch.distributed.barrier()


if __name__ == "__main__":
    one_dies_and_is_late_when_it_comes_back()
