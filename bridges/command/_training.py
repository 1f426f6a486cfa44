"""Training a model by Adam through its metric, one record an epoch."""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bridges.models import Stream, everything
from lla_func.errors import finite_number, instance, one_of, positive_int, seed_number, shown
from lla_func.files import append_line
from lla_func.objective import samples

SCHEDULES = ("constant", "cosine")

# What the loader protocol calls a metric: metric(None, model=..., batch=..., use_wrapper=False, return_pred=True).
Metric = Callable[..., Any]


class Epoch(NamedTuple):
    """What happened in one epoch of training.

    Attributes:
        epoch: its number, from 0.
        loss: the mean loss over the epoch's samples, each taken just before its batch's step.
        accuracy: the share of these samples classified right, None where the task is no classification.
        held_out_loss: the mean loss over the held-out samples after the epoch, None without such data.
        held_out_accuracy: the share of them classified right.
        seconds: how long the epoch's training took.
    """

    epoch: int
    loss: float
    accuracy: float | None
    held_out_loss: float | None
    held_out_accuracy: float | None
    seconds: float


def train(
    model: nn.Module,
    metric: Metric,
    batches: Iterable[Any],
    *,
    epochs: int = 1,
    lr: float = 0.01,
    schedule: str = "constant",
    optimizer: torch.optim.Optimizer | None = None,
    held_out: Iterable[Any] | None = None,
    seed: int = 0,
    after_epoch: Callable[[Epoch], None] | None = None,
    after_step: Callable[[int], Any] | None = None,
) -> list[Epoch]:
    """Trains a model in place.

    Args:
        model: the model.
        metric: gives loss and predictions of a batch when called as the loader protocol says,
            ``metric(None, model=model, batch=batch, use_wrapper=False, return_pred=True)``.
        batches: yields the training batches anew for every epoch.
        epochs: how many times to go over them.
        lr: Adam's learning rate, where no optimizer is given.
        schedule: ``"constant"``, or ``"cosine"`` to let the learning rate fall to zero over the epochs along half a
            cosine (Loshchilov and Hutter 2017, equation 5, without restarts).
        optimizer: another optimizer of the model's parameters.
        held_out: batches to measure on after each epoch.
        seed: decides what the batches' shuffling and dropout draw; the same seed gives the same weights, bit for bit on
            one machine. The caller's random states are not moved.
        after_epoch: called with each record as soon as it is there.
        after_step: called with the number of steps made, such as a recorder of ``bridges.trajectories``.

    Returns:
        One :class:`Epoch` for each epoch.

    Raises:
        ValueError: there are no batches, or they cannot be gone over again, or the loss stops being finite.

    Example:
        >>> from bridges.loaders import mlp as mlp
        >>> model = mlp.ModelInit(weight_path=None)
        >>> batches = mlp.CustomLoader(batch_size=64, shuffle=True, split="train")
        >>> metric = mlp.CustomLoss(*next(iter(batches)))
        >>> history = train(model, metric, batches, epochs=2)
        >>> history[1].loss < history[0].loss
        True
    """
    instance("model", model, nn.Module, "a torch.nn.Module")
    for name, function in (("metric", metric), ("after_epoch", after_epoch), ("after_step", after_step)):
        if not callable(function) and (name == "metric" or function is not None):
            raise TypeError(f"{name}={shown(function)} cannot be called")
    if optimizer is not None:
        wanted = "a torch.optim optimizer of the model's parameters"
        instance("optimizer", optimizer, torch.optim.Optimizer, wanted)
    epochs = positive_int("epochs", epochs)
    one_of("schedule", schedule, SCHEDULES)
    for name, data in (("batches", batches), ("held_out", held_out)):
        if data is not None:
            instance(name, data, Iterable, "a DataLoader or a list of batches")
        if epochs > 1 and isinstance(data, Iterator):
            raise ValueError(
                f"{name} can be gone over only once; pass a list or a DataLoader, which start anew each epoch"
            )
    if optimizer is None:
        optimizer = torch.optim.Adam(model.parameters(), lr=finite_number("lr", lr, above=0))
    rates = [group["lr"] for group in optimizer.param_groups]
    randomness = Stream(seed_number("seed", seed), everything(_device(model)))
    history = []
    steps = itertools.count(1)
    for number in range(epochs):
        if schedule == "cosine":
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 + math.cos(math.pi * number / epochs)) / 2
        start = time.perf_counter()
        with randomness:
            model.train()
            follow = None if after_step is None else lambda: after_step(next(steps))
            loss, accuracy = _pass(model, metric, batches, optimizer, follow)
        seconds = time.perf_counter() - start
        held_loss, held_accuracy = (None, None) if held_out is None else score(model, metric, held_out)
        history.append(Epoch(number, loss, accuracy, held_loss, held_accuracy, seconds))
        if after_epoch is not None:
            after_epoch(history[-1])
    return history


def score(model: nn.Module, metric: Metric, batches: Iterable[Any]) -> tuple[float, float | None]:
    """The mean loss over batches, in eval mode, and the share of samples classified right (None if not classified).

    The model keeps its modes, and the global random states, which data loaders draw from, stay where they are.
    """
    training = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad(), Stream(0, everything(_device(model))):
            return _pass(model, metric, batches, None)
    finally:
        for module, mode in training.items():
            module.training = mode


def log(path: str | os.PathLike[str]) -> Callable[[Epoch], None]:
    """A function for ``after_epoch`` that writes each record as one line of JSON to a new file."""
    Path(path).write_text("")

    def append(epoch: Epoch) -> None:
        append_line(path, json.dumps(epoch._asdict()))

    return append


def _device(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def _pass(
    model: nn.Module,
    metric: Metric,
    batches: Iterable[Any],
    optimizer: torch.optim.Optimizer | None,
    after_step: Callable[[], Any] | None = None,
) -> tuple[float, float | None]:
    """Goes over the batches once, with a step after each if there is an optimizer; returns (loss, accuracy)."""
    total, weights, right, judged, count = 0.0, 0.0, 0, 0, 0
    weight_of = getattr(metric, "weight", None)
    for index, batch in enumerate(batches):
        loss, predictions = metric(None, model=model, batch=batch, use_wrapper=False, return_pred=True)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ValueError(
                f"the loss is {value} at batch {index}; lower the learning rate or look at the data"
            )
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if after_step is not None:
                after_step()
        size = samples(batch)
        weight = float(weight_of(batch)) if callable(weight_of) else size
        total, weights, count = total + value * weight, weights + weight, count + size
        hits = _hits(predictions, batch[1])
        if hits is not None:
            right, judged = right + hits, judged + size
    if count == 0:
        raise ValueError("batches is empty; at least one batch of data is needed")
    return total / weights, right / judged if judged == count else None


def _hits(predictions: Any, target: Any) -> int | None:
    """How many class predictions [B, classes] are right, None if these are no classes."""
    if not isinstance(predictions, Tensor) or not isinstance(target, Tensor):
        return None
    if predictions.ndim != 2 or target.ndim != 1 or target.is_floating_point():
        return None
    return int((predictions.detach().argmax(dim=1) == target.to(predictions.device)).sum())
