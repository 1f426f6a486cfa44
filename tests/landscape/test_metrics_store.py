"""Stores tell metrics apart that have data of their own."""

from __future__ import annotations

import pytest
import torch

from lla_func import chart as charts
from lla_func import evaluate, from_loss


def test_a_store_knows_the_data_of_metrics_that_are_objectives_of_their_own(tmp_path):
    def bowl(x, **metrics):
        return from_loss(
            lambda theta, x: (theta - x).square().mean(), torch.zeros(2).double(), [x], metrics=metrics
        )

    first, other = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[0.0, 1.0]]).double()
    line, coords = charts.line(torch.zeros(2).double(), torch.tensor([1.0, 0.0]).double()), torch.ones(1, 1)
    found = [evaluate(bowl(first, test=bowl(first)), line, coords, store=tmp_path / "job") for _ in range(2)]
    assert torch.equal(found[0].values["test"], found[1].values["test"])
    with pytest.raises(ValueError, match="holds another job; what differs: data of metrics"):
        evaluate(bowl(first, test=bowl(other)), line, coords, store=tmp_path / "job")
    doubled = bowl(first)._replace(loss=lambda theta, x: 2 * bowl(first).loss(theta, x))
    with pytest.raises(ValueError, match="the metric 'test' at the center"):
        evaluate(bowl(first, test=doubled), line, coords, store=tmp_path / "job")
