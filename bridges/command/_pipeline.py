"""A loader's model, data and loss, as the options of the command ask for them."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any

import torch
from torch import nn

from bridges import loaders
from bridges.command._processes import Team, launched
from bridges.metrics import available
from bridges.models import Stream, everything
from lla_func.objective import samples


def device_of(arguments: Namespace) -> torch.device:
    """The device asked for, if this machine has it."""
    name = arguments.device if arguments.device is not None else ("cuda" if arguments.cuda else "cpu")
    if arguments.cuda and not name.startswith("cuda"):
        raise ValueError(f"--cuda and --device {name} contradict each other; give one of them")
    if arguments.device is None and arguments.cuda and not torch.cuda.is_available():
        warnings.warn("--cuda was given, but PyTorch finds no GPU; the CPU computes instead", stacklevel=2)
        name = "cpu"
    if name == "cuda" and launched().size > 1:
        name = f"cuda:{launched().local_rank}"
    return available(name)


def model_of(loader: ModuleType, arguments: Namespace, device: torch.device) -> nn.Module:
    """The loader's model, with random weights drawn from the seed."""
    chosen: dict[str, Any] = {"device": device}
    if arguments.weights not in (None, "-1"):
        chosen["weight_path"] = None if arguments.weights == "None" else arguments.weights
    if arguments.classes is not None:
        _need(loader.ModelInit, "N_CLASSES", "--classes", arguments)
        chosen["N_CLASSES"] = arguments.classes
    with Stream(arguments.seed, everything(device)), loaders.inside(arguments.loader, "ModelInit"):
        model = loader.ModelInit(**chosen)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"ModelInit of loader {arguments.loader!r} returns {type(model).__name__}, not an nn.Module"
        )
    return model


def metric_of(
    loader: ModuleType, arguments: Namespace, inputs: Any, target: Any, device: torch.device
) -> Any:
    """The loader's loss on a batch."""
    with loaders.inside(arguments.loader, "CustomLoss"):
        return loader.CustomLoss(inputs, target, device)


class _Anew:
    """Batches that are made again for each pass, for loaders whose batches can be gone over only once."""

    def __init__(self, make: Callable[[], Iterable[Any]]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Any]:
        return iter(self.make())


def batches_of(loader: ModuleType, arguments: Namespace, **given: Any) -> Iterable[Any]:
    """The loader's batches; options that are None are left to the loader."""
    if arguments.data not in (None, "-1"):
        given["data_path"] = arguments.data
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in chosen:
        _need(loader.CustomLoader, name, f"--{name}", arguments)
    with loaders.inside(arguments.loader, "CustomLoader"):
        batches = loader.CustomLoader(**chosen)
    return _Anew(lambda: loader.CustomLoader(**chosen)) if isinstance(batches, Iterator) else batches


def first_batch(loader: ModuleType, arguments: Namespace, **given: Any) -> tuple[Any, Any]:
    """The first unshuffled batch; what it draws at random comes from the seed."""
    with Stream(arguments.seed, everything(torch.device("cpu"))):
        batches = batches_of(loader, arguments, shuffle=False, **given)
        with loaders.inside(arguments.loader, "CustomLoader"):
            first = next(iter(batches), None)
    if first is None:
        raise ValueError(
            f"CustomLoader of loader {arguments.loader!r} yields no batch; is there data in --data?"
        )
    if not isinstance(first, (tuple, list)) or len(first) != 2:
        raise ValueError(
            f"CustomLoader of loader {arguments.loader!r} yields {type(first).__name__}, not pairs (inputs, targets); "
            "LoaderWrapper in bridges/loaders/template.py shows how to make them"
        )
    return first[0], first[1]


def evaluated_batch(loader: ModuleType, arguments: Namespace) -> tuple[Any, Any]:
    """The samples that the loss is taken over: as many as asked for, else what the loader finds enough."""
    size = arguments.batch_size or getattr(loader, "EVALUATION_BATCH", None)
    return first_batch(loader, arguments, batch_size=size)


def _need(function: Any, argument: str, option: str, arguments: Namespace) -> None:
    """Raises unless a loader's function takes an argument that an option needs."""
    if not loaders.accepts(function, argument):
        raise ValueError(
            f"{option} cannot be used with loader {arguments.loader!r}: its {function.__name__} has no {argument!r}"
        )


def described(model: nn.Module) -> str:
    return f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters"


def announce(model: nn.Module, batch: Any, device: torch.device, team: Team) -> None:
    """Prints what is evaluated, on what, and by whom."""
    together = "" if team.size == 1 else f", {team.size} processes"
    print(f"{described(model)}, {samples(batch)} samples, {device}{together}")
