"""The table of models with data that every test about "any model" goes through; a new case is one new row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from bridges.metrics import Loss
from lla_func.objective._objective import Objective

__all__ = ["CASES", "DTYPES", "Case", "build", "every_case", "objective"]

DTYPES = (torch.float32, torch.float64)


class Case(NamedTuple):
    """A model in training mode, and what is needed for its loss."""

    model: nn.Module
    criterion: Callable[[Any, Any], Tensor]
    inputs: Any
    targets: Tensor

    @property
    def metric(self) -> Loss:
        return Loss(self.criterion, self.inputs, self.targets)


def build(name: str, dtype: torch.dtype = torch.float64) -> Case:
    """The case of this name: always the same numbers, and the global random state is not moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sum(map(ord, name)))
        case = CASES[name](dtype)
        case.model.to(dtype)
        return case


def objective(name: str, dtype: torch.dtype = torch.float64, **options: Any) -> Objective:
    """The case as an Objective."""
    case = build(name, dtype)
    return case.metric.objective(case.model, **options)


def every_case(*, dtypes: tuple[torch.dtype, ...] = (torch.float64,)) -> pytest.MarkDecorator:
    """Runs a test with arguments ``name`` and ``dtype`` for each row of the table."""
    rows = [pytest.param(n, d, id=f"{n}-{str(d).split('.')[-1]}") for n in CASES for d in dtypes]
    return pytest.mark.parametrize(("name", "dtype"), rows)


class Quadratic(nn.Module):
    """The loss 1/2 w^T A w with a known symmetric A: eigenvalues 1 .. n, given with their eigenvectors."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("eigenvalues", torch.arange(1.0, size + 1, dtype=torch.float64))
        self.register_buffer("eigenvectors", torch.linalg.qr(torch.randn(size, size, dtype=torch.float64))[0])
        self.w = nn.Parameter(torch.randn(size))

    def forward(self, x: Tensor) -> Tensor:
        along = self.eigenvectors.T @ self.w
        return (0.5 * self.eigenvalues * along.square()).sum().expand(len(x))


class SmallResNet(nn.Module):
    """One strided residual block with BatchNorm, between a stem and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.body = nn.Sequential(
            *(nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(6, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 3)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):  # as after some training
                nn.init.normal_(layer.running_mean, std=0.1)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
                nn.init.normal_(layer.weight, 1.0, 0.2)
                nn.init.normal_(layer.bias, std=0.2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.relu(self.body(x) + self.shortcut(x))
        return self.head(x.mean(dim=(2, 3)))


class SmallTransformer(nn.Module):
    """Token embeddings, one encoder layer of two heads, and a linear head on the mean over the sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        layer = nn.TransformerEncoderLayer(
            8, 2, dim_feedforward=16, dropout=0.1, activation="gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers=1, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embedding(tokens)).mean(dim=1))


class TwoInputs(nn.Module):
    """The product of two encoded inputs, with an optional scale."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(4, 5)
        self.right = nn.Linear(3, 5)
        self.head = nn.Linear(5, 1)

    def forward(self, a: Tensor, b: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        return scale * self.head(torch.tanh(self.left(a)) * torch.tanh(self.right(b))).squeeze(-1)


class Tied(nn.Module):
    """A language model whose output layer is its embedding: one parameter under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 6)
        self.mix = nn.Linear(6, 6)
        self.output = nn.Linear(6, 9, bias=False)
        self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(torch.tanh(self.mix(self.embedding(tokens))))


def _mean(prediction: Tensor, _: Tensor) -> Tensor:
    return prediction.mean()


def _quadratic(dtype: torch.dtype) -> Case:
    return Case(Quadratic(12), _mean, torch.zeros(4, 1, dtype=dtype), torch.zeros(4, dtype=dtype))


def _mlp(dtype: torch.dtype) -> Case:
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    return Case(model, nn.CrossEntropyLoss(), torch.randn(20, 5, dtype=dtype), torch.randint(3, (20,)))


def _cnn(dtype: torch.dtype) -> Case:
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4)),
    )
    return Case(
        model, nn.CrossEntropyLoss(), torch.randn(12, 1, 12, 12, dtype=dtype), torch.randint(4, (12,))
    )


def _resnet(dtype: torch.dtype) -> Case:
    return Case(
        SmallResNet(), nn.CrossEntropyLoss(), torch.randn(10, 3, 8, 8, dtype=dtype), torch.randint(3, (10,))
    )


def _transformer(dtype: torch.dtype) -> Case:
    return Case(SmallTransformer(), nn.CrossEntropyLoss(), torch.randint(7, (10, 5)), torch.randint(3, (10,)))


def _two_inputs(dtype: torch.dtype) -> Case:
    inputs = (torch.randn(14, 4, dtype=dtype), torch.randn(14, 3, dtype=dtype))
    return Case(TwoInputs(), nn.MSELoss(), inputs, torch.randn(14, dtype=dtype))


def _tied(dtype: torch.dtype) -> Case:
    return Case(Tied(), nn.CrossEntropyLoss(), torch.randint(9, (11,)), torch.randint(9, (11,)))


CASES: dict[str, Callable[[torch.dtype], Case]] = {
    "quadratic": _quadratic,
    "mlp": _mlp,
    "cnn": _cnn,
    "resnet": _resnet,
    "transformer": _transformer,
    "two_inputs": _two_inputs,
    "tied": _tied,
}
