"""Random numbers that leave no trace: a private stream in the place of the global generators."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import torch

LOCK = threading.RLock()
"""Held by the one thread that draws from the global random generators, or uses a borrowed model.

One lock for all models, not one for each: models share submodules, and the generators belong to the whole process.
"""


class Source(NamedTuple):
    """A global random generator: how to read its state, write it and seed it."""

    get: Callable[[], Any]
    set: Callable[[Any], Any]
    seed: Callable[[int], Any]

    @classmethod
    def of(cls, generator: torch.Generator) -> Source:
        """The source that is a torch generator."""
        return cls(generator.get_state, generator.set_state, generator.manual_seed)


def torch_only(device: torch.device) -> tuple[Source, ...]:
    """Torch's own generators for work on ``device``.

    ``torch.manual_seed`` is not used: it seeds every GPU, also those that nobody here would restore.
    """
    sources = [Source.of(torch.default_generator)]
    if device.type == "cuda":
        torch.cuda.init()
        index = torch.cuda.current_device() if device.index is None else device.index
        sources.append(Source.of(torch.cuda.default_generators[index]))
    return tuple(sources)


def everything(device: torch.device, *, also: Iterable[torch.Generator] = ()) -> tuple[Source, ...]:
    """All global generators that data loading may draw from, and any generators of its own."""
    libraries = (
        # NumPy's seeds have 32 bits, those of PyTorch and of the arguments here 64.
        Source(np.random.get_state, np.random.set_state, lambda seed: np.random.seed(seed % 2**32)),  # noqa: NPY002
        Source(random.getstate, random.setstate, random.seed),
    )
    return (*torch_only(device), *libraries, *map(Source.of, also))


class Stream:
    """A context in which global generators continue a private stream; outside they are where they were.

    It may be entered again and again: the first time the generators are seeded, later each goes on from where
    the stream was left. So a loop can draw from the stream while its body sees the undisturbed global state. One
    thread at a time is in such a context, or at work with a borrowed model.

    Example:
        >>> stream = Stream(0, torch_only(torch.device("cpu")))
        >>> before = torch.get_rng_state()
        >>> with stream:
        ...     a = torch.rand(())
        >>> with stream:
        ...     b = torch.rand(())
        >>> bool(a != b), torch.equal(before, torch.get_rng_state())
        (True, True)
    """

    def __init__(self, seed: int, sources: tuple[Source, ...]) -> None:
        self._seed = seed
        self._sources = sources
        self._inner: list[Any] | None = None
        self._outer: list[Any] = []

    def __enter__(self) -> None:
        LOCK.acquire()
        self._outer = [source.get() for source in self._sources]
        if self._inner is None:
            for source in self._sources:
                source.seed(self._seed)
        else:
            for source, state in zip(self._sources, self._inner, strict=True):
                source.set(state)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._inner = [source.get() for source in self._sources]
        finally:
            for source, state in zip(self._sources, self._outer, strict=True):
                source.set(state)
            LOCK.release()
