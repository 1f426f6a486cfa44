"""The command line: one clear line for everything that can be wrong, for warnings and for interruptions."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from bridges.command import _cli as cli
from bridges.command import _eval as commands
from bridges.loaders import mlp
from tests.command import run

SMALL = ["--loader", "template", "--steps", "3", "-np", "1"]


pytestmark = pytest.mark.usefixtures("own_folder")


BAD = {
    "no command": ([], "the following arguments are required: command"),
    "an unknown command": (["evil"], "invalid choice: 'evil'"),
    "an unknown option": (["eval", "--stepz", "3"], "unrecognized arguments: --stepz"),
    "an abbreviated option": (["eval", "--step", "3"], "unrecognized arguments: --step"),
    "misspelled axes": (
        ["eval", "-ax", "hesian"],
        "'hesian' is not one of random, adam, hessian; did you mean 'hessian'",
    ),
    "misspelled norm": (
        ["eval", "--norm", "filters"],
        "argument -nm/--norm: 'filters' .* did you mean 'filter'",
    ),
    "misspelled mode": (["train", "-md", "ad"], "'ad' is not one of add, adameq; did you mean 'add'"),
    "an order besides 1 and 2": (["eval", "-od", "3"], "argument -od/--order: '3' is not one of 1, 2"),
    "a distance of zero": (["eval", "--dist", "0"], "--dist: 0 is not a finite number greater than 0"),
    "an infinite distance": (["eval", "--dist", "inf"], "--dist: inf is not a finite number greater than 0"),
    "a distance that is no number": (["eval", "--dist", "far"], "--dist: 'far' is not a number"),
    "half a step": (["eval", "--steps", "2.5"], "--steps: '2.5' is not a whole number"),
    "one step": (["eval", "--steps", "1"], "--steps: 1 is too small; the least is 2"),
    "no plots": (["eval", "-np", "0"], "-np/--num_plots: 0 is too small"),
    "a negative cap": (["eval", "-lc", "-1"], "-lc/--losscap: -1 is not a finite number greater than 0"),
    "a seed in words": (["eval", "--seed", "one"], "--seed: 'one' is not a whole number"),
    "no epochs": (["train", "-e", "0"], "-e/--epochs: 0 is too small"),
    "a negative rate": (["train", "-lr", "-0.1"], "-lr: -0.1 is not a finite number greater than 0"),
    "an unknown BatchNorm policy": (
        ["eval", "--batchnorm", "train"],
        "'train' is not one of eval, batch, recalibrate",
    ),
    "an unknown engine": (
        ["eval", *SMALL, "--engine", "lop"],
        "'lop' is not one of auto, .* did you mean 'loop'",
    ),
    "an unknown loader": (["eval", "--loader", "alexnet"], "loader='alexnet' is not one of 'lenet', 'mlp'"),
    "a missing loader file": (["eval", "--loader", "gone.py"], "there is no loader file 'gone.py'"),
    "missing weights": (["eval", "--weights", "gone.pth"], "there is no weights file 'gone.pth'"),
    "weights of another model": (
        ["eval", "--weights", str(mlp.WEIGHTS)],
        "mlp_digits.pth' is not for this LeNet: it lacks",
    ),
    "another number of classes": (
        ["eval", "--classes", "7"],
        r"'classifier.4.weight' has shape \[10, 84\], in the model",
    ),
    "missing data": (["eval", "--data", "gone"], "'gone' does not hold MNIST"),
    "no data for resnet": (
        ["eval", "--loader", "resnet", "--weights", "None"],
        "loader 'resnet' needs data.*--data",
    ),
    "Adam's axes without training": (
        ["eval", "-ax", "adam"],
        "need the optimizer's state; use them with lla train",
    ),
    "Adam's rule on random axes": (["train", *SMALL, "-md", "adameq"], "mode='adameq' needs axes='adam'"),
    "a pattern without a match": (["eval", *SMALL, "--freeze", "body.*"], r"'body\.\*' matches no parameter"),
    "a name with a folder": (["eval", "--name", "a/b"], "--name='a/b' cannot be a file name because of '/'"),
    "an unwritable folder": (
        ["eval", *SMALL, "-vd", "/dev/null/x"],
        "viz_dir='/dev/null/x' is not a directory",
    ),
    "an unwritable log folder": (
        ["train", *SMALL, "-ld", "/dev/null"],
        "--log_dir='/dev/null' is not a directory",
    ),
    "an unknown device": (["eval", "--device", "tpu9"], "device='tpu9' cannot be used here"),
    "two devices": (["eval", "--cuda", "--device", "cpu"], "--cuda and --device cpu contradict each other"),
    "shifts that the loader lacks": (
        ["train", *SMALL, "--shift", "2"],
        "--shift cannot be used with loader 'template'",
    ),
}


@pytest.mark.parametrize(("argv", "words"), BAD.values(), ids=BAD)
def test_a_wrong_command_line_ends_with_2_and_one_clear_line(argv, words, capsys):
    assert run(*argv) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    assert error.startswith("lla")
    assert ": error: " in error
    assert re.search(words, error), error


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_warns_and_goes_on_as_the_original(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert run("eval", *SMALL, "--cuda") == 0
    found = capsys.readouterr()
    assert found.err == "lla: warning: --cuda was given, but PyTorch finds no GPU; the CPU computes instead\n"
    assert "300 samples, cpu" in found.out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("option", [["--device", "cuda"], ["--cuda", "--device", "cuda"]])
def test_a_gpu_that_is_not_there_is_one_clear_line(option, capsys):
    assert run("eval", *option) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "device='cuda' cannot be used here" in line


@pytest.mark.parametrize("contents", [b"", b"hello", b"PK\x03\x04"])
def test_a_file_of_another_kind_is_refused_as_weights(contents, capsys):
    Path("other.pth").write_bytes(contents)
    assert run("eval", "--weights", "other.pth") == 2
    assert "damaged or not a weights file" in capsys.readouterr().err


def test_a_bad_pipeline_is_named(capsys):
    Path("odd.py").write_text(
        "from bridges.loaders.mlp import *\ndef ModelInit(weight_path=None, device='cpu'): return 3\n"
    )
    assert run("eval", "--loader", "odd.py") == 2
    assert "ModelInit of loader 'odd.py' returns int, not an nn.Module" in capsys.readouterr().err
    text = "def CustomLoader(data_path=None, batch_size=1, shuffle=False): return {}\n"
    for result, words in (
        ("[]", "yields no batch"),
        ("[{'x': 1}]", "yields dict, not pairs .*LoaderWrapper"),
    ):
        Path("none.py").write_text("from bridges.loaders.mlp import *\n" + text.format(result))
        assert run("eval", "--loader", "none.py") == 2
        assert re.search(words, capsys.readouterr().err)


BROKEN = {
    "ModelInit": (
        "def ModelInit(weight_path=None, device='cpu'): return {}['net']",
        2,
        "fails with KeyError: 'net'",
    ),
    "CustomLoader": (
        "def CustomLoader(data_path=None, batch_size=8, shuffle=False): raise IndexError('row 7')",
        2,
        "fails with IndexError: row 7",
    ),
    "a batch": (
        "def CustomLoader(data_path=None, batch_size=8, shuffle=False):\n"
        "    yield from ()\n    assert False, 'no\\nrows'",
        2,
        "CustomLoader of loader 'broken.py' fails with AssertionError: no rows",
    ),
    "CustomLoss": ("class CustomLoss:\n    pass", 2, "fails with TypeError: "),
    "a call of the model": (
        "from torch import nn\nclass Net(nn.Linear):\n    def forward(self, x): return x.missing\n"
        "def ModelInit(weight_path=None, device='cpu'): return Net(1, 1)",
        1,
        r"AttributeError: 'Tensor' object has no attribute 'missing' \(--traceback shows where it comes from\)",
    ),
}


@pytest.mark.parametrize("place", BROKEN)
def test_what_fails_in_a_loader_is_one_line_and_a_traceback_on_request(place, capsys):
    text, code, words = BROKEN[place]
    Path("broken.py").write_text(f"from bridges.loaders.template import *\n{text}\n")
    argv = ["eval", *SMALL, "--loader", "broken.py"]
    assert run(*argv) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(words, line), line
    with pytest.raises(Exception) as caught:  # noqa: PT011  whatever the loader raised
        run(*argv, "--traceback")
    assert any("broken.py" in str(entry.path) for entry in caught.traceback) or caught.value.__cause__


def test_traceback_shows_where_an_error_comes_from():
    with pytest.raises(FileNotFoundError):
        cli.main(["eval", "--weights", "gone.pth", "--traceback"])


def test_an_interruption_ends_with_130_and_one_line(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "viz_lla", interrupted)
    assert run("eval", *SMALL) == 130
    assert capsys.readouterr().err == "lla eval: interrupted\n"


def test_warnings_are_one_line(monkeypatch, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(commands, "viz_lla", lambda *_, **__: warnings.warn("slow today", stacklevel=2))
        with pytest.raises(AttributeError):  # what the stand-in returns is no result
            run("eval", *SMALL, "--traceback")
    assert "lla: warning: slow today\n" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_ends_a_real_run_with_130():
    argv = [sys.executable, "-m", "bridges", "eval", "--loader", "mlp", "--steps", "400"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert "MLP" in process.stdout.readline()
        for _ in range(3):  # Python loses an interruption that falls into a destructor: a user presses again
            time.sleep(2)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                _, error = process.communicate(timeout=10)
                break
    finally:
        process.kill()
    # A shell shows 130 for both; Python chooses the signal where the interruption fell into an exec().
    assert process.returncode in (130, -signal.SIGINT), error
    assert error.splitlines()[-1] == "lla eval: interrupted"
