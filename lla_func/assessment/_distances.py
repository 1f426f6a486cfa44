"""How far one can go: the learning rate, the distance and the noise at which the loss has risen by a given amount."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from lla_func.assessment._average import moves, pair_rises
from lla_func.assessment._center import Center, center_of, error_over_data, gradient, length, normal, notes
from lla_func.assessment._crossing import crossing
from lla_func.errors import finite_number, flag, positive_int, seed_number
from lla_func.geometry import directions
from lla_func.objective import Objective
from lla_func.spectrum import Estimate, standard_error

FIRST = 0.01
"""The first move that is looked at, as a part of the weights."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def critical_lr(objective: Objective, *, tol: float = 1e-2, over_data: bool = True) -> Estimate:
    """The critical learning rate: the smallest at which a step of gradient descent raises the loss.

        min { eta > 0 : L(theta - eta g) > L(theta) },        on a quadratic  2 |g|^2 / (g^T H g)

    Two over it, which the note gives, is the critical sharpness, a curvature along the gradient. Unit: that of a
    learning rate. Cost: one gradient, then losses only, about 20 of them: the rate is doubled or halved until it is
    bracketed, and bisected. A loss that is not finite counts as raised. Not invariant under rescaling of layers.

    Args:
        objective: what is studied.
        tol: the width of the bracket to reach, relative to the rate.
        over_data: whether to compute the error over data, where the losses of single samples are at hand.

    Returns:
        the estimate; ``error`` is half of the bracket, and what rounding of the losses adds; ``data_error`` is that of
        the rise there over its slope, the gradient held fixed. Infinite where no rate that was tried raises the loss.

    Raises:
        TypeError, ValueError: the loss is not finite or has no gradient, the gradient vanishes, or ``tol`` is out of
            range.

    Source: Kalra and Barkeshli 2024, section on the critical learning rate (arXiv 2406.09405); Kalra et al. 2026,
    arXiv 2601.16979 (critical sharpness).

    Example:
        >>> from lla_func import from_loss
        >>> bowl = from_loss(lambda theta, _: 2 * theta.square().sum(), torch.ones(3, dtype=torch.float64))
        >>> round(critical_lr(bowl, tol=1e-6).value, 5)
        0.5
    """
    tol, over_data = finite_number("tol", tol, above=0), flag("over_data", over_data)
    center = center_of(objective)
    slope = gradient(objective, center.theta)
    size = length(slope)
    if not size > 0:
        raise ValueError(
            "the gradient vanishes at theta, so no learning rate moves it; take sam_max, average or pac_bayes there"
        )
    if not math.isfinite(size):
        raise ValueError("the gradient has NaN or infinite values at theta")
    start = FIRST * (length(center.theta) or 1.0) / size
    found = crossing(lambda rate: center.rise(-rate * slope), 0.0, start=start, tol=tol)
    # Where the loss comes back to its first value it rises about as steeply as it fell at first.
    rounding = 2 * center.eps * abs(center.loss) / size**2
    products = 2 + found.evaluations
    if found.high == math.inf:
        said = f"no step up to a learning rate of {found.low:.3g} raises the loss"
        return Estimate(math.inf, math.inf, products=products, converged=False, note=said)
    if found.low == 0.0:
        said = f"every step down to a learning rate of {found.high:.3g} raises the loss; it may be rounding"
        return Estimate(found.high, found.high, products=products, converged=False, note=said)
    # Of the losses on the way only the lowest, halfway, tells whether rounding hides them all.
    doubt = center.doubt(found.value * slope, found.value * size**2 / 4)
    return Estimate(
        found.value,
        error=found.error + rounding,
        data_error=_over_data(center, [-found.value * slope], found.slope) if over_data else None,
        products=products,
        converged=doubt is None and rounding <= 2 * tol * found.value,
        note=notes(f"critical sharpness {2 / found.value:.6g}", doubt),
    )


def basin(
    objective: Objective,
    *,
    rise: float | None = None,
    draws: int = 20,
    quantile: float = 0.5,
    tol: float = 1e-2,
    seed: int = 0,
) -> Estimate:
    """The basin's radius: how far along random filter-normalized directions the loss has risen by a given amount.

        quantile over d of  min { r > 0 : L(theta + r d) > L(theta) + rise }

    Each filter of d has the norm of that filter's weights, so the radius is in units of the weights: at 1 every filter
    has moved by its own length. On a quadratic with theta at its minimum it is sqrt(2 rise / (d^T H d)). Invariant
    under rescaling of the layers of a ReLU network. Cost: about 12 losses a direction.

    Args:
        objective: what is studied.
        rise: how much; by default the loss at theta itself, so that it doubles.
        draws: directions. At least 4.
        quantile: which one the value is.
        tol: the width of each bracket to reach, relative to the radius.
        seed: of the directions.

    Returns:
        the estimate; ``samples`` has the radius along each direction [draws], infinite where the loss never rises so
        far; ``error`` is that of the quantile, from its order statistics, and the note gives five quantiles.

    Raises:
        TypeError, ValueError: the loss is not finite, there is no default for ``rise`` because the loss is zero, or an
            option is out of range.

    Source: the directions are those of Li et al. 2018, section 4; the radius along random directions follows
    Huang et al. 2020, section 3.

    Example:
        >>> from lla_func import from_loss
        >>> bowl = from_loss(lambda theta, _: (theta - 1).square().sum(), torch.ones(8, dtype=torch.float64))
        >>> round(basin(bowl, rise=2.0, tol=1e-6).value, 5)
        0.5
    """
    draws = positive_int("draws", draws, least=4)
    quantile = finite_number("quantile", quantile, above=0)
    if quantile >= 1:
        raise ValueError(f"quantile={quantile:g} is not allowed; pass a number between 0 and 1")
    tol = finite_number("tol", tol, above=0)
    seed = seed_number("seed", seed)
    center = center_of(objective)
    level = _level(center, rise)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(draws):
        drawn = normal(center.theta, generator)[None]
        along = directions.normalize(drawn, center.theta, objective.layout, kind="filter")[0]
        found.append(
            crossing(lambda r, d=along: center.rise(r * d), level, start=FIRST, tol=tol)  # type: ignore[misc]
        )
    radii = torch.tensor([each.value for each in found], dtype=torch.float64)
    order = radii.sort().values
    value = float(_at(order, quantile))
    spread = math.sqrt(quantile * (1 - quantile) / draws)
    ends = [float(_at(order, min(max(q, 0.0), 1.0))) for q in (quantile - spread, quantile + spread)]
    far = value if math.isfinite(value) else FIRST
    doubt = center.doubt(far * along, level)
    never = int((radii == math.inf).sum())
    shown = ", ".join(f"{q:.0%} {float(_at(order, q)):.4g}" for q in QUANTILES)
    return Estimate(
        value,
        error=(ends[1] - ends[0]) / 2 + tol * value / 2 if math.isfinite(ends[1]) else math.inf,
        products=1 + sum(each.evaluations for each in found),
        converged=doubt is None and math.isfinite(value) and all(each.low > 0 for each in found),
        note=notes(
            f"quantiles over {draws} directions: {shown}",
            f"along {never} the loss never rises so far" if never else None,
            doubt,
        ),
        samples=radii,
    )


def pac_bayes(
    objective: Objective,
    *,
    rise: float | None = None,
    draws: int = 20,
    relative: bool = False,
    tol: float = 1e-2,
    seed: int = 0,
    over_data: bool = True,
) -> Estimate:
    """PAC-Bayes-like flatness: the largest noise under which the loss rises by no more than a given amount in the mean.

        max { s > 0 : E_z L(theta + s z) - L(theta) <= rise },   z ~ N(0, I),       on a quadratic sqrt(2 rise / tr H)

    With ``relative`` the noise of each parameter is s |theta| (the magnitude-aware variant), on a quadratic
    sqrt(2 rise / sum_i theta_i^2 H_ii), and the flatness is invariant under rescaling of ReLU layers. The moves are
    the same at every s, in pairs z and -z. One over its square enters bounds on the generalization gap. Unit: that of
    the weights, or a part of them. Cost: 2 ``draws`` losses for each of about 12 values of s.

    Args:
        objective: what is studied.
        rise: how much; by default the loss at theta itself, so that it doubles.
        draws: pairs of moves. At least 4.
        relative: whether noise is measured in units of each parameter.
        tol: the width of the bracket to reach, relative to the flatness.
        seed: of the moves.
        over_data: whether to compute the error over data, where the losses of single samples are at hand.

    Returns:
        the estimate; ``error`` joins half of the bracket and what the finite number of moves leaves, ``data_error`` is
        that of the mean rise over its slope, the moves held fixed, and ``samples`` has the rise of each pair at the
        value [draws].

    Raises:
        TypeError, ValueError: as :func:`basin`.

    Source: Dziugaite and Roy 2017; Jiang et al. 2020, appendix C.4 (PAC-Bayesian measures, flatness and magnitude).

    Example:
        >>> from lla_func import from_loss
        >>> bowl = from_loss(lambda theta, _: theta.square().sum() / 2, torch.ones(1000, dtype=torch.float64))
        >>> found = pac_bayes(bowl, rise=5.0)
        >>> abs(found.value - 0.1) < 4 * found.error
        True
    """
    draws, tol = positive_int("draws", draws, least=4), finite_number("tol", tol, above=0)
    over_data = flag("over_data", over_data)
    center = center_of(objective)
    level = _level(center, rise)
    move = moves(center, draws, relative=relative, seed=seed)
    rms = length(center.theta) / math.sqrt(len(center.theta))
    start = FIRST * (1.0 if relative else rms or 1.0)
    found = crossing(
        lambda size: float(pair_rises(center, move, size, draws).mean()), level, start=start, tol=tol
    )
    products = 1 + 2 * draws * found.evaluations
    if found.high == math.inf or found.low == 0.0:
        said = (
            f"no noise up to {found.low:.3g} raises the loss so far"
            if found.high == math.inf
            else f"all noise down to {found.high:.3g} raises the loss further"
        )
        value = math.inf if found.high == math.inf else found.high
        return Estimate(value, math.inf, products=products, converged=False, note=said)
    value = found.value
    rises = pair_rises(center, move, value, draws)
    steep = abs(found.slope) if math.isfinite(found.slope) and found.slope else 2 * level / value
    finite = bool(rises.isfinite().all())
    doubt = center.doubt(value * move(0), level)
    pairs = (sign * value * move(k) for k in range(draws) for sign in (1, -1))
    sampling = standard_error(rises) / steep if finite else math.inf
    return Estimate(
        value,
        error=math.hypot(found.error, sampling),
        data_error=_over_data(center, pairs, steep) if over_data and finite else None,
        products=products + 2 * draws,
        converged=finite and doubt is None,
        note=notes(f"1 / value^2 is {1 / value**2:.6g}", doubt),
        samples=rises,
    )


def _over_data(center: Center, steps: Iterable[Tensor], slope: float) -> float | None:
    """The error over data of where a rise is reached: that of the rise, over its slope there."""
    error = error_over_data(center, steps)
    return None if error is None or not abs(slope) > 0 else error / abs(slope)


def _level(center: Center, rise: float | None) -> float:
    """The rise asked for, or the loss itself."""
    if rise is not None:
        return finite_number("rise", rise, above=0)
    if center.loss == 0:
        raise ValueError("the loss at theta is zero, so it cannot double; pass rise=, the amount to rise by")
    return abs(center.loss)


def _at(order: Tensor, quantile: float) -> Tensor:
    """A quantile of sorted numbers, some of which may be infinite: the next one up."""
    return order[min(len(order) - 1, max(0, math.ceil(quantile * len(order)) - 1))]
