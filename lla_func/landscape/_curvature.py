"""The curvature of the loss along eigenvectors as a surface shows it, beside the eigenvalues."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch

from lla_func._torch import full_precision
from lla_func.objective import Objective, risk
from lla_func.spectrum import Eigenpairs

HALVINGS = 60


class Curvature(NamedTuple):
    """The second derivative of the loss along two eigenvectors, seen in two independent ways.

    Attributes:
        eigenvalues: of the Hessian, [2].
        measured: central second differences of the loss at the center, [2]. NaN where no step shows it.
        steps: how far from the center they looked, [2].
        errors: how far the measured ones may be off, by the step and by rounding, [2].
    """

    eigenvalues: tuple[float, ...]
    measured: tuple[float, ...]
    steps: tuple[float, ...]
    errors: tuple[float, ...]


def measured_curvature(objective: Objective, pairs: Eigenpairs) -> Curvature:
    """Compares the eigenvalues with second differences of the loss along their eigenvectors.

    Large steps see higher derivatives, small ones rounding. The first step is the one at which the eigenvalue alone
    would change the loss by half of itself, (loss / |eigenvalue|)^(1/2); each of the others is half of the one before.
    The difference of least relative error is taken (in the spirit of Ridders 1982), whatever the scale of the loss and
    of the parameters; beside the largest eigenvalue, less than eps^(1/2) or a thousandth of it counts
    as zero.
    Kinks, as of ReLU, bend a surface where the Hessian does not see them: there the two differ by more than the error.

    Warns:
        RuntimeWarning: the error is more than half of what was measured, and not small beside the largest eigenvalue
            either. The measured curvature is then NaN.
    """
    theta, center = objective.theta, float(risk(objective))
    eps = torch.finfo(theta.dtype).eps
    reach = 1.0 + float(theta.norm())
    floor = min(math.sqrt(eps), 1e-3) * float(pairs.values.abs().max())
    found: list[tuple[float, float, float]] = []
    unseen: list[str] = []
    for eigenvalue, vector in zip(pairs.values.tolist(), pairs.vectors.to(theta), strict=True):

        def loss(step: float, vector: torch.Tensor = vector) -> float:
            return float(risk(objective, theta + step * vector))

        first = eps**0.25 * reach  # the best step where the loss vanishes, or where nothing curves
        if scale := max(abs(eigenvalue), floor):
            first = max(first, math.sqrt(abs(center) / scale))
        with full_precision():
            value, error, step = _second_difference(loss, center, first, eps=eps, reach=reach, floor=floor)
        if not error <= max(0.5 * abs(value), floor):
            unseen.append(f"{value:.3g} with an error of {error:.2g} for the eigenvalue {eigenvalue:.3g}")
            value = math.nan
        found.append((value, step, error))
    if unseen:
        warnings.warn(
            f"the loss does not show its curvature: second differences give {' and '.join(unseen)} at best; the "
            f"rounding of {str(theta.dtype).removeprefix('torch.')}, or losses that are not finite, hide it",
            RuntimeWarning,
            stacklevel=3,
        )
    measured, steps, errors = zip(*found, strict=True)
    return Curvature(tuple(pairs.values.tolist()), measured, steps, errors)


def _second_difference(
    loss: Callable[[float], float], center: float, step: float, *, eps: float, reach: float, floor: float
) -> tuple[float, float, float]:
    """The second derivative of a loss at 0, its error, and the step that was taken: of the least relative error.

    Where a difference converges, halving the step divides its error by four. So does, at most, its change, which is
    about three times the error; a smaller change is a coincidence, and the one before, divided by four, stands for it.
    Rounding adds that of the losses, and that of parameters of this norm, ``reach``, which blurs the step.

    Args:
        loss: as a function of the step.
        center: the loss at 0.
        step: the first one, the largest.
        eps: the relative rounding of losses and parameters.
        reach: the norm of the parameters.
        floor: the curvature below which errors count as absolute.
    """
    best, least = (math.nan, math.inf, step), math.inf
    value, change = math.nan, math.inf
    for _ in range(HALVINGS):
        before, ahead, behind = value, loss(step), loss(-step)
        value = (ahead + behind - 2 * center) / step**2
        before_that, change = change, abs(value - before)
        largest = max(abs(ahead), abs(behind), abs(center))
        rounding = 4 * eps * largest / step**2 + 2 * eps * (1 + reach / step) * abs(value)
        error = max(change, before_that / 4) + rounding
        size = max(abs(value), floor, 1e-300)
        if error / size < least:
            best, least = (value, error, step), error / size
        if rounding / size >= least:  # and smaller steps only round more
            break
        step /= 2
    return best
