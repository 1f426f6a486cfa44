"""Points of a trajectory or a curve as state dicts of a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bridges.metrics import Metric
from bridges.models import Borrowed, behave, layout_of, trainable, unwrap
from lla_func.errors import instance, shown
from lla_func.geometry import Trajectory, same_layout
from lla_func.objective import Layout


def state_dict(
    thing: Any, t: Any = None, *, like: nn.Module, metric: Metric | None = None
) -> dict[str, Tensor]:
    """The state dict of a model at a point of a trajectory or a curve, for ``model.load_state_dict``.

    Args:
        thing: a trajectory; or anything with ``theta(t)``, such as a fitted curve; or a vector theta [P].
        t: which checkpoint of a trajectory, or the parameter of a curve. Not used with a vector.
        like: the model that it belongs to; it is not changed. What is not in theta, frozen parameters and buffers
            that were not recorded, is its own.
        metric: with it, the running statistics of BatchNorm are those of the metric's data at this theta
            (:func:`bridges.models.behave`), instead of the recorded ones or the model's own.

    Returns:
        new tensors under the names of ``like.state_dict()``.

    Example:
        >>> from bridges.trajectories import load
        >>> model, other = nn.Linear(2, 1), nn.Linear(2, 1)
        >>> path = load([model.state_dict()], like=model)
        >>> other.load_state_dict(state_dict(path, 0, like=other))
        <All keys matched successfully>
        >>> torch.equal(other.weight, model.weight)
        True
    """
    module = unwrap(like)
    parameters, layout = trainable(module), layout_of(module)
    found: dict[str, Tensor] = {}
    if isinstance(thing, Tensor):
        theta = thing
    elif hasattr(thing, "theta") and callable(thing.theta):
        if isinstance(thing, Trajectory):
            same_layout(thing, layout, "like")
            found = thing.buffer(t)
        theta = thing.theta(t)
    else:
        raise TypeError(
            f"thing={shown(thing)} has no theta(t); pass a Trajectory, a curve, or a vector theta [P]"
        )
    instance("theta", theta, Tensor, "a vector [P]")
    if theta.shape != (layout.numel,):
        raise ValueError(
            f"theta has shape {list(theta.shape)}; like has P={layout.numel} parameters to train"
        )
    theta = _in_order(theta, thing, layout)
    moved = layout.unravel(theta.detach())
    if metric is not None:
        found |= _statistics(module, metric, theta)
    names = {id(parameter): name for name, parameter in parameters.items()}
    state = {}
    for key, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            state[key] = tensor  # a module's own extra state
            continue
        value = moved[names[id(tensor)]] if id(tensor) in names else found.get(key, tensor)
        state[key] = value.detach().to(tensor, copy=True)
    return state


def _in_order(theta: Tensor, thing: Any, layout: Layout) -> Tensor:
    """Theta as it lies in the model, where a curve is known to be of one that has its parameters in another order."""
    own = getattr(thing, "like", None)
    if isinstance(thing, Trajectory) or not isinstance(own, nn.Module):
        return theta
    theirs = layout_of(unwrap(own))
    if theirs.names == layout.names or sorted(theirs.names) != sorted(layout.names):
        return theta
    return layout.ravel(theirs.unravel(theta))


def _statistics(module: nn.Module, metric: Any, theta: Tensor) -> dict[str, Tensor]:
    """The running statistics of BatchNorm on the metric's data at theta, by name."""
    instance("metric", metric, Metric, "a metric: bridges.metrics.Loss(criterion, inputs, targets)")
    device = torch.device(metric.device)
    held = [value for value in vars(metric).values() if isinstance(value, nn.Module)]
    borrowed = Borrowed(module, held=held, device=device)
    behavior = behave(borrowed, metric.loss, metric.batches, batchnorm="recalibrate")
    if behavior.statistics is None:
        return {}
    with torch.no_grad():
        found = behavior.statistics(theta.to(borrowed.theta))
    return {name.removeprefix("model."): tensor for name, tensor in found.items()}
