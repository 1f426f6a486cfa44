"""A loan: what a pass of a borrowed model may alter, written down before, and put back on any exit, Ctrl-C included."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain, filterfalse
from operator import itemgetter
from typing import TypeVar

import torch
from torch import nn

from bridges.models._rng import LOCK, Source

T = TypeVar("T")

registries = itemgetter(
    *(name for name, value in vars(nn.Module()).items() if isinstance(value, (dict, set)))
)
"""The registries of a module, from its attributes: parameters, buffers, submodules and all kinds of hooks."""


class _Loan:
    """The attributes and registries of modules, the states of random generators and the gradient mode, as they are."""

    def __init__(self, modules: Iterable[nn.Module], sources: Iterable[Source]) -> None:
        every = [*map(vars, modules)]
        self._attributes = [(attributes, attributes.copy()) for attributes in every]
        found = [*chain.from_iterable(map(registries, every))]
        self._empty = [*filterfalse(None, found)]  # most are
        self._filled = [(registry, registry.copy()) for registry in filter(None, found)]
        self._random = [(source, source.get()) for source in sources]
        self._gradients = torch.is_grad_enabled()

    def give_back(self) -> None:
        """Puts everything back. It may be interrupted, and done any number of times."""
        for attributes, before in self._attributes:
            attributes.update(before)
            if len(attributes) > len(before):
                for name in attributes.keys() - before.keys():
                    del attributes[name]
        for registry in filter(None, self._empty):
            registry.clear()
        for registry, content in self._filled:
            if [*registry] != [*content]:
                registry.clear()  # the order counts as well
            registry.update(content)
        for source, state in self._random:
            source.set(state)
        if torch.is_grad_enabled() != self._gradients:
            torch.set_grad_enabled(self._gradients)


def lent(modules: Iterable[nn.Module], sources: Iterable[Source], work: Callable[[], T]) -> T:
    """What ``work()`` gives; whatever it did to the modules and generators is undone, come what may.

    An interruption may fall between any two steps, also of what undoes. So that is done once more where an exception
    leaves, unless it was completed: the lock is given up last. Neither ``with`` nor one ``finally`` alone can promise
    that.

    A forward pass may leave traces in plain attributes: the old ``weight_norm`` stores the weight it computed,
    recurrent layers a list of their weights, others keep activations or register a buffer or a hook. All of that is
    undone. Otherwise the caller's model would keep tensors of another point in weight space, or of a transform that
    has ended. What a pass changes inside an object that an attribute refers to, such as a list that it appends to, is
    not undone. ``work`` is called once, while no other thread is at work here; ``modules`` are all that it may alter,
    submodules included.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> lent([layer], [], lambda: layer.train(False).training), layer.training
        (False, True)
    """
    outermost = not LOCK._is_owned()  # type: ignore[attr-defined]
    loan: _Loan | None = None

    def end() -> None:
        if LOCK._is_owned():  # type: ignore[attr-defined]
            if loan is not None:
                loan.give_back()
            if outermost:
                LOCK.release()

    try:
        try:
            if outermost:
                LOCK.acquire()
            loan = _Loan(modules, sources)
            return work()
        finally:
            end()
    except BaseException:
        end()
        raise
