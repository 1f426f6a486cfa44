"""A loader to copy: your model, your data and your loss for the `lla` command.

Copy this file, replace what the comments point at, and use it as

    lla eval --loader my_loader.py --weights my_weights.pth --data my_folder

A loader is a Python file that defines the three names ``ModelInit``, ``CustomLoader`` and ``CustomLoss``, and
``LoaderWrapper`` if batches come in another form than (inputs, targets). The names and arguments are those of the
original LLA: a loader written for it works once its imports of ``Metric`` and ``ModelWrapper`` are changed to the one
below. This one runs as it is: it tells apart three clouds of points in the plane.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from bridges import weights
from bridges.metrics import Metric
from bridges.models import ModelWrapper

__all__ = ["CustomLoader", "CustomLoss", "LoaderWrapper", "ModelInit"]


def ModelInit(
    N_CLASSES: int = 3,
    weight_path: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
) -> nn.Module:
    """Your model on the device.

    Args:
        N_CLASSES: the number of outputs; ignore it if there are no classes.
        weight_path: where the trained weights are, None for random ones. The default is what ``lla eval`` uses when
            ``--weights`` is not given.
        device: ``"cpu"``, ``"cuda"``, ...
    """
    # Replace: build your own model. The order in which layers are made is what an integer --freeze counts.
    model = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, N_CLASSES))

    # Keep: reads state dicts only, so that no file can run code, and says what does not fit.
    if weight_path is not None:
        weights.load(model, weight_path)
    return model.to(device)


def CustomLoader(
    data_path: str | None = None,
    batch_size: int = 300,
    wrap: bool = False,
    shuffle: bool = False,
) -> Iterable[tuple[Tensor, Tensor]]:
    """Your data in batches of (inputs, targets), two tensors whose first axis counts samples.

    Landscapes are drawn on the first batch without shuffling, so the default ``batch_size`` should be large enough to
    speak for the data; ``lla train`` asks for smaller ones. Add an argument ``split`` that takes "train", "test" and
    "all" if ``lla train`` is to report the accuracy on held-out data.

    Args:
        data_path: what ``--data`` says, None if it is not given.
        batch_size: samples in a batch.
        wrap: whether to pass the batches through :class:`LoaderWrapper`.
        shuffle: whether to visit the samples in another order in each pass.
    """
    # Replace: read your own data. Draw from a generator with a fixed seed, so that each run sees the same data.
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    centers = torch.tensor([[0.0, 1.0], [0.9, -0.5], [-0.9, -0.5]])
    points = centers[labels] + 0.4 * torch.randn(300, 2, generator=generator)

    # Keep.
    loader = DataLoader(TensorDataset(points, labels), batch_size=batch_size, shuffle=shuffle)
    return LoaderWrapper(loader) if wrap else loader


class LoaderWrapper:
    """Turns what a loader yields into (inputs, targets), for data that come in another form."""

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Each batch as (inputs, targets); a new pass every time."""
        for output in self.loader:
            # Replace: pick the two out of your own batches, such as output["image"], output["label"].
            yield output[0], output[1]


class CustomLoss(Metric):
    """Your loss: how the model is called on a batch and how its output is judged.

    It is used in two ways. Landscapes and Hessians are those of the loss on the inputs and targets given here. Training
    calls it with a model and a batch, and takes a step along the gradient of the loss that it returns.

    A criterion on the model's output needs less: ``bridges.metrics.Loss(criterion, inputs, targets)`` is such a metric.
    """

    def __init__(self, inputs: Tensor, target: Tensor, device: str | torch.device = "cpu") -> None:
        super().__init__(inputs, target, device)
        # Replace: whatever the loss is made of.
        self.criterion = nn.CrossEntropyLoss()

    def __call__(
        self,
        model_wrapper: ModelWrapper | None = None,
        model: nn.Module | None = None,
        batch: Any = None,
        use_wrapper: bool = True,
        return_pred: bool = False,
    ) -> Any:
        """The loss of a model.

        Args:
            model_wrapper: the model in a wrapper, to be called as ``model_wrapper.forward(inputs)``.
            model: the model itself, used instead of the wrapper if ``use_wrapper`` is False.
            batch: (inputs, targets), by default those given at the start.
            use_wrapper: which of the two to call.
            return_pred: True for the loss as a tensor, together with the prediction; False for a number.
        """
        # Keep.
        inputs, target = (self.inputs, self.target) if batch is None else batch
        forward = model_wrapper.forward if use_wrapper else model  # type: ignore[union-attr]

        # Replace: call the model and judge what it returns.
        prediction = forward(inputs.to(self.device))  # type: ignore[misc]
        loss = self.criterion(prediction, target.to(self.device))

        # Keep.
        return (loss, prediction) if return_pred else loss.item()
