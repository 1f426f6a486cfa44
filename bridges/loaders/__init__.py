"""Loaders: pipelines of a model, its data and its loss, ready ones by name or your own from a file."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from lla_func.errors import instance, one_of

__all__ = ["PROTOCOL", "READY", "accepts", "find", "inside"]

READY = ("lenet", "mlp", "resnet", "template")
"""The loaders that come with the package."""

PROTOCOL = {
    "ModelInit": ("weight_path", "device"),
    "CustomLoader": ("data_path", "batch_size", "shuffle"),
    "CustomLoss": (),
}
"""What a loader defines, each with the arguments that are passed to it by name."""


def find(loader: str) -> ModuleType:
    """The loader of a name or a file.

    Args:
        loader: one of :data:`READY`, or the path of a Python file that defines what :data:`PROTOCOL` lists. Copy
            ``bridges/loaders/template.py`` to write one. The file is run, so it should be one that you trust.

    Returns:
        The module.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the name is unknown, or the file cannot be run or is not a loader; the message says what is missing.

    Example:
        >>> find("lenet").ModelInit().__class__.__name__
        'LeNet'
    """
    instance("loader", loader, str, "a name or the path of a Python file, as a str")
    if _is_file(loader):
        module = _run(Path(loader))
    else:
        one_of("loader", loader, READY)
        try:
            module = importlib.import_module(f"{__name__}.{loader}")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"loader {loader!r} needs {error.name}, which is not installed; python -m pip install {error.name}"
            ) from error
    for name, arguments in PROTOCOL.items():
        element = getattr(module, name, None)
        if not callable(element):
            raise ValueError(
                f"loader {loader!r} has no {name}; a loader defines {', '.join(PROTOCOL)} "
                "(see bridges/loaders/template.py)"
            )
        for argument in arguments:
            if not accepts(element, argument):
                raise ValueError(
                    f"{name} of loader {loader!r} takes no argument {argument!r}; it needs "
                    f"{', '.join(arguments)} (see bridges/loaders/template.py)"
                )
    return module


def content(loader: str) -> str | None:
    """The SHA-256 of a loader's file (not of what it imports), None for a ready loader.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not _is_file(loader):
        return None
    if not Path(loader).is_file():
        raise FileNotFoundError(f"there is no loader file {loader!r}")
    return hashlib.sha256(Path(loader).read_bytes()).hexdigest()


def _is_file(loader: str) -> bool:
    return loader.endswith(".py") or "/" in loader or "\\" in loader


def accepts(function: Any, argument: str) -> bool:
    """Whether a function can be called with an argument of this name."""
    parameters = inspect.signature(function).parameters
    return argument in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


@contextlib.contextmanager
def inside(loader: str, element: str) -> Iterator[None]:
    """Whatever goes wrong in a loader file's own code becomes a ValueError that names the file and the element."""
    try:
        yield
    except Exception as error:
        if loader in READY:  # these name what is wrong themselves
            raise
        raise ValueError(
            f"{element} of loader {loader!r} fails with {type(error).__name__}: {error}"
        ) from error


def _run(path: Path) -> ModuleType:
    """The module that a Python file defines; it may import its neighbors."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no loader file {str(path)!r}")
    name = f"loader_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"loader file {str(path)!r} is not a Python file; its name has to end with .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that its data classes and workers of its DataLoader find it
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"loader file {str(path)!r} fails with {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    return module
