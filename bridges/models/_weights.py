"""Weights to and from files, without running anything that a file contains."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lla_func.errors import instance
from lla_func.files import replacing


def save(model: nn.Module, path: str | os.PathLike[str]) -> Path:
    """Saves a model's state dict, as CPU tensors, for :func:`load` or ``torch.load(weights_only=True)``.

    The file is written under a temporary name and renamed, so that a reader never sees half of it.

    Args:
        model: any module.
        path: the file; missing folders are made.

    Returns:
        The path.
    """
    instance("path", path, (str, os.PathLike), "the path of a weights file")
    instance("model", model, nn.Module, "a torch.nn.Module")
    path = Path(path)
    if not path.name:
        raise ValueError(f"path={str(path)!r} is no file name; pass the path of a weights file")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        try:
            torch.save({key: tensor.detach().cpu() for key, tensor in model.state_dict().items()}, file)
        except RuntimeError as error:  # torch's own, while it closes a file that there was no room for
            if isinstance(cause := error.__context__, OSError):
                raise cause from error
            raise
    return path


def load(
    model: nn.Module, path: str | os.PathLike[str], *, aliases: Mapping[str, str] | None = None
) -> nn.Module:
    """Loads a state dict from a file into a model.

    Args:
        model: the model that the weights belong to; it is changed in place.
        path: a file written by :func:`save` or ``torch.save(model.state_dict(), path)``.
        aliases: what another implementation of the same network calls its modules, and what they are here. They are
            used if no name in the file is one of the model's.

    Returns:
        The model.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no state dict, holds Python objects besides tensors (loading them could run
            code), or belongs to another model: the first parameter that does not fit is named.

    Example:
        >>> import tempfile
        >>> layer, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save(layer, Path(folder) / "layer.pth")
        ...     _ = load(other, path)
        >>> torch.equal(layer.weight, other.weight)
        True
    """
    instance("path", path, (str, os.PathLike), "the path of a weights file")
    instance("model", model, nn.Module, "a torch.nn.Module")
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no weights file {str(path)!r}")
    state = read(path)
    if aliases and not set(state) & set(model.state_dict()):
        state = {_renamed(name, aliases): tensor for name, tensor in state.items()}
    return adopt(model, state, source=f"weights file {str(path)!r}")


def adopt(model: nn.Module, state: Mapping[str, Tensor], *, source: str) -> nn.Module:
    """Copies a state dict into a model, or raises a ValueError that names the first key that does not fit.

    Args:
        model: the model, changed in place.
        state: names and tensors.
        source: where the state comes from, for the message.
    """
    own, foreign = model.state_dict(), f"{source} is not for this {type(model).__name__}"
    for key, tensor in own.items():
        if key not in state:
            raise ValueError(f"{foreign}: it lacks {key!r} ({_some(state)})")
        if (there := list(state[key].shape)) != (here := list(tensor.shape)):
            raise ValueError(f"{foreign}: {key!r} has shape {there}, in the model {here}")
    if unknown := [key for key in state if key not in own]:
        raise ValueError(f"{foreign}, which has no {unknown[0]!r}")
    model.load_state_dict(state)
    return model


def read(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The named tensors in a weights file, on the CPU; a ValueError if it holds anything else."""
    remedy = "a weights file is written by torch.save(model.state_dict(), path)"
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises errors of many types here, none of which says which file it was
        if "GLOBAL" in str(error):
            problem = "holds Python objects besides tensors; loading them could run code, so it was refused"
        else:
            problem = "is damaged or not a weights file"
        raise ValueError(f"weights file {str(path)!r} {problem}; {remedy}") from error
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        found = f"a dict with {_some(state)}" if isinstance(state, dict) else type(state).__name__
        raise ValueError(f"weights file {str(path)!r} holds {found} instead of named tensors; {remedy}")
    return state


def _renamed(name: str, aliases: Mapping[str, str]) -> str:
    """A parameter's name with its module called as in ``aliases``."""
    module, dot, rest = name.rpartition(".")
    return aliases.get(module, module) + dot + rest


def _some(names: Mapping[str, Any]) -> str:
    """A few names of a mapping, for a message."""
    shown = [repr(name) for name in list(names)[:4]]
    return "it has " + ", ".join(shown) + (", ..." if len(names) > 4 else "") if shown else "it is empty"
