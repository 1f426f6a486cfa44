"""What a call of viz_lla asks for, checked as a whole before any work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lla_func.errors import finite_number, finite_tensor, flag, instance, one_of, positive_int
from lla_func.facades._axes import directions_from
from lla_func.facades._common import folders_of, objective_of, seed_of
from lla_func.geometry import Options, check_panels, panel_options
from lla_func.hessian import check_differentiable, is_first
from lla_func.landscape import MANIFEST, directory, planned, read_manifest
from lla_func.landscape import store as files
from lla_func.objective import Objective
from lla_func.options import Evaluation

__all__ = ["Request", "along", "checked"]


FLAGS = (
    *("b_sqrt", "viz_dev", "eval_hessian", "to_viz", "to_save", "return_loss", "calc_crit"),
    *("log", "quadratic"),
)

FORMS = (np.ndarray, list, tuple, Mapping, torch.nn.Module)
"""What directions may come in beside tensors; looked at when there is an objective to compare them with."""

PLANES = 10_000
"""The most planes of one call."""


class Request(NamedTuple):
    """What a call of :func:`viz_lla` asks for, checked.

    Attributes:
        objective: of the model under the metric.
        axes: a name, or directions [2, P].
        options: how the panels' directions are made and how far they go.
        evaluation: how the points are computed.
        mode: ``"add"`` or ``"adameq"``.
        planes, columns: how many random planes, and how many side by side.
        cap: losses above it are drawn as capped.
        n_kh: the power in the criterion K_hn.
        seed: of the random directions.
        name: of the files.
        folders: for pictures and for numbers, None where nothing is written.
        store: the folder of finished points.
    """

    objective: Objective
    axes: str | Tensor
    options: Options
    evaluation: Evaluation
    mode: str
    planes: int
    columns: int
    cap: float | None
    n_kh: float
    seed: int
    name: str
    folders: tuple[Path, Path] | None
    store: Path | None


def checked(**arguments: Any) -> Request:
    """The request of a call with these arguments, all of them: first what words and numbers tell, then what needs the
    objective. No loss is evaluated, but for the Hessian's one look at whether there is something to differentiate.

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it, its value and what is allowed.
    """
    asked = SimpleNamespace(**arguments)
    for option in FLAGS:
        flag(option, arguments[option])
    axes, mode = asked.axes, "adameq" if asked.mode == "moment" else asked.mode
    options = panel_options(
        dist=asked.dist,
        steps=asked.steps,
        normalization=asked.normalization,
        order=asked.order,
        ignore=asked.ignore,
        freeze=_frozen(asked.raa, asked.freeze),
        distribution=asked.distribution,
        dim=asked.dim,
        b_sqrt=asked.b_sqrt,
        adam_lr=asked.adam_lr,
    )
    planes, columns = (
        positive_int("num_plots", asked.num_plots, most=PLANES),
        positive_int("num_per_plot", asked.num_per_plot),
    )
    if asked.group is not None:
        instance("group", asked.group, dist.ProcessGroup, "a torch.distributed process group, or None")
    cap = None if asked.cap_loss is None else finite_number("cap_loss", asked.cap_loss, above=0)
    _check_axes(axes, mode, asked.optimizer, asked.metric, options.dim)
    one_of("hessian_pair", asked.hessian_pair, ("top", "extremes"))
    n_kh = finite_number("n_kh", asked.n_kh, above=0)
    scaling = (asked.normalization, asked.ignore, asked.freeze, asked.raa)
    unscaled = asked.viz_dev or scaling == (None,) * 4
    if asked.quadratic and not (along(axes, "hessian") and unscaled and asked.dim == 2):
        raise ValueError(
            "quadratic=True needs planes along the eigenvectors themselves: axes='hessian', dim=2, and no "
            "normalization, ignore or freeze"
        )
    if asked.calc_crit and not asked.eval_hessian:
        raise ValueError(
            "calc_crit=True needs eval_hessian=True: the criteria are made of the spectral density"
        )
    if positive_int("n_v", asked.n_v, most=PLANES) > 1 and not asked.eval_hessian:
        raise ValueError(
            f"n_v={asked.n_v} needs eval_hessian=True: it is the number of runs of the spectral density"
        )
    evaluation = Evaluation(**{each.name: arguments[each.name] for each in fields(Evaluation)})
    planned(evaluation)
    if asked.store is not None and asked.seed is None:
        raise ValueError("store= needs seed=, so that the same call finds the same directions again")
    if asked.group is not None and asked.store is None:
        raise ValueError("group= needs store=, a folder that all its processes see, to share the points")
    seed = seed_of(asked.seed)
    name = files.file_name("cur_name", asked.cur_name) + ("_all_modes" if asked.viz_dev else "")
    name = files.file_name("cur_name", name)
    writes = asked.to_save and is_first(asked.group)
    folders = folders_of(asked.viz_dir, asked.res_dir) if writes else None
    store = None if asked.store is None else directory("store", asked.store)
    for manifest in () if store is None else store.glob(f"*/{MANIFEST}"):
        read_manifest(manifest.parent)

    objective = objective_of(
        asked.model,
        asked.metric,
        asked.device,
        batchnorm=asked.batchnorm,
        dropout_seed=asked.dropout_seed,
        dtype=asked.dtype,
    )
    if not isinstance(axes, (str, Tensor)):
        axes = directions_from(axes, objective)
        _check_axes(axes, mode, asked.optimizer, asked.metric, options.dim)
    check_panels(objective, options, axes)
    if asked.eval_hessian or along(axes, "hessian"):
        check_differentiable(objective)
    return Request(
        objective, axes, options, evaluation, mode, planes, columns, cap, n_kh, seed, name, folders, store
    )


def along(axes: Any, kind: str) -> bool:
    """Whether the axes asked for are those of this name."""
    return isinstance(axes, str) and axes == kind


def _check_axes(axes: Any, mode: str, optimizer: Any, metric: Any, dim: int) -> None:
    if isinstance(axes, Tensor):
        finite_tensor("axes", axes, (dim, "P"))
    elif not isinstance(axes, FORMS):
        one_of("axes", axes, ("random", "adam", "hessian"))
    one_of("mode", mode, ("add", "adameq"))
    if mode == "adameq" and not along(axes, "adam"):
        raise ValueError("mode='adameq' needs axes='adam': Adam's update rule is made of its moments")
    if along(axes, "adam") and optimizer is None:
        raise ValueError("axes='adam' needs optimizer=, the Adam-like optimiser that trained the model")
    if along(axes, "adam") and not hasattr(metric, "moments"):
        raise ValueError(
            "axes='adam' needs a metric with moments(model, optimizer), such as bridges.metrics.Loss; with an "
            "Objective, pass the directions themselves as axes"
        )


def _frozen(raa: int | None, freeze: int | str | Iterable[str] | None) -> int | str | Iterable[str] | None:
    if isinstance(raa, str):
        raise TypeError(f"raa={raa!r} is not a whole number; name patterns are for freeze")
    if raa is not None and freeze is not None:
        raise ValueError(f"raa={raa!r} and freeze={freeze!r} are two names of one option; pass only freeze")
    return freeze if raa is None else raa
