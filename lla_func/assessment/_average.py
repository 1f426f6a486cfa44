"""Average-case sharpness: how much the loss rises in the mean over random moves."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lla_func.assessment._center import Center, center_of, error_over_data, normal
from lla_func.errors import finite_number, flag, positive_int, seed_number
from lla_func.objective import Objective
from lla_func.spectrum import Estimate, standard_error


def average(
    objective: Objective,
    *,
    rho: float = 0.05,
    draws: int = 20,
    relative: bool = False,
    seed: int = 0,
    over_data: bool = True,
) -> Estimate:
    """The mean rise of the loss under Gaussian moves of root mean square length rho.

        E_z L(theta + s z) - L(theta),   z ~ N(0, I),   s = rho / sqrt(P),      on a quadratic  rho^2 tr H / (2 P)

    With ``relative`` every parameter moves in units of itself, s = rho |theta| element by element, on a quadratic
    rho^2 / 2 * sum_i theta_i^2 H_ii: this is invariant under every rescaling of weights that leaves the function of
    the network as it is, such as that of ReLU layers. Moves come in pairs z and -z, which takes the gradient out
    exactly. Unit: that of the loss. Cost: 2 ``draws`` losses, and as much again for the error over data.

    Args:
        objective: what is studied.
        rho: the length of the moves, or with ``relative`` the part of each parameter.
        draws: pairs of moves. At least 4.
        relative: whether moves are measured in units of each parameter.
        seed: of the moves.
        over_data: whether to compute the error over data, where the losses of single samples are at hand.

    Returns:
        the estimate: ``samples`` has the rise of each pair [draws], ``error`` their standard error, ``data_error`` the
        one over samples with the moves held fixed.

    Raises:
        TypeError, ValueError: the loss is not finite, or an option is out of range.

    Source: Foret et al. 2021, appendix (expected sharpness); Jiang et al. 2020, appendix C.

    Example:
        >>> from lla_func import from_loss
        >>> bowl = from_loss(lambda theta, _: theta.square().sum() / 2, torch.ones(1000, dtype=torch.float64))
        >>> found = average(bowl, rho=1.0)
        >>> abs(found.value - 0.5) < 4 * found.error
        True
    """
    rho, draws = finite_number("rho", rho, above=0), positive_int("draws", draws, least=4)
    over_data = flag("over_data", over_data)
    center = center_of(objective)
    move = moves(center, draws, relative=relative, seed=seed)
    size = rho if relative else rho / math.sqrt(len(center.theta))
    rises = pair_rises(center, move, size, draws)
    value = float(rises.mean())
    rounding = center.rounding(value)
    finite = math.isfinite(value)
    over = None
    if over_data and finite:
        over = error_over_data(center, (sign * size * move(k) for k in range(draws) for sign in (1, -1)))
    doubt = center.doubt(size * move(0), value)
    return Estimate(
        value,
        error=math.hypot(standard_error(rises), rounding) if finite else math.inf,
        data_error=over,
        products=1 + 2 * draws,
        converged=doubt is None,
        note=doubt,
        samples=rises,
    )


def moves(center: Center, draws: int, *, relative: bool, seed: int) -> Callable[[int], Tensor]:
    """Random moves [P] of size one, by their number; drawn anew at each call, as they may not fit side by side."""
    scale = center.theta.abs() if flag("relative", relative) else None
    first = torch.Generator().manual_seed(seed_number("seed", seed))
    seeds = torch.randint(2**62, (draws,), generator=first).tolist()

    def move(number: int) -> Tensor:
        drawn = normal(center.theta, torch.Generator().manual_seed(seeds[number]))
        return drawn if scale is None else drawn * scale

    return move


def pair_rises(center: Center, move: Callable[[int], Tensor], size: float, draws: int) -> Tensor:
    """The mean rise of each pair of opposite moves, [draws] float64."""
    rises = []
    for number in range(draws):
        step = size * move(number)
        rises.append((center.rise(step) + center.rise(-step)) / 2)
    return torch.tensor(rises, dtype=torch.float64)
