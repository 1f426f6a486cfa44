"""Work: what is counted without a clock, and the tile that follows."""

from __future__ import annotations

import torch
from torch import nn

from bridges.metrics import Loss
from lla_func import from_loss
from lla_func.hessian import _work
from lla_func.hessian._work import measure, suited
from tests.cases import objective


def test_the_operations_of_a_convolution_and_a_linear_layer_are_counted_for_each_sample():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(3 * 16, 5))
    metric = Loss(nn.CrossEntropyLoss(), torch.randn(40, 2, 6, 6), torch.randint(5, (40,)))
    made = metric.objective(model)
    work = measure(made)
    matrices = 2 * (3 * 16) * (2 * 9) + 2 * (3 * 16) * 5
    elements = 3 * 16 + 5 + 5  # of convolution, linear layer and log-softmax
    assert work.convolves
    assert work.largest == 4 * 3 * 16
    assert work.elements == elements
    assert work.operations == 40 * (matrices + _work.ELEMENT * elements)


def test_what_does_not_grow_with_the_samples_makes_no_tile_small(monkeypatch):
    monkeypatch.setitem(_work.LARGEST, "cpu", 1000)
    data = [torch.zeros(100, 1)]
    made = from_loss(
        lambda t, x: (x.squeeze(1) * torch.outer(t, t).sum()).square().mean(),
        torch.ones(50),
        data,
        separable=True,
    )
    assert measure(made).largest == 4
    assert suited(made, measure(made)) == 100


def test_a_batch_is_cut_into_even_pieces_that_are_not_outweighed_by_the_parameters(monkeypatch):
    made = from_loss(
        lambda t, x: (x[:, None] * t).square().mean(), torch.ones(25), [torch.zeros(100)], separable=True
    )
    work = measure(made)
    assert work.largest == 100
    for most, tile in ((10**9, 100), (9900, 50), (3000, 25), (100, 2)):  # at least 4 * 25 / 50 samples
        monkeypatch.setitem(_work.LARGEST, "cpu", most)
        assert suited(made, work) == tile, most


def test_batches_that_cannot_be_cut_count_as_they_are():
    whole = measure(objective("mlp")._replace(separable=False))
    cut = measure(objective("mlp"))
    assert whole.largest == 0
    assert abs(whole.operations / cut.operations - 1) < 0.1
