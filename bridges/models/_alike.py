"""Whether models are of one architecture, and in what they differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from torch import Tensor, nn

from bridges.models._batchnorm import STATISTICS
from bridges.models._parameters import unwrap

SHOWN = 3
"""How many differences a message lists."""


def check_alike(models: Mapping[str, nn.Module]) -> None:
    """Raises a ValueError that lists the first differences unless all models have the same parameters and buffers.

    They are compared by name, shape, dtype, ``requires_grad`` and what is tied, with the first of the models; in what
    order they come does not matter.

    Args:
        models: by the names that messages call them.

    Example:
        >>> check_alike({"a": nn.Linear(2, 3), "b": nn.Linear(2, 4)})
        Traceback (most recent call last):
        ...
        ValueError: 'b' is of another architecture than 'a': weight has shape [4, 2], in 'a' [3, 2]; bias has shape \
[4], in 'a' [3]
    """
    (first, model), *others = models.items()
    for name, other in others:
        if found := list(_differences(unwrap(model), unwrap(other), first)):
            more = f" and {len(found) - SHOWN} more differences" if len(found) > SHOWN else ""
            listed = "; ".join(found[:SHOWN])
            raise ValueError(f"{name!r} is of another architecture than {first!r}: {listed}{more}")


def different_constants(models: Sequence[nn.Module]) -> dict[str, list[str]]:
    """What does not move between models of one architecture and still differs, by kind.

    Returns:
        names by ``"frozen"`` (parameters without gradient), ``"statistics"`` (of BatchNorm) and ``"buffers"`` (all
        others); of each kind those that are not equal in all models.

    Example:
        >>> first, second = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
        >>> _ = second.running_mean.fill_(1)
        >>> different_constants([first, second])
        {'frozen': [], 'statistics': ['running_mean'], 'buffers': []}
    """
    first, *others = [dict(_constants(unwrap(model))) for model in models]
    found: dict[str, list[str]] = {"frozen": [], "statistics": [], "buffers": []}
    for name, (kind, tensor) in first.items():
        if not all(_equal(tensor, other[name][1]) for other in others):
            found[kind].append(name)
    return found


def different_buffers(model: nn.Module, buffers: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Which of these buffers have other values in a model: names by ``"statistics"`` (of BatchNorm) and ``"buffers"``.

    Example:
        >>> import torch
        >>> different_buffers(nn.BatchNorm1d(2), {"running_mean": torch.ones(2), "running_var": torch.ones(2)})
        {'statistics': ['running_mean'], 'buffers': []}
    """
    found: dict[str, list[str]] = {"statistics": [], "buffers": []}
    for name, (kind, tensor) in _constants(unwrap(model)):
        if kind != "frozen" and name in buffers and not _equal(tensor, buffers[name]):
            found[kind].append(name)
    return found


def _differences(model: nn.Module, other: nn.Module, first: str) -> Iterator[str]:
    mine, theirs = _tensors(model), _tensors(other)
    tied, ties = _tied(mine), _tied(theirs)
    for name, tensor in mine.items():
        if name not in theirs:
            yield f"it lacks {name}"
            continue
        found = theirs[name]
        if found.shape != tensor.shape:
            yield f"{name} has shape {list(found.shape)}, in {first!r} {list(tensor.shape)}"
        elif found.dtype != tensor.dtype:
            yield f"{name} has dtype {found.dtype}, in {first!r} {tensor.dtype}"
        elif found.requires_grad != tensor.requires_grad:
            state = "moves (requires_grad)" if found.requires_grad else "is frozen (requires_grad=False)"
            yield f"{name} {state}, unlike in {first!r}"
        elif ties[name] != tied[name]:
            shared = sorted(ties[name] ^ tied[name])[0]
            state = "shares" if shared in ties[name] else "does not share"
            yield f"{name} {state} its values with {shared}, unlike in {first!r}"
    for name in theirs:
        if name not in mine:
            yield f"it has {name}, unlike {first!r}"


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, tied ones under each of theirs."""
    return dict(
        chain(model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False))
    )


def _tied(tensors: Mapping[str, Tensor]) -> dict[str, set[str]]:
    """For each name all the names of the same tensor."""
    names: dict[int, set[str]] = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), set()).add(name)
    return {name: names[id(tensor)] for name, tensor in tensors.items()}


def _constants(model: nn.Module) -> Iterator[tuple[str, tuple[str, Tensor]]]:
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            yield name, ("frozen", parameter.detach())
    for name, buffer in model.named_buffers():
        yield name, ("statistics" if name.rpartition(".")[2] in STATISTICS else "buffers", buffer)


def _equal(tensor: Tensor, other: Tensor) -> bool:
    """Equal as arrays, NaN where both are."""
    other = other.to(tensor.device)
    return bool(((tensor == other) | ((tensor != tensor) & (other != other))).all())
