"""The panels of viz_lla: which surfaces through weight space it shows, and under which titles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lla_func.geometry import _chart as charts
from lla_func.geometry import _directions as directions
from lla_func.geometry._chart import Chart
from lla_func.geometry._directions import Moments
from lla_func.objective import Objective
from lla_func.options import Panels


class Axes(NamedTuple):
    """Directions as they come, before any scaling.

    Attributes:
        name: what they are, for titles.
        directions: [K, P].
        labels: one for each, or none.
        random: whether any other directions as random as these would do as well.
    """

    name: str
    directions: Tensor
    labels: tuple[str, ...] = ()
    random: bool = False


class Panel(NamedTuple):
    """A titled surface through weight space with the coordinates to evaluate, [N, C]."""

    title: str
    chart: Chart
    coords: Tensor


def check_panels(
    objective: Objective, options: Panels, axes: str | Tensor, *, within: Tensor | None = None
) -> None:
    """Raises what :func:`panels` would raise for these options, before there are any eigenvectors or moments.

    Random directions stand in for those that are not there yet: they have parts everywhere, or ``within`` a mask [P].
    """
    if isinstance(axes, Tensor):
        found = Axes("given", axes)
    else:
        found = _draw(objective, torch.Generator().manual_seed(0), options)._replace(name=axes)
    if within is not None:
        found = found._replace(directions=found.directions.to(within.device) * within)
    _plane(objective, found, options, f"{found.name} axes")


def panels(
    objective: Objective,
    options: Panels,
    *,
    axes: str | Tensor,
    generator: torch.Generator,
    moments: Moments | None = None,
    eigenvectors: Tensor | None = None,
    curvature: str = "hessian",
    eigenvalues: Sequence[float] = (),
) -> Iterator[Panel]:
    """The panels that a call of ``viz_lla`` asks for, one after another.

    Args:
        objective: gives the trained point and its layout.
        options: how directions are made, how many planes there are, and of which mode.
        axes: ``"random"``, ``"adam"``, ``"hessian"``, or directions [2, P].
        generator: the source of random directions.
        moments: needed for ``axes="adam"``.
        eigenvectors, eigenvalues, curvature: [2, P], needed for ``axes="hessian"``; theirs, and the matrix's name, for
            labels.
    """
    fixed: Axes | None = None
    if eigenvectors is not None:
        labels = tuple(f"eigenvector of {value:.3g}" for value in eigenvalues)
        fixed = Axes(curvature, eigenvectors, labels)
    elif moments is not None:
        fixed = Axes("adam", moments.directions, ("first moment", "second moment"))
    elif isinstance(axes, Tensor):
        fixed = Axes("given", axes)

    if options.viz_dev:
        yield from _all_modes(objective, generator, options, fixed, moments)
    elif fixed is None:
        for number in range(1, options.num_plots + 1):
            title = f"random plane {number}" if options.num_plots > 1 else "random axes"
            yield _plane(objective, _draw(objective, generator, options), options, title)
    elif moments is not None and options.mode == "adameq":
        yield _adam_update(objective, moments, options, "Adam update")
    else:
        yield _plane(objective, fixed, options, f"{fixed.name} axes")


def _all_modes(
    objective: Objective,
    generator: torch.Generator,
    options: Panels,
    fixed: Axes | None,
    moments: Moments | None,
) -> Iterator[Panel]:
    """The original's ``viz_dev``: the same directions under several normalizations.

    Always the random axes, then the fixed ones if there are any, and with ``moments`` Adam's update rule. The random
    directions are drawn once, so that their panels differ in normalization only.
    """
    for axes in (_draw(objective, generator, options), fixed):
        if axes is None:
            continue
        for normalization, order in ((None, 2), ("weight", 2), ("filter", 1), ("filter", 2)):
            variant = replace(options, normalization=normalization, order=order)
            yield _plane(objective, axes, variant, f"{axes.name} axes, {_describe(variant)}")
    if moments is not None:
        for normalization in (None, "filter"):
            variant = replace(options, normalization=normalization, order=2)
            yield _adam_update(objective, moments, variant, f"Adam update, {_describe(variant)}")


def _adam_update(objective: Objective, moments: Moments, options: Panels, title: str) -> Panel:
    """Adam's update with scaled moments (:func:`lla_func.geometry.adameq`).

    The first coordinate runs over dist * [-1, 1], in Adam steps; the second over [0.1, 2.1], as in the original. A
    normalization scales Adam's step as a whole; the original scales the two moments before it divides one by the
    other, which normalizes neither.
    """
    lr = moments.lr if options.adam_lr is None else options.adam_lr
    step = directions.adam_step(moments.first, moments.second, lr=lr, eps=moments.eps)
    step = _scale(objective, step.unsqueeze(0).to(objective.theta), options)[0]
    a = options.dist * torch.linspace(-1.0, 1.0, options.steps, dtype=torch.float64)
    b = torch.linspace(0.1, 2.1, options.steps, dtype=torch.float64)
    return Panel(title, charts.adameq(objective.theta, step, b_sqrt=options.b_sqrt), charts.mesh(a, b))


def _draw(objective: Objective, generator: torch.Generator, options: Panels) -> Axes:
    drawn = directions.random(
        objective.layout,
        options.dim,
        generator=generator,
        distribution=options.distribution,
        dtype=objective.theta.dtype,
    )
    return Axes("random", drawn, random=True)


def _plane(objective: Objective, axes: Axes, options: Panels, title: str) -> Panel:
    """The plane of two directions, or the line along the first (``dim=1``), scaled and frozen as asked for."""
    raw, dim = axes.directions, options.dim
    if raw.ndim != 2 or len(raw) < dim or raw.shape[1] != len(objective.theta):
        raise ValueError(f"axes has shape {list(raw.shape)}; pass directions [{dim}, {len(objective.theta)}]")
    raw = raw[:dim].to(objective.theta)
    if axes.random:
        # Orthogonal among what moves: with a single element frozen elsewhere the axes would tilt.
        moving = free_parameters(objective, options)
        if not moving.all():
            raw = torch.where(moving, directions.orthogonalize(raw * moving, objective.layout), raw)
    basis = _scale(objective, raw, options)
    if not (basis != 0).any(dim=1).all():
        raise ValueError(
            f"nothing moves along {title}: normalization={options.normalization!r}, ignore={options.ignore!r} and "
            f"freeze={options.frozen!r} leave no direction, or the weights are all zero"
        )
    if axes.random and options.normalization == "weight":
        # Scaling element by element tilts the axes. Orthogonalizing afterwards gives the scaled form of another
        # random direction, so nothing is lost.
        basis = directions.orthogonalize(basis, objective.layout)
    axis = options.dist * torch.linspace(-0.5, 0.5, options.steps, dtype=torch.float64)
    labels = axes.labels[:dim] or None
    chart = charts.span(objective.theta, *basis, kind="line" if dim == 1 else "plane", labels=labels)
    return Panel(title, chart, charts.mesh(*[axis] * dim))


def _scale(objective: Objective, raw: Tensor, options: Panels) -> Tensor:
    theta, layout = objective.theta, objective.layout
    basis = directions.normalize(raw, theta, layout, kind=options.normalization, order=options.order)
    return _masked(objective, basis, options)


def free_parameters(objective: Objective, options: Panels) -> Tensor:
    """What may move: the parameters that are neither ignored nor frozen, a boolean vector [P]."""
    return _masked(objective, torch.ones_like(objective.theta)[None], options)[0] > 0


def _masked(objective: Objective, basis: Tensor, options: Panels) -> Tensor:
    """Directions without the parts that are ignored or frozen."""
    if options.ignore is not None:
        basis = directions.without_bias_norm(basis, objective.layout)
    return basis if options.frozen is None else directions.freeze(basis, objective.layout, options.frozen)


def _describe(options: Panels) -> str:
    if options.normalization in (None, "weight"):
        return f"{options.normalization or 'no'} norm"
    return f"{options.normalization} L{options.order} norm"
