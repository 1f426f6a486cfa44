"""What both front doors do alike: find the objective, the seed and the folders, and say where numbers come from."""

from __future__ import annotations

import importlib
import platform
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lla_func import hessian as products
from lla_func.errors import instance, shown, usable_device
from lla_func.files import fingerprint, writable_directory
from lla_func.hessian import is_first, shared
from lla_func.objective import Objective, check
from lla_func.options import Output, Products, Setup
from lla_func.spectrum import Operator


def bridge() -> ModuleType:
    """What translates a function of a model, or another model; known by name only, so that nothing depends on it."""
    return importlib.import_module("bridges.metrics")


def metric_of(metric: Any) -> Any:
    """The metric, or one made of a bare function of the model."""
    if callable(metric) and not hasattr(metric, "objective") and not isinstance(metric, type):
        return bridge().metric_of(metric)
    return metric


def objective_of(
    model: Any, metric: Any, setup: Setup, metrics: Mapping[str, Any] | None = None
) -> Objective:
    """The checked objective of a model under a metric, or the :class:`~lla_func.Objective` that came as the model.

    ``metrics`` are further values by name, as the metric takes them, or those of an Objective.
    """
    device, dtype = setup.device, setup.dtype
    if metrics is not None:
        instance("metrics", metrics, Mapping, "a dict of metrics by name")
    metric = metric_of(metric)
    if isinstance(model, Objective):
        if metric is not None:
            raise ValueError("metric is not used with an Objective, which carries its own loss; leave it out")
        if (setup.batchnorm, setup.dropout_seed, dtype) != ("eval", None, None):
            raise ValueError(
                "batchnorm, dropout_seed and dtype cannot change an Objective; set them where it is made"
            )
        check(model)
        objective = model._replace(metrics={**model.metrics, **(metrics or {})})
    elif hasattr(metric, "objective") and not isinstance(metric, type):
        precision = {} if dtype is None else {"dtype": dtype}  # metrics of one's own need not know it
        behavior = {"batchnorm": setup.batchnorm, "dropout_seed": setup.dropout_seed}
        beside = {} if not metrics else {"metrics": metrics}
        objective = metric.objective(model, **behavior, **precision, **beside)
    else:
        raise TypeError(
            f"metric={shown(metric, width=60)} has no objective(model) method; pass "
            "bridges.metrics.Loss(criterion, inputs, targets), or a function of the model that returns the loss"
        )
    actual = objective.theta.device
    if device is not None:
        asked = usable_device("device", device)
        if asked.type != actual.type or asked.index not in (None, actual.index):
            raise ValueError(
                f"device={str(device)!r} is not where the metric evaluates ({actual}); "
                "give the metric this device, or leave device out"
            )
    return objective


def theta_like(objective: Objective, main: Objective) -> Tensor:
    """The theta of an objective with its parameters in the order in which those of another one lie, by their names.

    Modules that define the same layers in another order have them in another order in their theta.
    """
    theta = objective.theta
    if objective.layout.names != main.layout.names:
        theta = main.layout.ravel(objective.layout.unravel(theta))
    return theta.to(main.theta)


def seed_of(seed: int | None) -> int:
    """The seed asked for, or a fresh one from the system's entropy: the global random state is not read."""
    return secrets.randbelow(2**31) if seed is None else seed


def folders_of(output: Output, group: Any) -> tuple[Path, Path] | None:
    """The folders for pictures and for numbers, made and proven writable before any work starts.

    None where nothing is written: not asked for, or the part of another process of the group.
    """
    if not (output.to_save and is_first(group)):
        return None
    pictures = "viz_results" if output.viz_dir is None else output.viz_dir
    numbers = "analysis_results" if output.res_dir is None else output.res_dir
    return writable_directory("viz_dir", pictures), writable_directory("res_dir", numbers)


def operator_of(objective: Objective, asked: Products, group: Any, memory: float | None = None) -> Operator:
    """The operator whose spectrum is asked for, shared by the processes of a group."""
    options: dict[str, Any] = {"kernel": asked.kernel} if asked.curvature == "hessian" else {}
    if memory is not None and asked.curvature != "finite_difference":
        options["memory"] = memory
    form = getattr(products, asked.curvature)
    return shared(form, objective, group=group, parameters=asked.parameters, **options)


def files_line(paths: Mapping[str, Path]) -> list[str]:
    """One line that says where the files of a result are, or none if there are no files."""
    folders = dict.fromkeys(str(path.parent) for path in paths.values())
    return [f"  {len(paths)} files in {', '.join(folders)} (.paths)"] if paths else []


def provenance(objective: Objective) -> dict[str, Any]:
    """What a later reader needs to know whether a run repeats this one.

    Data are fingerprinted where they are at hand; those that are streamed are not read once more for it.
    """
    batches = objective.batches
    return {
        "parameters": len(objective.theta),
        "dtype": str(objective.theta.dtype),
        "device": str(objective.theta.device),
        "theta": fingerprint(objective.theta),
        "data": fingerprint(list(batches)) if isinstance(batches, Sequence) else "streamed",
        "notes": dict(objective.notes),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
