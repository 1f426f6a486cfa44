"""How a criterion is called: on predictions and targets, on predictions alone, or as a function of the model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from bridges.metrics._reduction import known

MODEL = ("model", "module", "net", "network")
"""What the first argument of a function is called that wants the model instead of its prediction."""


def takes_model(criterion: Any) -> bool:
    """Whether it is a function ``fn(model, batch)``, by the name of its first argument.

    Example:
        >>> takes_model(lambda model, batch: model(batch).sum()), takes_model(lambda p, y: (p - y).sum())
        (True, False)
    """
    return not isinstance(criterion, (nn.Module, type)) and next(iter(_parameters(criterion)), "") in MODEL


def form_of(criterion: Any) -> str:
    """What batches become for a criterion: ``"pair"`` or ``"whole"`` (:func:`bridges.metrics.formed`)."""
    return "whole" if criterion is None or takes_model(criterion) else "pair"


def check_alone(criterion: Any) -> None:
    """Raises a TypeError unless the criterion can do with a prediction alone."""
    function = criterion.forward if isinstance(criterion, nn.Module) else criterion
    needed = [p for p in _parameters(function).values() if p.default is p.empty and p.kind in (0, 1)]
    if known(criterion) or len(needed) > 1:
        raise TypeError(
            "the criterion takes a prediction and targets, but the data have no targets; pass targets=..., or a "
            "function fn(model, batch) that returns the loss, or criterion=None if the model's output holds it"
        )


def judged_by(criterion: Callable[..., Any], prediction: Any, targets: Any) -> Any:
    """The loss of a prediction, given the targets if there are any; a ValueError where they do not fit."""
    try:
        return criterion(prediction) if targets is None else criterion(prediction, targets)
    except IndexError as error:
        shape = list(prediction.shape) if isinstance(prediction, Tensor) else type(prediction).__name__
        raise ValueError(
            f"targets do not fit the model's predictions of shape {shape}: {error} Look at the number of classes"
        ) from error


def loss_in(output: Any) -> Any:
    """The loss that a model's output is or holds: a tensor without axes, ``.loss``, ``["loss"]`` or its first item.

    Raises:
        TypeError: there is none.
    """
    held: Any = output
    if isinstance(output, Mapping):
        held = output.get("loss")
    elif isinstance(output, (tuple, list)):
        held = output[0] if output else None
    elif hasattr(output, "loss"):
        held = output.loss
    if isinstance(held, (int, float)) or (isinstance(held, Tensor) and held.ndim == 0):
        return held
    raise TypeError(
        f"the output of type {type(output).__name__} holds no loss (a scalar, .loss or ['loss']); does the model get "
        "its labels? Else pass a criterion, or a function fn(model, batch) that returns the loss"
    )


def output_of(model: Callable[..., Any], inputs: Any) -> Any:
    """What a model gives for a tensor, a tuple of positional inputs or a dict of named ones."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, (tuple, list)) else model(inputs)


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The arguments of a function, none where Python does not know them."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
