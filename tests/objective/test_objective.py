"""Objective: the risk weights batches by their samples, tiles cut what can be cut, and bad data is named."""

from __future__ import annotations

import pytest
import torch

from lla_func.objective._objective import Objective, check, from_loss, risk, samples, tiles


def mean_square(theta, batch):
    x, y = batch
    return (x @ theta - y).square().mean()


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 3, generator=generator, dtype=torch.float64)
    return x, torch.randn(10, generator=generator, dtype=torch.float64)


def test_the_mean_risk_of_unequal_batches_is_the_risk_of_all_samples(data):
    theta = torch.ones(3, dtype=torch.float64)
    whole = risk(from_loss(mean_square, theta, [data]))
    cut = [tuple(part[a:b] for part in data) for a, b in ((0, 1), (1, 7), (7, 10))]
    torch.testing.assert_close(risk(from_loss(mean_square, theta, cut)), whole, rtol=1e-14, atol=0)


def test_the_sum_risk_adds_batches_up(data):
    def square(theta, batch):
        return mean_square(theta, batch) * samples(batch)

    cut = [tuple(part[a:b] for part in data) for a, b in ((0, 4), (4, 10))]
    objective = from_loss(square, torch.ones(3, dtype=torch.float64), cut, reduction="sum")
    expected = 10 * mean_square(objective.theta, data)
    torch.testing.assert_close(risk(objective), expected, rtol=1e-14, atol=0)


def test_named_parameters_and_nested_data_are_welcome():
    def loss(parameters, batch):
        return (parameters["scale"] * batch["inputs"]["left"][0]).sum() + parameters["shift"].sum()

    objective = from_loss(
        loss,
        {"scale": torch.tensor(2.0), "shift": torch.ones(3)},
        [{"inputs": {"left": (torch.ones(5),), "right": torch.zeros(5, 2)}}],
    )
    assert objective.theta.shape == (4,)
    assert risk(objective) == 13


def test_theta_is_a_copy_that_later_training_does_not_change():
    weights = torch.ones(3)
    objective = from_loss(lambda theta, batch: theta.sum(), weights)
    weights.zero_()
    assert risk(objective) == 3


def test_a_generator_of_batches_is_kept_for_every_pass(data):
    objective = from_loss(mean_square, torch.ones(3, dtype=torch.float64), (batch for batch in [data]))
    assert risk(objective) == risk(objective)


def test_tiles_cover_every_sample_once_and_in_order():
    batch = {"x": torch.arange(10), "y": (torch.arange(20).reshape(10, 2), "label")}
    pieces = list(tiles(batch, 4))
    assert [samples(piece) for piece in pieces] == [4, 4, 2]
    assert torch.equal(torch.cat([piece["x"] for piece in pieces]), batch["x"])
    assert all(piece["y"][1] == "label" for piece in pieces)


def test_a_batch_of_tensors_of_different_lengths_is_not_cut():
    batch = (torch.zeros(10, 2), torch.zeros(3))
    assert [piece is batch for piece in tiles(batch, 4)] == [True]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batches": []}, "batches is empty"),
        ({"batches": [(torch.zeros(0, 3), torch.zeros(0))]}, "batch 0 is empty"),
        (
            {"batches": [(torch.zeros(2, 3), torch.zeros(2, device="meta"))]},
            r"batch 0\[1\] is on meta, but theta is on cpu",
        ),
        ({"theta": torch.tensor([1.0, float("nan"), 0.0])}, "'theta' has NaN or infinite values"),
        ({"theta": torch.zeros(4)}, r"theta has shape \[4\], the layout needs \[3\]"),
        ({"reduction": "none"}, "reduction='none' is not one of 'mean', 'sum'"),
    ],
)
def test_a_malformed_objective_is_refused_by_name(change, words):
    batch = (torch.zeros(2, 3), torch.zeros(2))
    objective = from_loss(mean_square, torch.ones(3), [batch])
    assert isinstance(objective, Objective)
    with pytest.raises(ValueError, match=words):
        check(objective._replace(**change))
