"""Worst-case sharpness: how far the loss rises within a ball around theta, by one step or by ascent."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lla_func.assessment._center import (
    Center,
    center_of,
    error_over_data,
    gradient,
    length,
    normal,
    notes,
    unit,
)
from lla_func.errors import finite_number, flag, positive_int, seed_number
from lla_func.hessian import hessian
from lla_func.objective import Objective
from lla_func.spectrum import Estimate, Operator, eigenpairs

HALVINGS = 5
"""How often a step of the ascent that does not rise is made shorter."""


def sam(objective: Objective, *, rho: float = 0.05, over_data: bool = True) -> Estimate:
    """SAM's sharpness: the rise of the loss after one step of length rho along the gradient.

        L(theta + rho g / |g|) - L(theta),        on a quadratic  rho |g| + rho^2 / 2 * (g^T H g) / |g|^2

    Unit: that of the loss. Cost: one gradient and two losses, and as much again for the error over data. Not invariant
    under rescaling of ReLU layers; :func:`asam` is.

    Args:
        objective: what is studied.
        rho: the length of the step.
        over_data: whether to compute the error over data, where the losses of single samples are at hand.

    Returns:
        the estimate. ``error`` is what rounding may leave of it, ``data_error`` the standard error over samples with
        the step held fixed.

    Raises:
        TypeError, ValueError: the loss is not finite or has no gradient, or an option is out of range.

    Source: Foret, Kleiner, Mobahi and Neyshabur 2021, equations 1 and 2.

    Example:
        >>> from lla_func import from_loss
        >>> bowl = from_loss(lambda theta, _: theta.square().sum() / 2, torch.tensor([3.0, 4.0], dtype=torch.float64))
        >>> round(sam(bowl, rho=1.0).value, 9)
        5.5
    """
    return _one_step(objective, None, rho, over_data)


def asam(objective: Objective, *, rho: float = 0.5, eta: float = 0.01, over_data: bool = True) -> Estimate:
    """Adaptive sharpness: SAM's, in a ball that is measured in units of the weights.

        L(theta + e) - L(theta),   e = rho T (T g) / |T g|,   T = diag(|theta| + eta)

    on a quadratic  rho |T g| + rho^2 / 2 * e'^T H e'  with e' = e / rho. With eta = 0 it is invariant under every
    rescaling of weights that leaves the network's function as it is, such as that of ReLU layers; weights that are
    zero then stay zero. The original scales weights only and steps biases as SAM does; here all parameters are scaled.
    Unit and cost: as :func:`sam`.

    Args:
        objective: what is studied.
        rho: the radius, a multiple of the weights.
        eta: what is added to |theta|.
        over_data: as for :func:`sam`.

    Returns:
        the estimate, as of :func:`sam`.

    Raises:
        TypeError, ValueError: as :func:`sam`.

    Source: Kwon, Kim, Park and Choi 2021, definition 2 and equation 8.

    Example:
        >>> from lla_func import from_loss
        >>> slope = from_loss(lambda theta, _: theta.sum(), torch.tensor([3.0, 4.0], dtype=torch.float64))
        >>> round(asam(slope, rho=0.1, eta=0.0).value, 9)
        0.5
    """
    return _one_step(objective, finite_number("eta", eta, least=0), rho, over_data)


def sam_max(
    objective: Objective,
    *,
    rho: float = 0.05,
    steps: int = 20,
    restarts: int = 3,
    tol: float = 1e-3,
    predict: bool = True,
    seed: int = 0,
    over_data: bool = True,
) -> Estimate:
    """The rise of the loss within a ball of radius rho, maximized by projected ascent: a lower bound of the maximum.

        max over |e| <= rho of  L(theta + e) - L(theta)

    The first start is SAM's own step, so that the value is never below :func:`sam`; the others are random. A step goes
    to where the gradient points on the sphere, which for a convex loss never descends, and is made shorter where it
    does. Unit: that of the loss. Cost: at most ``restarts * steps`` gradients with a few losses each, and with
    ``predict`` the products of one eigenpair of the Hessian.

    Args:
        objective: what is studied.
        rho: the radius.
        steps: of the ascent, at most, for each start.
        restarts: starts in all.
        tol: a step that gains less than this part of the rise ends an ascent.
        predict: whether the note says what the quadratic model bounds the maximum by, rho |g| + rho^2 lambda_1 / 2.
        seed: of the random starts.
        over_data: as for :func:`sam`.

    Returns:
        the estimate. ``samples`` has the rise that each start ended at, ``error`` how much the best one gained in its
        last step, ``converged`` whether that is within ``tol``.

    Raises:
        TypeError, ValueError: as :func:`sam`.

    Source: Foret et al. 2021, equation 1; the full steps are Frank and Wolfe's (Jaggi 2013).

    Example:
        >>> from lla_func import from_loss
        >>> scale = torch.tensor([1.0, 4.0], dtype=torch.float64)
        >>> bowl = from_loss(lambda theta, _: (scale * theta**2).sum() / 2, 0 * scale)
        >>> round(sam_max(bowl, rho=1.0).value, 3)
        2.0
    """
    return _ascended(objective, None, rho, steps, restarts, tol, predict, seed, over_data)


def asam_max(
    objective: Objective,
    *,
    rho: float = 0.5,
    eta: float = 0.01,
    steps: int = 20,
    restarts: int = 3,
    tol: float = 1e-3,
    predict: bool = True,
    seed: int = 0,
    over_data: bool = True,
) -> Estimate:
    """Adaptive sharpness maximized by projected ascent: a lower bound of the maximum.

        max over |T^-1 e| <= rho of  L(theta + e) - L(theta),        T = diag(|theta| + eta)

    Unit, cost and invariance: as :func:`sam_max` and :func:`asam`. The quadratic's prediction is
    rho |T g| + rho^2 / 2 * lambda_1(T H T).

    Args:
        objective: what is studied.
        rho, eta: as for :func:`asam`.
        steps, restarts, tol, predict, seed, over_data: as for :func:`sam_max`.

    Returns:
        the estimate, as of :func:`sam_max`.

    Raises:
        TypeError, ValueError: as :func:`sam`.

    Source: Kwon et al. 2021, definition 2.
    """
    eta = finite_number("eta", eta, least=0)
    return _ascended(objective, eta, rho, steps, restarts, tol, predict, seed, over_data)


def _one_step(objective: Objective, eta: float | None, rho: float, over_data: bool) -> Estimate:
    """One step along the gradient, in units of the weights where there is an eta."""
    rho, over_data = finite_number("rho", rho, above=0), flag("over_data", over_data)
    center = center_of(objective)
    scale = _scale(center, eta)
    along = unit(scale * gradient(objective, center.theta))
    if not bool(along.any()):
        said = "the gradient vanishes, so there is no step along it; take the kind that ascends (sam_max, asam_max)"
        return Estimate(0.0, products=2, converged=False, note=said)
    step = rho * scale * along
    value = center.rise(step)
    rounding = center.rounding(value)
    doubt = center.doubt(step, value)
    return Estimate(
        value,
        error=rounding,
        data_error=error_over_data(center, [step]) if over_data and math.isfinite(value) else None,
        products=3,
        converged=doubt is None,
        note=doubt,
    )


class Ascent(NamedTuple):
    """Where an ascent ended: its move in units of the ball, the rise, the last gain, and the passes over the data."""

    move: Tensor
    rise: float
    gain: float
    passes: int


def _ascended(
    objective: Objective,
    eta: float | None,
    rho: float,
    steps: int,
    restarts: int,
    tol: float,
    predict: bool,
    seed: int,
    over_data: bool,
) -> Estimate:
    rho, tol = finite_number("rho", rho, above=0), finite_number("tol", tol, above=0)
    steps, restarts = positive_int("steps", steps), positive_int("restarts", restarts)
    predict, over_data = flag("predict", predict), flag("over_data", over_data)
    generator = torch.Generator().manual_seed(seed_number("seed", seed))
    center = center_of(objective)
    scale = _scale(center, eta)
    slope = scale * gradient(objective, center.theta)
    starts = [unit(slope)] if bool(slope.any()) else []
    while len(starts) < restarts:
        starts.append(unit(normal(center.theta, generator)))
    ends = [_ascend(center, scale, start, rho, steps, tol) for start in starts]
    best = max(ends, key=lambda end: -math.inf if math.isnan(end.rise) else end.rise)
    step = scale * best.move
    rounding = center.rounding(best.rise)
    said, products = _prediction(center, scale, slope, rho) if predict else (None, 0)
    doubt = center.doubt(step, best.rise)
    finite = math.isfinite(best.rise)
    return Estimate(
        best.rise,
        error=max(best.gain, rounding),
        data_error=error_over_data(center, [step]) if over_data and finite else None,
        products=2 + sum(end.passes for end in ends) + products,
        converged=finite and best.gain <= tol * abs(best.rise) and doubt is None,
        note=notes("a lower bound of the maximum", said, doubt),
        samples=torch.tensor([end.rise for end in ends], dtype=torch.float64),
    )


def _ascend(center: Center, scale: Tensor, start: Tensor, rho: float, steps: int, tol: float) -> Ascent:
    """Projected ascent from a point of the sphere; a loss that is not finite on the way is no rise."""
    move = rho * start
    rise, gain, passes = center.rise(scale * move), math.inf, 1
    for _ in range(steps):
        along = unit(scale * gradient(center.objective, center.theta + scale * move))
        passes += 1
        if not bool(along.isfinite().all()) or not bool(along.any()):
            gain = 0.0
            break
        found, higher = move, rise
        for halving in range(HALVINGS):
            # The first is the far end of the gradient's line; the others go less and less far from where we are.
            tried = rho * along if halving == 0 else _within(move + 0.5 ** (halving - 1) * rho * along, rho)
            reached = center.rise(scale * tried)
            passes += 1
            if reached > higher:
                found, higher = tried, reached
                break
        gain, move, rise = (0.0 if found is move else higher - rise), found, higher
        if not gain > tol * abs(rise):
            break
    return Ascent(move, rise, gain if math.isfinite(gain) else 0.0, passes)


def _within(move: Tensor, rho: float) -> Tensor:
    """The nearest point of the ball."""
    size = length(move)
    return move if size <= rho else move * (rho / size)


def _prediction(center: Center, scale: Tensor, slope: Tensor, rho: float) -> tuple[str, int]:
    """What the quadratic model bounds the maximum by, in words, and the products that it took."""
    try:
        plain = hessian(center.objective)
        operator = Operator(
            lambda v: scale * plain.matvec(scale * v), plain.dim, plain.dtype, plain.device, plain.name
        )
        pairs = eigenpairs(operator, 1, which="largest")
    except (RuntimeError, ValueError) as error:  # an operation without second derivative, low precision
        return f"no prediction of the quadratic, as there is no Hessian: {str(error).splitlines()[0]}", 0
    top = float(pairs.values[0])
    bound = rho * length(slope) + rho**2 * max(top, 0.0) / 2
    return f"the quadratic predicts at most {bound:.6g} (largest eigenvalue {top:.6g})", pairs.products


def _scale(center: Center, eta: float | None) -> Tensor:
    """What a unit of each parameter is, [P]: its size and eta more, or 1."""
    theta = center.theta
    return torch.ones_like(theta) if eta is None else theta.abs() + eta
