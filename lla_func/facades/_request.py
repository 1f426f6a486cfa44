"""What a call of viz_lla asks for, checked as a whole before any work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist
from torch import Tensor

from lla_func.errors import finite_tensor, instance
from lla_func.facades._axes import directions_from
from lla_func.facades._common import folders_of, metric_of, objective_of, seed_of
from lla_func.files import file_name
from lla_func.geometry import check_panels
from lla_func.hessian import check_differentiable
from lla_func.landscape import MANIFEST, directory, planned, read_manifest
from lla_func.objective import Objective
from lla_func.options import Drawing, Evaluation, Hessian, Output, Panels, Setup

Families = tuple[Panels, Evaluation, Hessian, Setup, Drawing, Output]

MEASURABLE = ("hessian", "finite_difference")
"""Matrices whose eigenvalues are second derivatives of the loss."""


class Request(NamedTuple):
    """What a call of :func:`viz_lla` asks for, checked.

    Attributes:
        model, metric, optimizer, group, metrics: the operands.
        panels, evaluation, hessian, setup, drawing, output: the options.
        objective: of the model under the metric.
        axes: a name, or directions [2, P].
        within: a mask [P] of the parameters that the Hessian is restricted to, or None.
        seed: of the random directions.
        name: of the files.
        folders: for pictures and for numbers, None where nothing is written.
        store: the folder of finished points.
    """

    model: Any
    metric: Any
    optimizer: Any
    group: Any
    metrics: Mapping[str, Any] | None
    panels: Panels
    evaluation: Evaluation
    hessian: Hessian
    setup: Setup
    drawing: Drawing
    output: Output
    objective: Objective
    axes: str | Tensor
    within: Tensor | None
    seed: int
    name: str
    folders: tuple[Path, Path] | None
    store: Path | None

    @property
    def columns(self) -> int:
        """How many panels stand side by side."""
        return 2 if self.panels.viz_dev else self.panels.num_per_plot


def checked(model: Any, metric: Any, optimizer: Any, group: Any, metrics: Any, families: Families) -> Request:
    """The request of a call; what is left to check of options that are right by themselves.

    No loss is evaluated, but for the Hessian's one look at whether there is something to differentiate.
    """
    panels, evaluation, hessian, setup, drawing, output = families
    metric, axes = metric_of(metric), panels.axes
    if group is not None:
        instance("group", group, dist.ProcessGroup, "a torch.distributed process group, or None")
    _check_axes(panels, optimizer, metric)
    _check_hessian(panels, hessian, drawing)
    planned(evaluation)
    if evaluation.store is not None and panels.seed is None:
        raise ValueError("store= needs seed=, so that the same call finds the same directions again")
    if group is not None and evaluation.store is None:
        raise ValueError("group= needs store=, a folder that all its processes see, to share the points")
    name = file_name("cur_name", drawing.cur_name) + ("_all_modes" if panels.viz_dev else "")
    name = file_name("cur_name", name)
    folders = folders_of(output, group)
    store = None if evaluation.store is None else directory("store", evaluation.store)
    for manifest in () if store is None else store.glob(f"*/{MANIFEST}"):
        read_manifest(manifest.parent)

    objective = objective_of(model, metric, setup, metrics)
    for other in objective.metrics:
        file_name("metrics", f"{name}_{other}")
    if not isinstance(axes, str):
        axes = finite_tensor("axes", directions_from(axes, objective), (panels.dim, "P"))
    within = _restricted(objective, panels, hessian)
    check_panels(objective, panels, axes, within=within if panels.along("hessian") else None)
    if hessian.eval_hessian or hessian.curvature_map or panels.along("hessian"):
        check_differentiable(objective)
    seed = seed_of(panels.seed)
    return Request(
        *(model, metric, optimizer, group, metrics, *families),
        *(objective, axes, within, seed, name, folders, store),
    )


def _check_axes(panels: Panels, optimizer: Any, metric: Any) -> None:
    if isinstance(panels.axes, Tensor):  # what has other forms is looked at when there is an objective
        finite_tensor("axes", panels.axes, (panels.dim, "P"))
    if panels.along("adam") and optimizer is None:
        raise ValueError("axes='adam' needs optimizer=, the Adam-like optimizer that trained the model")
    if panels.along("adam") and not hasattr(metric, "moments"):
        raise ValueError(
            "axes='adam' needs a metric with moments(model, optimizer), such as bridges.metrics.Loss; with an "
            "Objective, pass the directions themselves as axes"
        )


def _check_hessian(panels: Panels, hessian: Hessian, drawing: Drawing) -> None:
    """What is asked of the Hessian must be of use: for axes along its eigenvectors, for its density, for contours."""
    for option, usual in (("curvature", "hessian"), ("kernel", "auto"), ("parameters", None)):
        value = getattr(hessian, option)
        used = hessian.eval_hessian or hessian.curvature_map or panels.along("hessian")
        if value != usual and not used:
            raise ValueError(
                f"{option}={value!r} needs axes='hessian' or eval_hessian=True, or curvature_map=8: it is about the "
                "Hessian"
            )
    unscaled = panels.viz_dev or (panels.normalization, panels.ignore, panels.frozen) == (None,) * 3
    if drawing.quadratic and not (panels.along("hessian") and unscaled and panels.dim == 2):
        raise ValueError(
            "quadratic=True needs planes along the eigenvectors themselves: axes='hessian', dim=2, and no "
            "normalization, ignore or freeze"
        )
    if drawing.quadratic and hessian.curvature not in MEASURABLE:
        raise ValueError(
            f"quadratic=True needs the Hessian's own eigenvalues, not those of curvature={hessian.curvature!r}"
        )


def _restricted(objective: Objective, panels: Panels, hessian: Hessian) -> Tensor | None:
    """The parameters that the Hessian is restricted to, as a mask [P]."""
    if hessian.parameters is None:
        return None
    layout = objective.layout
    chosen = layout.matching(hessian.parameters, name="parameters")
    if panels.along("hessian") and (size := layout.only(chosen).numel) < panels.dim:
        raise ValueError(
            f"parameters={hessian.parameters!r} has {size} element for {panels.dim} axes; pass dim=1, or more of them"
        )
    return layout.mask(chosen, device=objective.theta.device)
