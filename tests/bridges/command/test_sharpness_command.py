"""`lla sharpness`: the table that it prints, the JSON that it writes, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from bridges.command._sharpness_options import KINDS
from lla_func.assessment import SHARPNESS
from tests.command import run

QUICK = ["--loader", "template", "--draws", "4"]

pytestmark = pytest.mark.usefixtures("own_folder")


def written(name="default"):
    return json.loads(Path(f"analysis_results/sharpness_{name}.json").read_text())


def test_the_command_knows_all_kinds():
    assert tuple(SHARPNESS) == KINDS


def test_all_kinds_are_printed_and_written(capsys):
    assert run("sharpness", *QUICK, "--name", "t", "--seed", "3") == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
    found = written("t")
    assert set(found["sharpness"]) == set(SHARPNESS)
    for kind, each in found["sharpness"].items():
        assert float(rows[kind][1]) == pytest.approx(float(each["value"]), rel=1e-4)
        assert rows[kind][4] == str(each["products"])
    assert found["settings"]["seed"] == 3
    assert found["sharpness"]["average"]["options"] == {"draws": 4, "seed": 3}
    assert len(found["sharpness"]["average"]["samples"]) == 4


def test_kinds_and_their_options_are_chosen(capsys):
    assert (
        run("sharpness", "--loader", "template", "--kind", "sam,asam", "--rho", "0.2", "--dtype", "float64")
        == 0
    )
    found = written()["sharpness"]
    assert {kind: each["options"] for kind, each in found.items()} == {
        "sam": {"rho": 0.2},
        "asam": {"rho": 0.2},
    }
    assert found["sam"]["error"] < 1e-14
    assert "average" not in capsys.readouterr().out


def test_an_interruption_leaves_the_kinds_before_it(monkeypatch, capsys):
    from bridges.command import _sharpness as command

    measure = command.sharpness

    def interrupted(*operands, kind, **chosen):
        if kind == "average":
            raise KeyboardInterrupt
        return measure(*operands, kind=kind, **chosen)

    monkeypatch.setattr(command, "sharpness", interrupted)
    assert run("sharpness", *QUICK, "--kind", "sam,asam,average") == 130
    assert list(written()["sharpness"]) == ["sam", "asam"]
    assert "asam " in capsys.readouterr().out


def test_the_same_command_gives_the_same_numbers():
    values = []
    for _ in range(2):
        assert run("sharpness", *QUICK, "--kind", "average,basin", "--seed", "7") == 0
        values.append({kind: each["samples"] for kind, each in written()["sharpness"].items()})
    assert values[0] == values[1]


def test_a_kind_that_fails_leaves_the_others(capsys):
    arguments = ["--kind", "sam,average", "--batchnorm", "recalibrate", "--draws", "4"]
    Path("loader.py").write_text(WITH_BATCHNORM)
    assert run("sharpness", "--loader", "loader.py", *arguments) == 0
    assert "recalibrated BatchNorm" in capsys.readouterr().out
    found = written()
    assert (list(found["sharpness"]), list(found["failed"])) == (["average"], ["sam"])
    assert run("sharpness", "--loader", "loader.py", "--kind", "sam", "--batchnorm", "recalibrate") == 2


WITH_BATCHNORM = """
import torch
from torch import nn
from bridges.metrics import Loss

def ModelInit(weight_path=None, device="cpu"):
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).to(device)

def CustomLoader(data_path=None, batch_size=8, shuffle=False):
    return [(torch.randn(8, 3), torch.arange(8) % 2)]

def CustomLoss(x_batch, y_batch, device):
    return Loss(nn.CrossEntropyLoss(), x_batch, y_batch, device)
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "9"], "unrecognized arguments: --steps 9"),
        (["--kind", "asam,sma"], "'sma' is not one of sam, .*did you mean 'sam'"),
        (["--rho", "0"], "--rho: 0 is not a finite number greater than 0"),
        (["--draws", "2"], "--draws: 2 is too small; the least is 4"),
        (["--kind", "sam", "--rise", "1"], "--rise is for none of the kinds asked for"),
        (["--kind", "sam", "--relative"], "--relative is for none of the kinds asked for"),
        (["--name", "a/b"], "cannot be a file name"),
        (["--batchnorm", "train"], "'train' is not one of"),
    ],
)
def test_bad_options_are_refused_in_one_line(arguments, said, capsys):
    assert run("sharpness", "--loader", "template", *arguments) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line
    assert re.search(said, line)
    assert not Path("analysis_results").exists()
