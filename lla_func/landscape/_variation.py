"""How much a landscape depends on its random directions: many lines or planes, as mean and spread."""

from __future__ import annotations

from typing import Any

import torch

from lla_func.errors import finite_number, one_of, positive_int, seed_number
from lla_func.geometry import chart, directions
from lla_func.landscape._evaluate import evaluate
from lla_func.landscape._landscape import Landscape
from lla_func.objective import Objective, risk


def variation(
    objective: Objective,
    *,
    count: int = 10,
    dim: int = 1,
    dist: float = 1,
    steps: int = 21,
    normalization: str | None = "filter",
    distribution: str = "normal",
    seed: int,
    **evaluation: Any,
) -> Landscape:
    """The loss along random lines or planes through a point: its mean over them and its spread, at each coordinate.

    Two random planes show two surfaces; what they have in common is worth a statement about the loss. All directions
    are drawn from one seed and scaled to the weights, so that a coordinate means the same in each.

    Args:
        objective: the loss, with the point under study.
        count: how many lines or planes, two or more.
        dim: 1 for lines, 2 for planes.
        dist: their extent in all, in units of the directions, as in :func:`lla_func.viz_lla`.
        steps: points along each axis.
        normalization, distribution: of the directions (:mod:`lla_func.directions`).
        seed: of the directions.
        evaluation: options of :func:`lla_func.evaluate`, but for ``store``.

    Returns:
        a landscape whose losses are the means [N], with the metrics ``spread``, the standard deviation over lines or
        planes [N], and ``each``, the losses on all of them [N, count]. ``errors["loss"]`` is the spread divided by
        count^(1/2). Where one of them is not finite there is no mean.

    Raises:
        ValueError, TypeError: an argument is wrong.

    Example:
        >>> from lla_func import from_loss
        >>> bowl = from_loss(lambda theta, _: theta.square().sum(), torch.ones(50, dtype=torch.float64))
        >>> found = variation(bowl, count=4, steps=3, normalization="model", seed=0)
        >>> found.losses.shape, found.metrics["each"].shape, float(found.metrics["spread"][1])
        (torch.Size([3]), torch.Size([3, 4]), 0.0)
    """
    count = positive_int("count", count, least=2)
    one_of("dim", dim, (1, 2))
    dist = finite_number("dist", dist, above=0)
    steps = positive_int("steps", steps, least=2)
    generator = torch.Generator().manual_seed(seed_number("seed", seed))
    theta, layout = objective.theta, objective.layout
    axis = dist * torch.linspace(-0.5, 0.5, steps, dtype=torch.float64)
    coords = chart.mesh(*[axis] * dim)
    found = []
    for _ in range(count):
        drawn = directions.random(layout, dim, generator=generator, distribution=distribution)
        axes = directions.normalize(drawn, theta, layout, kind=normalization)
        through = chart.span(theta, *axes, kind=f"{count} random {'line' if dim == 1 else 'plane'}s")
        found.append(evaluate(objective, through, coords, **evaluation))
    each = torch.stack([landscape.losses for landscape in found], dim=1)
    spread = each.std(1)
    last = found[-1]
    return last._replace(
        losses=each.mean(1),
        center=float(risk(objective)),
        chart={"kind": last.chart["kind"], "labels": last.chart["labels"], "center": last.chart["center"]},
        diagnostics={**last.diagnostics, "nonfinite": int((~each.isfinite()).sum()), "seed": seed},
        metrics={"spread": spread, "each": each},
        errors={"loss": spread / count**0.5},
    )
