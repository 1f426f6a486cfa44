"""ResNet-18 on folders of images, one folder a class."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, models, transforms

from bridges import weights
from bridges.loaders.digits import CustomLoss, LoaderWrapper

__all__ = ["CustomLoader", "CustomLoss", "LoaderWrapper", "ModelInit"]

# What torchvision's ImageNet weights expect (torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms).
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def ModelInit(
    N_CLASSES: int = 1000,
    weight_path: str | os.PathLike[str] | None = "IMAGENET1K_V1",
    device: str | torch.device = "cpu",
) -> nn.Module:
    """ResNet-18 as torchvision builds it.

    Args:
        N_CLASSES: the number of outputs; 1,000 for the ImageNet weights.
        weight_path: a weights file, None for random weights, or the name of weights that torchvision downloads.
        device: where the model goes.

    Raises:
        ConnectionError: the named weights could not be downloaded.
        FileNotFoundError, ValueError: as :func:`bridges.models.load`.
    """
    model = models.resnet18(weights=None, num_classes=N_CLASSES)
    names = [entry.name for entry in models.ResNet18_Weights]
    if weight_path in names:
        weights.adopt(model, _download(str(weight_path)), source=f"torchvision's {weight_path}")
    elif weight_path is not None:
        weights.load(model, weight_path)
    return model.to(device)


def CustomLoader(
    data_path: str | os.PathLike[str] | None = None,
    batch_size: int = 64,
    wrap: bool = False,
    shuffle: bool = False,
) -> Iterable[tuple[Tensor, Tensor]]:
    """Batches of images [B, 3, 224, 224], scaled as for ImageNet, and labels [B] int64.

    Args:
        data_path: a folder with one folder of images for each class.
        batch_size: samples in a batch.
        wrap: whether to pass the batches through ``LoaderWrapper``.
        shuffle: whether to visit the samples in another order each time.

    Raises:
        ValueError: no data_path is given.
        FileNotFoundError: the folder does not exist or has no images in folders.
    """
    if data_path is None:
        raise ValueError(
            "loader 'resnet' needs data: give a folder with one folder of images a class as --data"
        )
    if not Path(data_path).is_dir():
        raise FileNotFoundError(f"there is no data folder {str(data_path)!r}")
    cut = [transforms.Resize(256), transforms.CenterCrop(224)]
    prepare = transforms.Compose([*cut, transforms.ToTensor(), transforms.Normalize(mean=MEAN, std=STD)])
    loader = DataLoader(datasets.ImageFolder(data_path, prepare), batch_size=batch_size, shuffle=shuffle)
    return LoaderWrapper(loader) if wrap else loader


def _download(name: str) -> dict[str, Any]:
    try:
        entry = models.ResNet18_Weights[name]
        return dict(entry.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except OSError as error:
        raise ConnectionError(
            f"torchvision's weights {name!r} could not be downloaded ({error}); without internet, give a weights file "
            "as --weights, or --weights None for random ones"
        ) from error
