"""A network with one hidden layer on handwritten digits: small enough to see every effect in seconds."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from bridges import weights
from bridges.loaders.digits import DATA, EVALUATION_BATCH, CustomLoader, CustomLoss, LoaderWrapper
from lla_func.errors import positive_int, usable_device

__all__ = ["EVALUATION_BATCH", "MLP", "WEIGHTS", "CustomLoader", "CustomLoss", "LoaderWrapper", "ModelInit"]

WEIGHTS = DATA / "mlp_digits.pth"


class MLP(nn.Module):
    """784 inputs, 32 hidden ReLU units, one output per class; 25,450 parameters.

    Returns logits; the original LLA's network returns probabilities although its loss expects logits.

    Example:
        >>> MLP()(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.hidden = nn.Linear(28 * 28, 32)
        self.output = nn.Linear(32, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, classes] of images [B, 1, 28, 28]."""
        return self.output(torch.relu(self.hidden(images.flatten(1))))


def ModelInit(
    N_CLASSES: int = 10,
    weight_path: str | os.PathLike[str] | None = WEIGHTS,
    device: str | torch.device = "cpu",
) -> MLP:
    """The network with the weights of a file: by default those trained on the bundled digits, None for random ones."""
    where = usable_device("device", device)
    model = MLP(positive_int("N_CLASSES", N_CLASSES))
    if weight_path is not None:
        weights.load(model, weight_path)
    return model.to(where)
