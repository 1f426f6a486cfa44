"""Images of handwritten digits with their labels, 28 x 28 pixels in [0, 1]: the bundled ones, or MNIST."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from bridges.metrics import Loss
from lla_func.errors import flag, instance, one_of, positive_int

__all__ = [
    "DATA",
    "EVALUATION_BATCH",
    "CustomLoader",
    "CustomLoss",
    "LoaderWrapper",
    "Shifted",
    "bundled",
    "mnist",
]

DATA = Path(__file__).parents[1] / "data"
EVALUATION_BATCH = 256
"""Images that a landscape is drawn over unless told: enough to see its shape, few enough not to wait for it."""
SPLITS = ("all", "train", "test")


def CustomLoader(
    data_path: str | None = None,
    batch_size: int = 2048,
    wrap: bool = False,
    shuffle: bool = False,
    *,
    split: str = "all",
    shift: int = 0,
) -> Iterable[tuple[Tensor, Tensor]]:
    """Batches of images [B, 1, 28, 28] float32 and labels [B] int64.

    Args:
        data_path: None for the bundled digits; ``"mnist"`` for MNIST below ``./data``, downloaded if it is not there;
            any other value is a folder that holds MNIST as torchvision stores it.
        batch_size: samples in a batch. The default holds all 1,797 bundled digits in one.
        wrap: whether to pass the batches through :class:`LoaderWrapper`.
        shuffle: whether to visit the samples in another order each time.
        split: ``"train"``, ``"test"`` (held out) or ``"all"``, the one after the other (MNIST: the training images).
        shift: for training, moves each image by up to so many pixels each way, anew in every pass.
    """
    one_of("split", split, SPLITS)
    positive_int("shift", shift, least=0, most=28)
    positive_int("batch_size", batch_size)
    flag("wrap", wrap)
    flag("shuffle", shuffle)
    if data_path is not None:
        instance("data_path", data_path, (str, os.PathLike), "a str or a path")
    images, labels = bundled(split) if data_path is None else mnist(data_path, split)
    data = Shifted(images, labels, shift) if shift else TensorDataset(images, labels)
    loader = DataLoader(data, batch_size=batch_size, shuffle=shuffle)
    return LoaderWrapper(loader) if wrap else loader


class LoaderWrapper:
    """Turns whatever a loader yields into pairs of inputs and labels; here there is nothing to turn."""

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each batch as (inputs, labels); a new pass every time."""
        yield from self.loader


class Shifted(Dataset[tuple[Tensor, Tensor]]):
    """Images that are at another place, up to ``shift`` pixels away, each time they are looked at."""

    def __init__(self, images: Tensor, labels: Tensor, shift: int) -> None:
        self.images = F.pad(images, [shift] * 4)
        self.labels = labels
        self.size = images.shape[-2:]
        self.places = 2 * shift + 1

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """One image [1, 28, 28] and its label."""
        top, left = torch.randint(self.places, (2,)).tolist()
        height, width = self.size
        return self.images[index, :, top : top + height, left : left + width], self.labels[index]


class CustomLoss(Loss):
    """The mean cross-entropy of the model's logits on fixed images and labels."""

    def __init__(self, inputs: Tensor, target: Tensor, device: str = "cpu") -> None:
        super().__init__(nn.CrossEntropyLoss(), inputs, target, device=device)


def bundled(split: str = "all") -> tuple[Tensor, Tensor]:
    """The digits of the UCI data set that come with the package, enlarged from 8 x 8 to 28 x 28 pixels.

    Args:
        split: ``"train"`` (1,437 images), ``"test"`` (360, held out) or ``"all"`` (1,797, training images first).

    Returns:
        Images [N, 1, 28, 28] float32 in [0, 1] and labels [N] int64.

    Source:
        E. Alpaydin and C. Kaynak (1998), UCI Machine Learning Repository, CC BY 4.0; see ``data/ATTRIBUTION.md``.

    Example:
        >>> images, labels = bundled("test")
        >>> images.shape, labels.shape
        (torch.Size([360, 1, 28, 28]), torch.Size([360]))
    """
    one_of("split", split, SPLITS)
    with np.load(DATA / "digits.npz") as file:
        small, labels, held_out = (torch.from_numpy(file[name]) for name in ("images", "labels", "held_out"))
    images = F.interpolate(small.float().unsqueeze(1) / 16, size=(28, 28), mode="bilinear")
    parts = {"train": (~held_out,), "test": (held_out,), "all": (~held_out, held_out)}[split]
    chosen = torch.cat([part.nonzero().squeeze(1) for part in parts])
    return images[chosen], labels[chosen].long()


def mnist(where: str, split: str = "train") -> tuple[Tensor, Tensor]:
    """The MNIST digits, by torchvision.

    Args:
        where: ``"mnist"`` to use ``./data`` and download what is missing, or a folder that already holds MNIST.
        split: ``"test"`` for the 10,000 test images, otherwise the 60,000 training images.

    Returns:
        Images [N, 1, 28, 28] float32 in [0, 1] and labels [N] int64.

    Raises:
        FileNotFoundError: the folder does not hold MNIST.
        ConnectionError: the download failed.
    """
    try:
        from torchvision import datasets
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "MNIST is read by torchvision, which is not installed; python -m pip install torchvision, or leave --data "
            "out to use the bundled digits"
        ) from error
    download = where == "mnist"
    folder = "data" if download else where
    try:
        data = datasets.MNIST(folder, train=split != "test", download=download)
    except (OSError, RuntimeError) as error:
        if download:
            raise ConnectionError(
                f"MNIST could not be downloaded to {folder!r} ({error}); without internet, leave --data out to use the "
                "bundled digits, or copy MNIST there from another machine and give that folder as --data"
            ) from error
        raise FileNotFoundError(
            f"{where!r} does not hold MNIST (torchvision looks for {where}/MNIST/raw); give --data mnist to "
            "download it to ./data, or leave --data out to use the bundled digits"
        ) from error
    return data.data.unsqueeze(1).float() / 255, data.targets
