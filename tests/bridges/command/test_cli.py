"""The command line: what `lla eval` and `lla train` write and print, and what the help says."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch

from bridges import weights
from bridges.command import _cli as cli
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
