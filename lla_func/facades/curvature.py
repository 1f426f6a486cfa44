"""The curvature of the loss along eigenvectors as a surface shows it, beside the eigenvalues."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from lla_func.chart import plane
from lla_func.eigen import Eigenpairs
from lla_func.grid import evaluate
from lla_func.objective import Objective

__all__ = ["Curvature", "measured_curvature"]


class Curvature(NamedTuple):
    """The second derivative of the loss along two eigenvectors, seen in two independent ways.

    Attributes:
        eigenvalues: of the Hessian, [2].
        measured: central second differences of the loss at the center, [2].
        steps: how far from the center they looked, [2].
    """

    eigenvalues: tuple[float, ...]
    measured: tuple[float, ...]
    steps: tuple[float, ...]


def measured_curvature(objective: Objective, pairs: Eigenpairs) -> Curvature:
    """Compares the eigenvalues with second differences of the loss along their eigenvectors.

    Large steps see higher derivatives, small ones rounding. Of a series of steps, each half of the one before, that is
    taken at which the difference changes least (in the spirit of Ridders 1982), whatever the scale of the loss.
    """
    eigenplane = plane(objective.theta, *pairs.vectors.to(objective.theta))
    steps = 0.1 * (1.0 + float(objective.theta.norm())) * 0.5 ** torch.arange(10, dtype=torch.float64)
    chosen = []
    for direction in torch.eye(len(pairs.values), dtype=torch.float64):
        ahead = steps[:, None] * direction
        coords = torch.cat([ahead, -ahead, torch.zeros(1, len(direction), dtype=torch.float64)])
        losses = evaluate(objective, eigenplane, coords, engine="loop").losses
        differences = (losses[:10] + losses[10:20] - 2 * losses[20]) / steps.square()
        change = (differences[1:] - differences[:-1]).abs().nan_to_num(nan=math.inf)
        best = int(change.argmin()) + 1
        chosen.append((float(differences[best]), float(steps[best])))
    measured, taken = zip(*chosen, strict=True)
    return Curvature(tuple(pairs.values.tolist()), measured, taken)
