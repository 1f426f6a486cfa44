"""The fit of a curve: stochastic steps on its control points, each of which can be the last before an interruption."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lla_func.connectivity._gradients import Pull, along_curve, of_band
from lla_func.connectivity._minibatches import Count, count, minibatches, size_of
from lla_func.geometry import CURVES
from lla_func.objective import Objective, weigh
from lla_func.options import Connection

SMALL = 1e-16
"""What Adam adds to the root of the second moment: below the gradients of losses of 1e-9, above the underflow of it."""


class State(NamedTuple):
    """How far a fit is: all that the next step depends on.

    Attributes:
        step: the steps that were taken.
        points: the control points, [K, P].
        optimizer: the optimizer's own state dict.
        losses: what each step has seen, [steps] float64; NaN where a mini-batch had no weight.
    """

    step: int
    points: Tensor
    optimizer: dict[str, Any]
    losses: Tensor


def start(first: Tensor, last: Tensor, bends: int) -> Tensor:
    """Control points evenly along the straight line between two points [P], [bends + 2, P]."""
    share = torch.linspace(0, 1, bends + 2, dtype=torch.float64)[1:-1, None].to(first)
    return torch.cat([first[None], first + share * (last - first), last[None]])


def fit(
    objective: Objective,
    points: Tensor,
    options: Connection,
    *,
    resumed: State | None = None,
    after_step: Callable[[State], Any] = lambda state: None,
    advance: Callable[[int], Any] = lambda steps: None,
) -> State:
    """Fits the inner control points of a curve to a loss.

    The places along the curve and the order of the samples in an epoch follow from the seed and the epoch's number, so
    a fit that goes on from a state ends with the same bits as one that was not interrupted.

    Args:
        objective: the loss, with its data.
        points: where the control points start, [K, P]; the first and the last stay.
        options: kind, epochs, lr, optimizer, batch_size, spring, climbing and seed.
        resumed: a state to go on from.
        after_step: is called with the state after each step.
        advance: is called with the number of finished steps.

    Raises:
        ValueError: the loss or the points are not finite any more; or no batch has a weight.
        TypeError: the optimizer cannot be made, or the loss has no gradient.
    """
    size = size_of(objective, options.batch_size)
    counted = count(objective, size)
    total = counted.steps * options.epochs
    losses = torch.full((total,), math.nan, dtype=torch.float64)
    done = 0
    inner = points[1:-1].detach().clone()
    optimizer = made(options, inner)
    if resumed is not None:
        done = resumed.step
        inner.detach().copy_(resumed.points[1:-1])
        optimizer.load_state_dict(resumed.optimizer)
        losses[:done] = resumed.losses[:done]
        advance(done)
    rates = [group["lr"] for group in optimizer.param_groups] if resumed is None else _rates(options, inner)
    for epoch in range(done // counted.steps, options.epochs):
        generator = torch.Generator().manual_seed((options.seed + 1_000_003 * epoch) % 2**63)
        places = torch.rand(counted.steps, generator=generator, dtype=torch.float64).tolist()
        first = done - epoch * counted.steps
        for at, batch in enumerate(minibatches(objective, size, generator, skip=first), start=first):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * schedule(done / total)
            losses[done] = _step(objective, points, inner, optimizer, batch, places[at], options, counted)
            done += 1
            whole = torch.cat([points[:1], inner.detach(), points[-1:]])
            after_step(State(done, whole, optimizer.state_dict(), losses))
            advance(1)
    whole = torch.cat([points[:1], inner.detach(), points[-1:]])
    return State(done, whole, optimizer.state_dict(), losses)


def schedule(share: float) -> float:
    """What the learning rate is multiplied with after a share of all steps.

    Constant for the first half, then linear to a hundredth at nine tenths: the schedule of Garipov et al. (2018),
    appendix A.2.
    """
    return min(1.0, max(0.01, 1 - 0.99 * (share - 0.5) / 0.4))


def made(options: Connection, inner: Tensor) -> torch.optim.Optimizer:
    """The optimizer of the inner control points, [K - 2, P].

    Raises:
        TypeError: ``optimizer`` does not make one.
    """
    maker = partial(torch.optim.Adam, eps=SMALL) if options.optimizer is None else options.optimizer
    hint = "pass a class of torch.optim, or a function of (parameters, lr) that makes one"
    if not callable(maker):
        raise TypeError(f"optimizer={maker!r} cannot be called; {hint}")
    try:
        found = maker([inner.requires_grad_()], lr=options.lr)
    except TypeError as error:
        raise TypeError(
            f"optimizer={maker!r} cannot be called with the points and lr ({error}); {hint}"
        ) from error
    if not isinstance(found, torch.optim.Optimizer):
        raise TypeError(f"optimizer={maker!r} makes a {type(found).__name__}; {hint}")
    return found


def _rates(options: Connection, inner: Tensor) -> list[Any]:
    """The learning rates that an optimizer starts with; those in a state have gone down already."""
    return [group["lr"] for group in made(options, inner.detach().clone()).param_groups]


def _step(
    objective: Objective,
    points: Tensor,
    inner: Tensor,
    optimizer: torch.optim.Optimizer,
    batch: Any,
    t: float,
    options: Connection,
    counted: Count,
) -> float:
    """One step of the optimizer on one mini-batch; returns the loss that it saw first."""
    if not (weight := weigh(objective, batch)):
        return math.nan
    share = weight / counted.mean_weight  # so that the mean over an epoch is the risk
    seen: list[float] = []

    def closure() -> Tensor:
        whole = torch.cat([points[:1], inner.detach(), points[-1:]])
        pull: Pull
        if options.kind == "band":
            pull = of_band(objective, whole, batch, spring=options.spring, climbing=options.climbing)
        else:
            pull = along_curve(objective, CURVES[options.kind](whole), batch, t)
        if not (math.isfinite(pull.loss) and bool(pull.gradient.isfinite().all())):
            raise ValueError(
                f"the loss on the curve is {pull.loss:g} or has no finite gradient: the fit diverges; pass a "
                f"smaller lr than {options.lr:g}"
            )
        seen.append(pull.loss)
        inner.grad = pull.gradient if share == 1 else share * pull.gradient
        return torch.tensor(share * pull.loss, dtype=torch.float64)

    with torch.no_grad():
        optimizer.step(closure)  # type: ignore[arg-type]
    if not bool(inner.isfinite().all()):
        raise ValueError(
            f"a step has led to infinite weights: the fit diverges; pass a smaller lr than {options.lr:g}"
        )
    return seen[0]
