"""lla eval --resume runs no code because the folder of a job names it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from bridges.command import _cli as cli
from bridges.loaders import template
from lla_func.landscape._job import load_landscape
from tests.command import run

pytestmark = pytest.mark.usefixtures("own_folder")

SMALL = ["--steps", "3", "-np", "1"]


@pytest.fixture
def begun(own_folder):
    """A job by a loader file, with only its last step to be done again; and a file that appears when it is run."""
    own = Path("my_loader.py")
    shutil.copy(template.__file__, own)
    own.write_text(own.read_text() + "\nfrom pathlib import Path\nPath('ran').touch()\n")
    assert run("eval", "--loader", str(own), *SMALL, "--store", "job") == 0
    Path("job/01_random_axes/landscape.npz").unlink()
    Path("ran").unlink()
    return own


def refused(capsys, words, *argv):
    capsys.readouterr()
    assert run("eval", "--resume", "job", *argv) == 2
    assert words in capsys.readouterr().err
    assert not Path("ran").exists(), "the loader was run"


def goes_on(*argv):
    assert run("eval", "--resume", "job", *argv) == 0
    assert len(load_landscape("job/01_random_axes").losses) == 9
    assert Path("ran").exists()


def test_a_loader_that_only_the_folder_names_is_not_run(begun, capsys):
    refused(capsys, "would run the Python file 'my_loader.py', which that folder names")


def test_the_loader_of_the_beginning_is_known_by_its_content_wherever_it_lies(begun):
    begun.rename("moved.py")
    goes_on("--loader", "moved.py")


def test_another_loader_is_refused(begun, capsys):
    begun.write_text(begun.read_text() + "# changed\n")
    refused(capsys, "its content is not what was noted there", "--loader", "my_loader.py")
    refused(capsys, "its content is not what was noted there", "--loader", "mlp")
    refused(capsys, "no loader file 'elsewhere.py'", "--loader", "elsewhere.py")


@pytest.mark.parametrize("argv", [[], ["--loader", "my_loader.py"]])
def test_trust_runs_the_loader_all_the_same(begun, argv):
    begun.write_text(begun.read_text() + "# changed\n")
    goes_on("--trust", *argv)


def test_the_folder_can_not_ask_for_trust_itself(begun, capsys):
    command = json.loads(Path("job/command.json").read_text())
    command["arguments"] += ["--trust"]
    Path("job/command.json").write_text(json.dumps(command))
    refused(capsys, "which that folder names")


def test_a_job_of_a_ready_loader_does_not_run_a_file(capsys):
    assert run("eval", "--loader", "template", *SMALL, "--store", "job") == 0
    shutil.copy(template.__file__, "other.py")
    refused(capsys, "is not known to be the loader", "--loader", "other.py")
    assert run("eval", "--resume", "job") == 0


def test_jobs_begun_before_contents_were_noted_need_trust(begun, capsys):
    command = json.loads(Path("job/command.json").read_text())
    del command["loader"]
    Path("job/command.json").write_text(json.dumps(command))
    refused(capsys, "is not known to be the loader", "--loader", "my_loader.py")
    goes_on("--trust")


def test_trust_is_for_resume(capsys):
    assert run("eval", *SMALL, "--trust") == 2
    assert "--trust is for --resume" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "3",
        "{}",
        '{"arguments": 3}',
        '{"arguments": [1]}',
        '{"arguments": ["train"]}',
        "\ufffd[" * 9,
    ],
)
def test_a_damaged_command_is_named(begun, capsys, content):
    Path("job/command.json").write_text(content)
    refused(capsys, "job/command.json' is damaged (")


def test_a_command_that_fails_its_check_is_not_kept_for_going_on(capsys):
    assert run("eval", "--loader", "template", *SMALL, "--store", "job", "--freeze", "features.*") == 2
    assert "matches no parameter" in capsys.readouterr().err
    assert not Path("job/command.json").exists()


def test_help_says_that_loaders_are_code(capsys):
    assert "It is code and is run" in cli.parser().format_help()
    assert run("eval", "--help") == 0
    assert "of your own, which is run" in " ".join(capsys.readouterr().out.split())


def test_a_finished_store_is_gone_on_with_where_nothing_can_be_written(begun, monkeypatch):
    goes_on("--trust")
    expected = load_landscape("job/01_random_axes").losses

    def refusing(name, path):
        raise ValueError(f"{name}={str(path)!r} is not a directory that can be written")

    from lla_func import files
    from lla_func.landscape import _job

    writable = files.writable_directory
    monkeypatch.setattr(
        files, "writable_directory", lambda n, p: refusing(n, p) if "job" in str(p) else writable(n, p)
    )
    monkeypatch.setattr(_job, "FileLock", None)
    goes_on("--trust")
    assert torch.equal(load_landscape("job/01_random_axes").losses, expected)
