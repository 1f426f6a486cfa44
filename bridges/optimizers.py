"""The moments of Adam and its relatives as flat vectors, matched to the model's parameters by identity."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from bridges.modules import layout_of, trainable, unwrap

__all__ = ["Moments", "moments"]


class Moments(NamedTuple):
    """What Adam remembers of the gradients, along theta.

    Parameters without state (not in the optimizer, or never given a gradient) have zeros.

    Attributes:
        first: the bias-corrected first moment, m / (1 - beta1^t), [P].
        second: the bias-corrected second moment, v / (1 - beta2^t), [P]; with amsgrad the largest so far.
        lr: the learning rate, a number, or a vector [P] if parameter groups differ.
        eps: the number added to sqrt(second), likewise.
        raw_first: m as the optimizer stores it, [P].
        raw_second: v as the optimizer stores it, [P].
    """

    first: Tensor
    second: Tensor
    lr: Tensor | float
    eps: Tensor | float
    raw_first: Tensor
    raw_second: Tensor


def moments(model: Any, optimizer: torch.optim.Optimizer, *, device: Any = None) -> Moments:
    """The moments of an Adam-like optimizer, in the order of the model's trainable parameters.

    Parameters are matched by identity, so several groups, a subset or another order are all right, as long as the
    optimizer was built for this very model. Each group's betas, lr and eps are used. Adam-like is whatever keeps
    ``exp_avg``, ``exp_avg_sq`` and ``step``: Adam, AdamW, and also NAdam and RAdam, whose moments are corrected here
    as Adam's are (Kingma and Ba 2015, algorithm 1). Weight decay is no part of the moments of AdamW.

    Args:
        model: the module that the optimizer trains.
        optimizer: an optimizer that has made at least one step.
        device: where the vectors go; by default where the parameters are.

    Raises:
        TypeError: ``optimizer`` is no optimizer.
        ValueError: it isn't Adam-like, has not stepped, or holds none of the model's parameters.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> adam = torch.optim.Adam(model.parameters(), lr=0.5)
        >>> (3 * model.weight).sum().backward()
        >>> adam.step()
        >>> found = moments(model, adam)
        >>> found.first.round(decimals=3), found.second.round(decimals=3), found.lr
        (tensor([3.]), tensor([9.]), 0.5)
    """
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(
            f"optimizer is of type {type(optimizer).__name__}; the torch.optim optimizer that trained the model is needed"
        )
    kind = type(optimizer).__name__
    module = unwrap(model)
    parameters = trainable(module)
    layout = layout_of(module)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    held = {name: p for name, p in parameters.items() if id(p) in groups}
    if not held:
        raise ValueError(
            f"optimizer ({kind}) holds none of the model's parameters; pass the one that was built from this model's "
            "parameters (a copy of the model has others)"
        )
    if any("betas" not in groups[id(p)] or "eps" not in groups[id(p)] for p in held.values()):
        raise ValueError(f"optimizer is {kind}, which has no Adam moments; train with Adam or AdamW")
    states = {name: state for name, p in held.items() if (state := optimizer.state.get(p))}
    if not states:
        raise ValueError(
            f"optimizer ({kind}) has not stepped, so it has no moments yet; train at least one step"
        )

    columns: dict[str, dict[str, Tensor]] = {field: {} for field in Moments._fields}
    for name, parameter in parameters.items():
        group = groups.get(id(parameter), optimizer.defaults)
        values = _one(states.get(name), group, parameter, f"optimizer ({kind}), parameter {name!r}")
        for field, value in zip(Moments._fields, values, strict=True):
            columns[field][name] = value
    vectors = {field: layout.ravel(column) for field, column in columns.items()}
    if device is not None:
        vectors = {field: vector.to(device) for field, vector in vectors.items()}
    return Moments(**{k: _plain(v) if k in ("lr", "eps") else v for k, v in vectors.items()})


def _one(
    state: dict[str, Any] | None, group: dict[str, Any], parameter: Tensor, where: str
) -> tuple[Tensor, ...]:
    """The fields of Moments for one parameter, each of its shape, dtype and device."""

    def like(value: Any) -> Tensor:
        return torch.full_like(parameter, float(value), requires_grad=False)

    if state is None:
        zero = like(0)
        return zero, zero, like(group["lr"]), like(group["eps"]), zero, zero
    if missing := [key for key in ("exp_avg", "exp_avg_sq", "step") if key not in state]:
        raise ValueError(f"{where} has no {missing[0]!r} in its state; train with Adam or AdamW")
    raw = [state["exp_avg"], state.get("max_exp_avg_sq", state["exp_avg_sq"])]
    if any(moment.shape != parameter.shape for moment in raw):
        raise ValueError(
            f"{where} has moments of shape {list(raw[0].shape)}, the parameter has {list(parameter.shape)}"
        )
    first, second = (moment.detach().to(parameter) for moment in raw)
    left = [1 - float(beta) ** float(state["step"]) for beta in group["betas"]]
    return first / left[0], second / left[1], like(group["lr"]), like(group["eps"]), first, second


def _plain(vector: Tensor) -> Tensor | float:
    """The number, if all elements are the same."""
    return float(vector[0]) if bool((vector == vector[0]).all()) else vector
