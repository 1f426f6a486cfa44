"""The command line: what it writes and prints, and one clear line for everything that can be wrong."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path

import pytest
import torch

from bridges import weights
from bridges.command import _cli as cli
from bridges.command import _eval as commands
from bridges.loaders import lenet, mlp
from lla_func import risk
from lla_func.landscape._store import load_landscapes
from tests.command import run

ORIGINAL = str(Path(__file__).parents[2] / "loader_of_the_original.py")
SMALL = ["--loader", "template", "--steps", "3", "-np", "1"]


ORIGINAL_OPTIONS = """
    --data --weights --seed -e --epochs -lr --dist --steps -vr --viz_rate -np --num_plots -npp --num_per_plot -md --mode
    -ax --axes -nm --norm -od --order -lc --losscap --nkh -vd --viz_dir -ld --log_dir -rd --res_dir --name
    --freeze --cuda --all_modes -he --hessian -hc --calc_crit
"""


pytestmark = pytest.mark.usefixtures("own_folder")


def written(output: str) -> list[Path]:
    return [Path(line.removeprefix("wrote ")) for line in output.splitlines() if line.startswith("wrote ")]


# ---- lla eval ------------------------------------------------------------------------------------------------------


def test_eval_writes_pictures_numbers_and_settings_and_prints_where(capsys):
    assert run("eval", *SMALL, "--name", "first") == 0
    paths = written(capsys.readouterr().out)
    assert {path.suffix for path in paths} == {".png", ".npz", ".json"}
    assert all(path.is_file() and path.stat().st_size > 0 and "eval_first" in path.name for path in paths)
    assert {path.parent for path in paths} == {Path("viz_results"), Path("analysis_results")}


def test_eval_ends_with_the_loss_at_the_center_of_the_bundled_lenet_and_digits(capsys):
    assert run("eval", "--steps", "2", "-np", "1") == 0
    output = capsys.readouterr().out
    metric = lenet.CustomLoss(*next(iter(lenet.CustomLoader(batch_size=256))))
    expected = float(risk(metric.objective(lenet.ModelInit())))
    assert "LeNet, 61,706 parameters, 256 samples, cpu" in output
    assert output.splitlines()[-1] == f"loss at the center: {expected:.6g}"


def test_all_modes_draw_one_panel_a_mode(capsys):
    assert run("eval", "--loader", "template", "--steps", "3", "--all_modes", "--name", "quickstart") == 0
    (numbers,) = [path for path in written(capsys.readouterr().out) if path.suffix == ".npz"]
    landscapes, titles = load_landscapes(numbers)
    assert len(landscapes) == len(set(titles)) >= 4


def test_the_same_command_gives_the_same_numbers_and_another_seed_others():
    losses = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        assert run("eval", *SMALL, "--weights", "None", "--seed", seed, "--name", name) == 0
        losses.append(load_landscapes(f"analysis_results/eval_{name}.npz")[0][0].losses)
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_options_reach_the_landscape():
    options = ["--dist", "0.5", "--norm", "filter", "--order", "1", "--freeze", "-2", "--losscap", "3.5"]
    assert run("eval", *SMALL, *options, "--engine", "loop", "--batchnorm", "recalibrate") == 0
    settings = json.loads(Path("analysis_results/eval_default.json").read_text())
    expected = {"dist": 0.5, "normalization": "filter", "order": 1, "freeze": -2, "cap_loss": 3.5, "steps": 3}
    expected |= {"engine": "loop", "batchnorm": "recalibrate", "num_plots": 1, "seed": 0}
    assert {name: settings[name] for name in expected} == expected
    (landscape,), _ = load_landscapes("analysis_results/eval_default.npz")
    assert landscape.coords.abs().max() == 0.25


def test_parameters_can_be_frozen_by_name():
    assert run("eval", *SMALL, "--freeze", "2.*") == 0
    assert json.loads(Path("analysis_results/eval_default.json").read_text())["freeze"] == "2.*"


def test_every_option_of_the_drawing_reaches_the_landscape():
    options = ["--ignore", "bias_norm", "--dim", "1", "--log", "--distribution", "uniform"]
    assert run("eval", *SMALL, *options, "--hessian_pair", "extremes") == 0
    settings = json.loads(Path("analysis_results/eval_default.json").read_text())
    expected = {"ignore": "bias_norm", "dim": 1, "log": True, "distribution": "uniform"}
    expected |= {"hessian_pair": "extremes"}
    assert {name: settings[name] for name in expected} == expected
    (landscape,), _ = load_landscapes("analysis_results/eval_default.npz")
    assert landscape.coords.shape == (3, 1)


def test_weights_and_batch_size_are_taken(capsys):
    saved = weights.save(mlp.ModelInit(weight_path=None), "random.pth")
    argv = ["eval", "--loader", "mlp", "--steps", "2", "-np", "1"]
    assert run(*argv, "--weights", str(saved), "--batch_size", "100") == 0
    output = capsys.readouterr().out
    assert "100 samples" in output
    assert float(output.rsplit(maxsplit=1)[-1]) > 2  # about log 10 without training
    assert run(*argv, "--weights", "-1") == 0
    assert float(capsys.readouterr().out.rsplit(maxsplit=1)[-1]) < 0.1


def test_a_loader_file_written_for_the_original_runs(capsys):
    assert run("eval", *SMALL, "--loader", ORIGINAL, "--classes", "4") == 0
    assert "Net, 59 parameters, 8 samples" in capsys.readouterr().out


def test_options_for_training_are_accepted_by_eval_and_said_to_be_ignored(capsys):
    assert run("eval", *SMALL, "-e", "3", "-lr", "0.1", "-vr", "2", "-ld", "logs") == 0
    assert "epochs, lr, viz_rate, log_dir matter for lla train only" in capsys.readouterr().err


# ---- lla train -----------------------------------------------------------------------------------------------------


def test_train_saves_weights_that_eval_loads_a_log_and_landscapes_at_the_rate(capsys):
    argv = ["train", *SMALL, "--name", "run", "-e", "4", "-lr", "0.05", "--viz_rate", "2"]
    assert run(*argv) == 0
    output = capsys.readouterr().out
    assert len(Path("train_logs/run.jsonl").read_text().splitlines()) == 4
    drawn = {path.stem for path in Path("analysis_results").glob("*.npz")}
    assert drawn == {"run_epoch_0", "run_epoch_2", "run_epoch_3"}
    assert written(output)[-1] == Path("train_logs/run.pth")
    loss = float(next(line for line in output.splitlines() if "training data" in line).split()[-1])
    assert run("eval", *SMALL, "--weights", "train_logs/run.pth") == 0
    assert float(capsys.readouterr().out.split()[-1]) == pytest.approx(loss, rel=1e-4)


def test_training_repeats_bit_for_bit():
    for name in ("one", "two"):
        assert run("train", *SMALL, "--name", name, "--viz_rate", "0", "--batch_size", "30") == 0
    one, two = (torch.load(f"train_logs/{name}.pth", weights_only=True) for name in ("one", "two"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_adam_axes_with_adams_update_rule():
    assert run("train", *SMALL, "--axes", "adam", "--mode", "adameq") == 0
    settings = json.loads(Path("analysis_results/default_epoch_0.json").read_text())
    assert (settings["axes"], settings["mode"]) == ("adam", "adameq")


def test_a_loader_with_a_split_is_scored_on_held_out_data(capsys):
    argv = [
        "train",
        "--loader",
        "mlp",
        "--shift",
        "1",
        "--schedule",
        "cosine",
        "-vr",
        "0",
        "-e",
        "2",
        "-lr",
        "0.003",
    ]
    assert run(*argv) == 0
    record = json.loads(Path("train_logs/default.jsonl").read_text().splitlines()[-1])
    assert record["held_out_accuracy"] > 0.7
    assert f"held out {100 * record['held_out_accuracy']:.2f} %" in capsys.readouterr().out


def test_a_loader_whose_batches_end_for_good_trains_every_epoch():
    assert run("train", "--loader", ORIGINAL, "-e", "3", "-vr", "0", "--batch_size", "5") == 0
    assert len(Path("train_logs/default.jsonl").read_text().splitlines()) == 3


# ---- what can be wrong ---------------------------------------------------------------------------------------------

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


# ---- help ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [[], ["eval"], ["train"]])
def test_help_shows_examples_and_fits_a_terminal(command, capsys):
    assert run(*command, "--help") == 0
    text = capsys.readouterr().out
    assert "examples:\n  lla " in text
    assert max(map(len, text.splitlines())) <= 120


def test_help_shows_the_original_options_and_their_defaults(capsys):
    run("train", "--help")
    text = " ".join(capsys.readouterr().out.split())
    for option in ORIGINAL_OPTIONS.split() + ["--loader", "--device", "--batchnorm", "--engine"]:
        assert f"{option} " in text or f"{option}," in text
    assert "points along each axis (default: 40)" in text
    assert "(default: 0)" in text  # the seed


def test_every_example_in_the_help_is_a_valid_command():
    for text in (cli.EPILOG, cli.EVAL_EPILOG, cli.TRAIN_EPILOG):
        lines = [line.strip().split("  ")[0] for line in text.splitlines() if line.startswith("  lla ")]
        assert lines
        for line in lines:
            cli.parser().parse_args(shlex.split(line)[1:])


def test_help_needs_no_torch():
    code = "import sys, bridges.command as c; c.parser().format_help(); print(*({'torch', 'numpy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "\n"


def test_the_version_is_that_of_the_distribution(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"lla_func {metadata.version('lla-func')}\n"


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
