"""Options of what goes in and out: the state in which the model is evaluated, the picture, and the files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lla_func.options._family import Family, option
from lla_func.options._kinds import Dtype, Flag, Kind, Positive, Whole, Word

# ruff: noqa: RUF009  a field made by option() is a field


@dataclass(frozen=True, kw_only=True)
class Setup(Family):
    """Where, and in which state, the model is evaluated."""

    # fmt: off
    device: Any = option(None, Kind(), help=
        "where to compute; it must be the metric's device, which is the default.")
    batchnorm: str = option("eval", Word("eval", "batch", "recalibrate"), "--batchnorm", help=
        "statistics of BatchNorm: eval (stored), batch (of the data) or recalibrate (anew at each point, without "
        "Hessians).")
    dropout_seed: int | None = option(None, Whole(0, 2**64 - 1), help=
        "evaluate with dropout active, the same mask at every point; by default it is off.")
    dtype: Any = option(None, Dtype("float32", "float64"), "--dtype", help=
        "float32 or float64 to evaluate a copy of the model and of the data in this precision. Models in bfloat16 or "
        "float16 need it: with 8 or 11 bits a surface has a few distinct losses only.")
    # fmt: on


@dataclass(frozen=True, kw_only=True)
class Between(Setup):
    """Where, and in which state, points between models are evaluated."""

    # fmt: off
    batchnorm: str = option("recalibrate", Word("eval", "batch", "recalibrate"), "--batchnorm", help=
        "statistics of BatchNorm: recalibrate (anew at each point), batch (of the data) or eval (those of the first "
        "model). The activations between two models fit the statistics of neither, so that with those of one end the "
        "loss in the middle is high for that reason alone (Garipov et al. 2018, appendix; Izmailov et al. 2018, "
        "section 3.2).")
    # fmt: on


@dataclass(frozen=True, kw_only=True)
class Picture(Family):
    """How a landscape is drawn, and under which name it is kept."""

    # fmt: off
    cap_loss: float | None = option(None, Positive(), "-lc", "--losscap", help=
        "draw losses above this as capped. The saved losses are the true ones.")
    log: bool = option(False, Flag(), "--log", help="draw on a logarithmic scale.")
    cur_name: str = option("default", Kind(), help="a name for the run, and for its files.")
    # fmt: on


@dataclass(frozen=True, kw_only=True)
class Drawing(Picture):
    """How a landscape around a point is drawn, under which name it is kept, and what is returned."""

    # fmt: off
    quadratic: bool = option(False, Flag(), help=
        "overlay contours of what the eigenvalues predict, 1/2 (l1 a^2 + l2 b^2), on unscaled Hessian axes.")
    return_loss: bool = option(False, Flag(), help=
        "return the losses as in the original instead of the result: an array [steps, steps], or with several panels "
        'a dict of arrays by row and column of the figure, ``"00"``, ``"01"``, ``"10"``, ... They are clipped at '
        "``cap_loss`` as there.")
    # fmt: on


@dataclass(frozen=True, kw_only=True)
class Output(Family):
    """Which files are written, and where."""

    # fmt: off
    to_save: bool = option(True, Flag(), help=
        "write the pictures, the numbers (npz) and the settings (JSON).")
    to_viz: bool = option(False, Flag(), help="show the picture.")
    viz_dir: str | Path | None = option(None, Kind("DIR"), "-vd", "--viz_dir", help=
        "folder for pictures (default: viz_results).")
    res_dir: str | Path | None = option(None, Kind("DIR"), "-rd", "--res_dir", help=
        "folder for numbers and settings (default: analysis_results).")
    # fmt: on
