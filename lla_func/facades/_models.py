"""Several models, or points in weight space, under the metrics that are asked of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lla_func.errors import instance, names, shown
from lla_func.facades._axes import theta_from
from lla_func.facades._common import bridge, metric_of, objective_of, theta_like
from lla_func.landscape.engines import tolerance
from lla_func.objective import Objective, risk
from lla_func.options import Setup

MAIN = "loss"
"""What the loss of the first metric is called among others."""


class Models(NamedTuple):
    """Models of one architecture as points in weight space.

    Attributes:
        names: of the models, [n].
        thetas: [n] vectors [P].
        objectives: by the name of the metric, the first one :data:`MAIN`; all of the first model.
        modules: the models themselves, empty where thetas were given.
        metric: of the modules.
        setup: how they are evaluated.
    """

    names: tuple[str, ...]
    thetas: tuple[Tensor, ...]
    objectives: Mapping[str, Objective]
    modules: tuple[Any, ...]
    metric: Any
    setup: Setup


def models_from(
    models: Any,
    metric: Any,
    also: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    setup: Setup,
    given: Sequence[str] | None,
) -> Models:
    """The models as points of one objective, checked by names and shapes; no loss is evaluated.

    Args:
        models: modules; or, with an Objective as the metric, vectors [P] or named tensors.
        metric: of the modules, or an Objective.
        also: further metrics by name, or Objectives.
        metrics: further values of the first one.
        setup: how they are evaluated.
        given: the models' names.

    Raises:
        ValueError, TypeError: they are not of one architecture, or none of these; what differs is named.
    """
    if isinstance(models, (str, bytes, torch.nn.Module, Mapping)) or not hasattr(models, "__iter__"):
        raise TypeError(f"models={shown(models, width=40)} is not a list of models; pass [model_a, model_b]")
    items = list(models)
    if len(items) < 2:
        raise ValueError(
            f"models has {len(items)} model{'s' * (len(items) != 1)}; pass two or more (viz_lla shows what is around "
            "one)"
        )
    known = names_of(given, len(items))
    asked = {MAIN: metric, **_further(also)}
    if isinstance(metric, Objective):
        return _points(items, _given(asked, metrics, setup), setup, known)
    for name, item in zip(known, items, strict=True):
        if isinstance(item, (Tensor, Mapping)) or not hasattr(item, "parameters"):
            raise TypeError(
                f"model {name!r} is of type {type(item).__name__}; pass modules with a metric, or vectors [P] with an "
                "Objective such as metric.objective(model)"
            )
    door = bridge()
    door.check_alike(dict(zip(known, items, strict=True)))
    asked = {name: metric_of(each) for name, each in asked.items()}
    if wrong := [name for name, each in asked.items() if isinstance(each, Objective)]:
        raise TypeError(
            f"also[{wrong[0]!r}] is an Objective, metric is none; pass metrics, or Objectives only"
        )
    objectives = _made(items[0], asked, metrics, setup)
    main = objectives[MAIN]
    others = (theta_like(objective_of(item, asked[MAIN], setup), main) for item in items[1:])
    return Models(known, (main.theta, *others), _fitting(objectives), tuple(items), asked[MAIN], setup)


def points_of(
    thetas: Sequence[Tensor],
    metric: Any,
    also: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    like: Any,
    setup: Setup,
    given: Sequence[str] | None,
) -> Models:
    """Points in weight space whose model is not known to them: of an Objective, or of the model ``like``.

    Raises:
        ValueError, TypeError: there is neither, or the points do not fit it.
    """
    known = names_of(given, len(thetas))
    asked = {MAIN: metric, **_further(also)}
    if isinstance(metric, Objective):
        refuse_like(like)
        return _points(thetas, _given(asked, metrics, setup), setup, known)
    if like is None:
        raise ValueError("like= is missing: pass the model that this is of, or an Objective as the metric")
    asked = {name: metric_of(each) for name, each in asked.items()}
    return _points(thetas, _made(like, asked, metrics, setup), setup, known)


def own_losses(models: Models) -> tuple[Tensor, Tensor]:
    """The loss of each model as a point of the objective, and with the statistics that it has stored itself.

    Modules are evaluated by themselves, too: as points of the first model's objective they have its frozen
    parameters, its buffers, and whatever else is no parameter.

    Returns:
        both [n] float64. They differ where statistics of BatchNorm are not the stored ones.

    Raises:
        ValueError: models differ in more than what moves; the difference is named.

    Warns:
        RuntimeWarning: they differ in statistics of BatchNorm only, and ``batchnorm`` says that those of the first
            model are taken for all.
    """
    main = models.objectives[MAIN]
    here = torch.stack([risk(main, theta) for theta in models.thetas])
    if not models.modules:
        return here, here
    stored, own = [], []
    usual = replace(models.setup, batchnorm="eval")
    recalibrated = main.adapt is not None or models.setup.batchnorm != "eval"
    for module in models.modules:
        own.append(risk(objective_of(module, models.metric, models.setup)))
        stored.append(risk(objective_of(module, models.metric, usual)) if recalibrated else own[-1])
    found = torch.stack(own)
    bound = tolerance(main.theta.dtype)
    off = ~torch.isclose(here, found, rtol=bound, atol=0.0, equal_nan=True)
    if off.any():
        index = int(off.nonzero()[0])
        _explain(models, index, float(found[index]), float(here[index]))
    return here, torch.stack(stored)


def _explain(models: Models, index: int, own: float, here: float) -> None:
    """Says in what a model differs from the first one besides theta: an error, or a warning of statistics."""
    first, other = models.names[0], models.names[index]
    differing = bridge().different_constants([models.modules[0], models.modules[index]])
    said = f"the loss of {other!r} is {own:.6g}, but {here:.6g} with what {first!r} has besides parameters that move"
    if differing["statistics"] and not differing["frozen"] and not differing["buffers"]:
        warnings.warn(
            f"{said}: statistics of BatchNorm, such as {differing['statistics'][0]}; batchnorm='recalibrate' gathers "
            "them anew at each point",
            RuntimeWarning,
            stacklevel=5,
        )
        return
    if differing["frozen"]:
        reason = f"parameters that are frozen, such as {differing['frozen'][0]}; let them move (requires_grad_(True))"
    elif differing["buffers"]:
        reason = f"buffers, such as {differing['buffers'][0]}; give both models the same ones"
    else:
        reason = "neither parameters nor buffers; are their layers the same, with the same settings?"
    raise ValueError(f"{said}. They differ in {reason}")


def _given(
    asked: Mapping[str, Any], metrics: Mapping[str, Any] | None, setup: Setup
) -> Mapping[str, Objective]:
    """The Objectives that came instead of metrics, checked."""
    if wrong := [name for name, each in asked.items() if not isinstance(each, Objective)]:
        raise TypeError(
            f"also[{wrong[0]!r}] is no Objective, but metric is one; pass Objectives only, or metrics only"
        )
    plain = settled(setup)
    return {
        name: objective_of(each, None, plain, metrics if name == MAIN else None)
        for name, each in asked.items()
    }


def settled(setup: Setup) -> Setup:
    """The options for an Objective, which has made up its mind of BatchNorm: the default of paths asks nothing of it.

    What else was asked for stays, and is refused.
    """
    return replace(setup, batchnorm="eval") if setup.batchnorm == "recalibrate" else setup


def refuse_like(like: Any) -> None:
    """Raises a ValueError where a model came beside an Objective."""
    if like is not None:
        raise ValueError("like= is not used with an Objective, which knows its model; leave it out")


def _made(
    model: Any, asked: Mapping[str, Any], metrics: Mapping[str, Any] | None, setup: Setup
) -> Mapping[str, Objective]:
    """The objectives of a model, the first one with further values."""
    return {
        name: objective_of(model, each, setup, metrics if name == MAIN else None)
        for name, each in asked.items()
    }


def _points(
    items: Sequence[Any], objectives: Mapping[str, Objective], setup: Setup, known: tuple[str, ...]
) -> Models:
    """Vectors, or named tensors, as points of objectives."""
    thetas = tuple(
        theta_from(f"model {name!r}", item, objectives[MAIN]) for name, item in zip(known, items, strict=True)
    )
    return Models(known, thetas, _fitting(objectives), (), None, setup)


def _fitting(objectives: Mapping[str, Objective]) -> Mapping[str, Objective]:
    """The objectives, if all are of the same parameters."""
    main = objectives[MAIN]
    for name, each in objectives.items():
        if (each.layout.names, each.layout.shapes) != (main.layout.names, main.layout.shapes):
            raise ValueError(f"also[{name!r}] is of other parameters than the metric")
        for what in ("dtype", "device"):
            if getattr(each.theta, what) != getattr(main.theta, what):
                raise ValueError(
                    f"also[{name!r}] has {what} {getattr(each.theta, what)}, the metric has "
                    f"{getattr(main.theta, what)}"
                )
    return objectives


def _further(also: Mapping[str, Any] | None) -> dict[str, Any]:
    if also is None:
        return {}
    instance("also", also, Mapping, 'a dict of metrics by name, such as {"test": metric_test}')
    for name in also:
        if not isinstance(name, str) or not name.strip() or name == MAIN:
            raise ValueError(f"also has the name {name!r}; pass words other than {MAIN!r}, the metric's own")
    return dict(also)


def names_of(given: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """The names of so many models: those given, or a, b, ..."""
    if given is None:
        return tuple(chr(ord("a") + i) if count <= 26 else f"model {i + 1}" for i in range(count))
    known = names("names", given)
    if len(known) != count or len(set(known)) != count:
        raise ValueError(f"names={shown(known)} does not name {count} models; pass one name for each")
    return known
