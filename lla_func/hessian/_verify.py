"""Symmetry: a cheap test of whether an operator is what linear algebra takes it for, with what to look for if not."""

from __future__ import annotations

import math

import torch

from lla_func.files import fingerprint
from lla_func.objective import Objective, value, weighed
from lla_func.spectrum import Operator, inner, probes


def check_symmetric(
    operator: Operator, *, tolerance: float | None = None, floor: float = 0.0, repeat: bool = True
) -> None:
    """Raises unless products with two random vectors are finite and v.Hw equals w.Hv, for two products; or three.

    Args:
        operator: any operator.
        tolerance: the difference allowed, relative to the norms of Hv and Hw; by default the cube root of the
            machine precision, which leaves room for the cancellation in the gradients of a trained network.
        floor: a difference that is always allowed: the rounding of a product that should vanish.
        repeat: whether one product is computed again to see that it is reproducible.

    Raises:
        ValueError: one of these does not hold.

    Example:
        >>> from lla_func.spectrum import from_matrix
        >>> check_symmetric(from_matrix(torch.eye(3)))
    """
    name, rounding = operator.name, torch.finfo(operator.dtype).eps
    tolerance = rounding ** (1 / 3) if tolerance is None else tolerance
    # Not random signs: in a few dimensions these miss some asymmetric matrices with a good chance.
    v, w = probes(operator.dim, 2, kind="gaussian", dtype=operator.dtype, device=operator.device)
    hv, hw = operator.matvec(v), operator.matvec(w)
    size = 0.5 * float(inner(hv, hv).sqrt() + inner(hw, hw).sqrt())
    if not math.isfinite(size):
        raise ValueError(
            f"{name} has NaN or infinite values. Look for a point where a derivative doesn't exist, such as sqrt(0), "
            "norm(0), log(0) or 0 / 0, and for overflow in float16"
        )
    if repeat and (off := float((operator.matvec(v) - hv).norm())) > tolerance * size + floor:
        raise ValueError(
            f"{name} gives different products with the same vector (relative difference "
            f"{off / size:.1e}). Look for random numbers in the loss, and for data that differs "
            "from pass to pass (a loader with shuffle=True, random augmentation)"
        )
    across, back = float(inner(v, hw)), float(inner(w, hv))
    # For a random v, v.Hw is about as large as the norm of Hw, and its error as that norm times the precision.
    if abs(across - back) > tolerance * size + floor:
        raise ValueError(
            f"{name} is not symmetric: v.Hw = {across:.6g}, w.Hv = {back:.6g} for random v and w. Look for a backward "
            "pass that is not the derivative of the forward pass (straight-through estimators, custom "
            "autograd.Function, gradient clipping hooks), and for operations that drop tangents (.detach(), .data, "
            "torch.no_grad() inside the loss, numpy). probe=False skips this test"
        )


def check_reproducible(objective: Objective, name: str) -> float:
    """Raises unless two passes begin with the same batch and the loss on it is the same twice; returns that loss.

    A product that is kept would hide both: one mask of dropout, one order of the data, frozen into it.

    Raises:
        ValueError: the batches or the losses differ.
    """
    first, second = (next(weighed(objective, objective.batches))[1] for _ in range(2))
    if fingerprint(first) != fingerprint(second):
        raise ValueError(
            f"{name} needs the same data in every pass, but the first batch differs between two passes. Look for a "
            "loader with shuffle=True and for random augmentation; pass list(loader) to draw them once"
        )
    once, twice = (float(value(objective.loss, objective.theta, first)) for _ in range(2))
    if abs(once - twice) > torch.finfo(objective.theta.dtype).eps ** 0.5 * abs(once):
        raise ValueError(
            f"{name} needs a deterministic loss, but two evaluations gave {once:.8g} and {twice:.8g}. Look for dropout "
            "or other random numbers in the loss; call model.eval(), or draw them from a generator seeded in the loss"
        )
    return once
