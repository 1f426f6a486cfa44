"""The command line's way to the Hessian: `lla esd`, and Hessian axes, density and criteria in `lla eval`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import run

QUICK = ["--loader", "template", "--esd_n_iter", "6", "--trace_n_iter", "10", "--trace_tol", "10"]


pytestmark = pytest.mark.usefixtures("own_folder")


def test_esd_compares_random_with_trained_weights(capsys):
    assert run("esd", "--loader", "mlp", "--batch_size", "40", *QUICK[2:], "--name", "t", "--seed", "3") == 0
    output = capsys.readouterr().out
    table = {line[:24].strip(): line[24:].split() for line in output.splitlines()}
    for label in ("eigenvalue 1", "eigenvalue 2", "trace", "r_e", "K_h0.5", "products"):
        assert table[label], label
    assert output.count("one start is one draw: K_hn varies") == 1
    assert "C_t" not in output
    summaries = [
        json.loads(Path(f"analysis_results/esd_esd_{stage}_t.json").read_text())["results"]
        for stage in ("init", "pretrained")
    ]
    first, second = (float(table["r_e"][i]) for i in (0, 1))
    assert [first, second] == pytest.approx([summary["re"] for summary in summaries], rel=1e-4)
    assert first != second
    for stage in ("init", "pretrained"):
        assert Path(f"viz_results/esd_{stage}_t_esd.png").stat().st_size > 0


def test_more_runs_print_the_spread_of_k_hn_instead_of_a_note(capsys):
    assert run("esd", *QUICK, "--weights", "None", "--n_v", "3") == 0
    output = capsys.readouterr().out
    assert "(spread " in output
    assert "one draw" not in output


def test_random_weights_alone_make_one_column(capsys):
    assert run("esd", *QUICK, "--weights", "None") == 0
    output = capsys.readouterr().out
    assert "random weights" in output
    assert "trained weights" not in output


def test_layers_add_a_table(capsys):
    assert run("esd", *QUICK, "--layers") == 0
    assert "| layer | parameters | largest eigenvalue |" in capsys.readouterr().out


def test_the_original_command_runs_with_its_flags():
    assert run("esd", *QUICK, "--seed", "42", "--hessian", "-hc", "--name", "hessian_example") == 0


def test_eval_draws_all_modes_with_hessian_axes_density_and_criteria(capsys):
    options = [
        "--all_modes",
        "--axes",
        "hessian",
        "--hessian",
        "-hc",
        "--n_v",
        "2",
        "--steps",
        "2",
        "--name",
        "all",
    ]
    assert run("eval", "--loader", "template", *options) == 0
    written = {
        line.split("/")[-1] for line in capsys.readouterr().out.splitlines() if line.startswith("wrote ")
    }
    assert {"eval_all_all_modes.png", "eval_all_esd.png", "hessian_criteria_eval_all.log"} <= written


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--top_n", "0"], "0 is too small"),
        (["--eigs_tol", "zero"], "'zero' is not a number"),
        (["--max_v", "1"], "1 is too small; the least is 2"),
        (["--curvature", "hesian"], "did you mean 'hessian'"),
        (["--parameters", "no.such"], "'no.such' matches no parameter"),
        (["--nkh", "-1"], "-1 is not a finite number greater than 0"),
        (["--store", "x"], "unrecognized arguments: --store"),
        (["--weights", "missing.pth"], "missing.pth"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_one_clear_line(argv, words, capsys):
    assert run("esd", *QUICK, *argv) == 2
    error = capsys.readouterr().err
    assert words in error
    assert len(error.strip().splitlines()) == 1


OF_THE_ORIGINAL = """-e 3 -lr 0.1 --dist 2 --steps 20 -vr 2 -np 4 -npp 2 -md add -ax random -nm filter -od 1 -lc 10
    -ld logs --freeze 7 --all_modes"""


def test_options_that_the_originals_script_takes_without_use_are_accepted_and_said_to_be_ignored(capsys):
    assert run("esd", *QUICK, "--weights", "None", *OF_THE_ORIGINAL.split()) == 0
    (line,) = capsys.readouterr().err.splitlines()
    names = "epochs, lr, viz_rate, log_dir, dist, steps, num_plots, num_per_plot, mode, axes, norm, order, losscap"
    assert (
        line == f"lla esd: {names}, freeze, all_modes matter for lla eval and lla train only and are ignored"
    )
