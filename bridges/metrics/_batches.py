"""Data for an objective: batches on one device, from tensors or from a loader."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader

from bridges.metrics._forms import divided, translated
from bridges.metrics._graphs import Packed
from bridges.models import Stream, everything
from lla_func._torch import free_memory, tensors
from lla_func.errors import flag, instance, usable_device
from lla_func.objective import Batch

SHARE = 0.25
"""The share of the free memory that data may take to become resident."""


def available(device: Any) -> torch.device:
    """The device, or a ValueError that says why it cannot be used."""
    return usable_device("device", device)


def move(tree: Any, device: torch.device) -> Any:
    """The same pytree with its tensors on ``device``."""
    if isinstance(tree, Tensor):
        return tree.to(device)
    if type(tree) in (tuple, list):  # in every call of a loss; a general walk takes ten times as long
        return type(tree)(move(part, device) for part in tree)
    return pytree.tree_map(lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, tree)


def checked(inputs: Any, targets: Any, device: torch.device) -> tuple[Any, Any]:
    """The batch (inputs, targets) of what :class:`Loss` takes, on ``device``, or an error that says what is wrong."""
    lengths: dict[str, list[int]] = {}
    inputs, targets = translated(inputs), translated(targets)
    graph = isinstance(inputs, Packed)
    for name, tree in (("inputs", inputs), ("targets", targets)):
        if name == "targets" and targets is None:
            continue
        leaves = list(tensors(tree))
        if not leaves:
            raise TypeError(
                f"{name} is of type {type(tree).__name__} and holds no tensor; pass a tensor (torch.as_tensor(...)) "
                "or a tuple or dict of tensors"
            )
        if not graph and any(leaf.ndim == 0 for leaf in leaves):
            raise ValueError(f"{name} has a tensor without axes; axis 0 must count the samples")
        lengths[name] = [leaf.shape[0] if leaf.ndim else 1 for leaf in leaves]
        if 0 in lengths[name]:
            raise ValueError(f"{name} is empty (no samples on axis 0); at least one sample is needed")
    # One common length is enough: some inputs, such as edges or offsets, count something else than samples.
    if not graph and targets is not None and not set(lengths["inputs"]) & set(lengths["targets"]):
        raise ValueError(
            f"targets has {lengths['targets'][0]} samples on axis 0, inputs has {lengths['inputs'][0]}; "
            "both must have the same number, with samples on the first axis"
        )
    return move(inputs, device), move(targets, device)


def formed(item: Any, form: str, device: torch.device) -> Batch:
    """A batch on ``device``, made of an item in any of the forms of :mod:`bridges.metrics._forms`.

    The form ``"pair"`` makes it inputs and targets, None where there are none; ``"whole"`` leaves it the item itself.
    """
    if form == "whole":
        whole = translated(item)
        if not any(True for _ in tensors(whole)):
            raise TypeError(f"the batch is of type {type(item).__name__} and holds no tensor")
        return move(whole, device)
    if isinstance(item, (tuple, list)) and not item:
        raise ValueError("the batch is an empty tuple; it needs inputs at least")
    return checked(*divided(item), device)


def ordinary(batches: Iterable[Batch]) -> Iterable[Batch]:
    """The same batches, where tensors made in inference mode, which take no part in derivatives, are copied."""

    def copied(leaf: Any) -> Any:
        return leaf.clone() if isinstance(leaf, Tensor) and leaf.is_inference() else leaf

    if not isinstance(batches, (list, tuple)):
        return batches
    with torch.inference_mode(False):
        return [pytree.tree_map(copied, batch) for batch in batches]


_END = object()


class Streamed:
    """The batches of a loader, moved to the device one by one; every pass gives the same batches.

    A loader draws from the global random generators, and from its own, to shuffle and to augment. Here it draws
    from a private stream that starts at the same place in every pass, and all generators stay where they were.
    What workers that outlive a pass draw (``persistent_workers=True``) is beyond reach.
    """

    def __init__(
        self, loader: Iterable[Any], device: torch.device, *, form: str = "pair", seed: int = 0
    ) -> None:
        self._loader = loader
        self._device = device
        self._form = form
        self._seed = seed
        self._length: int | None = None

    def __iter__(self) -> Iterator[Batch]:
        stream = Stream(self._seed, everything(self._device, also=_generators(self._loader)))
        with stream:
            iterator = iter(self._loader)
        for index in itertools.count():
            with stream:
                batch = next(iterator, _END)
            if batch is _END:
                break
            try:
                found = formed(batch, self._form, self._device)
            except (TypeError, ValueError) as error:
                raise type(error)(f"batch {index} of the loader: {error}") from error
            yield found
        if self._length not in (None, index):
            raise ValueError(
                f"loader yields {index} batches in this pass, {self._length} before; it must give the same in "
                "every pass (resident=True reads it only once)"
            )
        self._length = index


def from_loader(
    loader: Iterable[Any], device: torch.device, *, resident: bool | None = None, form: str = "pair"
) -> Iterable[Batch]:
    """The batches of a loader, kept on the device if they fit into a share of its free memory, else streamed.

    What can be iterated only once is always kept; ``resident`` decides about all else, unless it is None.
    """
    instance("loader", loader, Iterable, "a DataLoader or an iterable of batches")
    if resident is not None:
        flag("resident", resident)
    if isinstance(loader, Iterator):
        resident = True
    streamed = Streamed(loader, device, form=form)
    budget = float("inf") if resident else 0.0 if resident is False else SHARE * free_memory(device)
    kept, size = [], 0
    for batch in streamed:
        size += sum(tensor.nbytes for tensor in tensors(batch))
        if size > budget:
            return streamed
        kept.append(batch)
    if not kept:
        raise ValueError(
            "loader yields no batch; at least one is needed (is drop_last=True with too few samples?)"
        )
    return kept


def _generators(loader: Any) -> list[torch.Generator]:
    """The generators that a loader and its samplers own, each once."""
    owners = [loader]
    if isinstance(loader, DataLoader):
        owners += [loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)]
    found = (getattr(owner, "generator", None) for owner in owners)
    return list({id(g): g for g in found if isinstance(g, torch.Generator)}.values())
