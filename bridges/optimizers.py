"""The moments of Adam and its relatives as flat vectors, matched to the model's parameters by identity."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bridges.models import layout_of, trainable, unwrap
from lla_func.errors import finite_number, finite_tensor, instance, usable_device
from lla_func.geometry import Moments

__all__ = ["Moments", "moments"]


def moments(model: Any, optimizer: torch.optim.Optimizer, *, device: Any = None) -> Moments:
    """The moments of an Adam-like optimizer, in the order of the model's trainable parameters.

    Parameters are matched by identity, so several groups, a subset or another order are all right, as long as the
    optimizer was built for this very model. Each group's own betas, lr and eps are used. Adam-like is whatever keeps
    ``exp_avg``, ``exp_avg_sq`` and ``step``: Adam, AdamW, and also NAdam and RAdam, whose moments are corrected
    here as Adam's are (Kingma and Ba 2015, algorithm 1). The decoupled weight decay of AdamW is no part of them.
    The original matches by position and takes the raw moments.

    Args:
        model: the module that the optimizer trains.
        optimizer: an optimizer that has made at least one step.
        device: where the vectors go; by default where the parameters are.

    Raises:
        TypeError: ``optimizer`` is no optimizer.
        ValueError: it is not Adam-like, has not stepped, or holds none of the model's parameters.

    Example:
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> adam = torch.optim.Adam(model.parameters(), lr=0.5)
        >>> (3 * model.weight).sum().backward()
        >>> adam.step()
        >>> found = moments(model, adam)
        >>> found.first.round(decimals=3), found.second.round(decimals=3), found.lr
        (tensor([3.]), tensor([9.]), 0.5)
    """
    trained = "the torch.optim optimizer that trained the model"
    instance("optimizer", optimizer, torch.optim.Optimizer, trained)
    kind = type(optimizer).__name__
    where = None if device is None else usable_device("device", device)
    module = unwrap(model)
    parameters = trainable(module)
    layout = layout_of(module)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    held = {name: p for name, p in parameters.items() if id(p) in groups}
    if not held:
        raise ValueError(
            f"optimizer ({kind}) holds none of the model's trainable parameters; pass the one that was built from "
            "this very model (a copy of the model has other parameters)"
        )
    if any("betas" not in groups[id(p)] or "eps" not in groups[id(p)] for p in held.values()):
        raise ValueError(f"optimizer is {kind}, which has no Adam moments; train with Adam or AdamW")
    for p in held.values():
        instance(f"optimizer ({kind}) betas", groups[id(p)]["betas"], (tuple, list), "a pair of numbers")
    states = {name: state for name, p in held.items() if (state := optimizer.state.get(p))}
    if not states:
        raise ValueError(
            f"optimizer ({kind}) has not stepped, so it has no moments yet; train at least one step"
        )

    raw: list[dict[str, Tensor]] = [{}, {}]
    corrected: list[dict[str, Tensor]] = [{}, {}]
    for name, parameter in parameters.items():
        state = states.get(name)
        pair = (None, None) if state is None else _stored(state, parameter, f"optimizer ({kind}), {name!r}")
        for i, moment in enumerate(pair):
            stored = torch.zeros_like(parameter) if moment is None else moment.detach().to(parameter)
            raw[i][name] = corrected[i][name] = stored.detach()
            if state is not None:
                beta = finite_number(
                    f"optimizer ({kind}) betas[{i}]", groups[id(parameter)]["betas"][i], least=0
                )
                if beta >= 1:
                    raise ValueError(
                        f"optimizer ({kind}) betas[{i}]={beta} is not allowed; it must be below 1"
                    )
                corrected[i][name] = stored / (1 - beta ** float(state["step"]))

    def vector(column: dict[str, Tensor]) -> Tensor:
        return layout.ravel(column).to(where)

    def setting(key: str) -> Tensor | float:
        values = {
            name: finite_number(f"optimizer ({kind}) {key}", groups[id(p)][key], least=0)
            for name, p in held.items()
        }
        if len(set(values.values())) == 1:
            return next(iter(values.values()))
        fill = {n: torch.full_like(p, values.get(n, 0.0), requires_grad=False) for n, p in parameters.items()}
        return vector(fill)

    return Moments(
        first=vector(corrected[0]),
        second=vector(corrected[1]),
        lr=setting("lr"),
        eps=setting("eps"),
        raw_first=vector(raw[0]),
        raw_second=vector(raw[1]),
    )


def _stored(state: dict[str, Any], parameter: Tensor, where: str) -> tuple[Tensor, Tensor]:
    """The moments as an optimizer stores them for one parameter."""
    for key in ("exp_avg", "exp_avg_sq", "step"):
        if key not in state:
            raise ValueError(
                f"{where}: the state has no {key!r}, so there are no Adam moments; use Adam or AdamW"
            )
    first, second = state["exp_avg"], state.get("max_exp_avg_sq", state["exp_avg_sq"])
    for moment in (first, second):
        instance(f"{where}: a moment", moment, Tensor, "a tensor")
        if moment.shape != parameter.shape:
            raise ValueError(
                f"{where}: a moment has shape {list(moment.shape)}, the parameter has {list(parameter.shape)}"
            )
        finite_tensor(f"{where}: a moment", moment)
    finite_number(f"{where}: step", state["step"], above=0)
    if bool((second < 0).any()):
        raise ValueError(f"{where}: exp_avg_sq is negative somewhere; it is a mean of squares")
    return first, second
