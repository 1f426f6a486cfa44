"""The jobs of the grid benchmarks, for both libraries: ours and the peer ``loss-landscapes``."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bridges import metrics
from bridges.loaders.lenet import LeNet
from bridges.loaders.mlp import MLP
from lla_func import chart, directions
from lla_func.landscape import Landscape, evaluate

__all__ = ["Job", "job", "ours", "peers"]


class Job(NamedTuple):
    """A model in evaluation mode, one batch, and the steps along each of two directions (of one, if ``line``)."""

    name: str
    model: nn.Module
    inputs: Tensor
    targets: Tensor
    steps: int
    line: bool = False


class Encoder(nn.Module):
    """A transformer encoder: 4 layers of width 128, 4 heads, 64 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(100, 128)
        self.position = nn.Parameter(0.1 * torch.randn(64, 128))
        layer = nn.TransformerEncoderLayer(128, 4, 256, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(128, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens) + self.position).mean(1))


def job(kind: str, batch: int, steps: int, *, line: bool = False) -> Job:
    """A job with random weights and data; what is measured does not depend on either."""
    torch.manual_seed(0)
    if kind == "resnet":
        from torchvision.models import resnet18

        model: nn.Module = resnet18(num_classes=10)
        inputs = torch.randn(batch, 3, 64, 64)
    elif kind == "encoder":
        model = Encoder()
        inputs = torch.randint(100, (batch, 64))
    elif kind == "wide":
        layers = [
            nn.Flatten(),
            nn.Linear(784, 512),
            nn.Tanh(),
            nn.Linear(512, 512),
            nn.Tanh(),
            nn.Linear(512, 10),
        ]
        model, inputs = nn.Sequential(*layers), torch.randn(batch, 1, 28, 28)
    else:
        model = {"lenet": LeNet, "mlp": MLP}[kind]()
        inputs = torch.randn(batch, 1, 28, 28)
    shape = f"{steps}" if line else f"{steps}x{steps}"
    return Job(
        f"{kind}, batch {batch}, {shape}", model.eval(), inputs, torch.randint(10, (batch,)), steps, line
    )


def ours(task: Job, **options: Any) -> Landscape:
    """The landscape by lla_func, from the model to the losses."""
    objective = metrics.Loss(nn.CrossEntropyLoss(), task.inputs, task.targets).objective(task.model)
    count = 1 if task.line else 2
    generator = torch.Generator().manual_seed(0)
    basis = directions.random(objective.layout, count, generator=generator)
    basis = directions.normalize(basis, objective.theta, objective.layout, kind="model", order=2)
    axis = torch.linspace(-0.5, 0.5, task.steps, dtype=torch.float64)
    surface = chart.span(objective.theta, *basis)
    del basis  # the chart has its own
    return evaluate(objective, surface, chart.mesh(*[axis] * count), **options)


def peers(task: Job) -> Any:
    """The landscape by loss-landscapes, with the normalization that does not fail on zero biases."""
    import loss_landscapes  # type: ignore[import-untyped]

    metric = loss_landscapes.metrics.Loss(nn.CrossEntropyLoss(), task.inputs, task.targets)
    scan = loss_landscapes.random_line if task.line else loss_landscapes.random_plane
    with torch.no_grad():
        return scan(copy.deepcopy(task.model), metric, 1, task.steps, normalization="model")
