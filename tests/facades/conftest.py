"""Models and metrics for tests of the front doors, and a call of viz_lla with them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bridges import metrics
from lla_func import viz_lla
from tests.cases import build


@pytest.fixture(scope="module")
def case():
    return build("mlp", torch.float64)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


@pytest.fixture
def metric():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(20, 5, generator=generator)
    y = torch.randint(3, (20,), generator=generator)
    return metrics.Loss(nn.CrossEntropyLoss(), x, y, "cpu")


@pytest.fixture
def run(model, metric, tmp_path):
    def call(**options):
        folders = {"viz_dir": tmp_path / "viz", "res_dir": tmp_path / "res"}
        options = {"steps": 4, "seed": 0, "to_save": False, **folders, **options}
        return viz_lla(model, metric, **options)

    return call
