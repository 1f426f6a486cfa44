"""LeNet-5 on handwritten digits: the pipeline that the commands use by default."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from bridges import weights
from bridges.loaders.digits import DATA, EVALUATION_BATCH, CustomLoader, CustomLoss, LoaderWrapper
from lla_func.errors import positive_int, usable_device

__all__ = ["EVALUATION_BATCH", "WEIGHTS", "CustomLoader", "CustomLoss", "LeNet", "LoaderWrapper", "ModelInit"]

WEIGHTS = DATA / "lenet_digits.pth"

ALIASES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "fc1": "classifier.0",
    "fc2": "classifier.2",
    "fc3": "classifier.4",
}
"""The layers' names in the original's LeNet, which is the same network: its weights files can be used."""


class LeNet(nn.Module):
    """LeNet-5 with ReLU and max pooling in place of the original's tanh and subsampling; 61,706 parameters.

    Source:
        LeCun, Bottou, Bengio and Haffner, Gradient-based learning applied to document recognition (1998), section II.B.

    Example:
        >>> LeNet()(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, kernel_size=5),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, 1, 28, 28]."""
        return self.classifier(self.features(images))


def ModelInit(
    N_CLASSES: int = 10,
    weight_path: str | os.PathLike[str] | None = WEIGHTS,
    device: str | torch.device = "cpu",
) -> LeNet:
    """LeNet-5 with the weights of a file: by default those trained on the bundled digits, None for random ones.

    Files of the original's LeNet, which were trained on MNIST, fit too (:data:`ALIASES`).
    """
    where = usable_device("device", device)
    model = LeNet(positive_int("N_CLASSES", N_CLASSES))
    if weight_path is not None:
        weights.load(model, weight_path, aliases=ALIASES)
    return model.to(where)
