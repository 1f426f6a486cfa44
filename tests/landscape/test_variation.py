"""Variation over random directions: mean and spread are those of the landscapes that it is made of, and known ones."""

from __future__ import annotations

import pytest
import torch

from lla_func import from_loss, variation
from tests.cases import objective

BOWL = from_loss(lambda theta, _: theta.square().sum(), torch.ones(400, dtype=torch.float64))


@pytest.mark.parametrize("dim", [1, 2])
def test_mean_and_spread_are_those_of_all_lines_or_planes(dim):
    found = variation(objective("mlp"), count=5, dim=dim, steps=3, seed=0)
    each = found.metrics["each"]
    assert each.shape == (3**dim, 5)
    torch.testing.assert_close(found.losses, each.mean(1))
    torch.testing.assert_close(found.metrics["spread"], each.std(1))
    torch.testing.assert_close(found.errors["loss"], each.std(1) / 5**0.5)
    middle = 3**dim // 2
    assert found.metrics["spread"][middle] == pytest.approx(0, abs=1e-12)
    assert float(found.losses[middle]) == pytest.approx(found.center, rel=1e-12)


def test_on_a_sphere_all_directions_of_the_weights_length_rise_by_about_the_same():
    found = variation(BOWL, count=40, dist=2, steps=3, normalization="model", seed=1)
    # |theta + d|^2 = |theta|^2 + |d|^2 + 2 theta d, with |d| = |theta| = 20 and theta d / 400 of deviation 400^(-1/2)
    assert found.losses[[0, 2]].tolist() == pytest.approx([800, 800], rel=0.05)
    assert found.metrics["spread"][[0, 2]].tolist() == pytest.approx([40, 40], rel=0.4)


def test_a_seed_decides_all_directions():
    first, again, other = (
        variation(BOWL, count=2, steps=3, normalization=None, seed=s).losses for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"count": 1}, "count=1 is too small"),
        ({"dim": 3}, "dim=3 is not one of 1, 2"),
        ({"dist": 0}, "dist=0 is not allowed"),
        ({"seed": -1}, "seed=-1 is too small"),
        ({"normalization": "filters"}, "did you mean 'filter'"),
    ],
)
def test_wrong_arguments_are_named(given, words):
    with pytest.raises(ValueError, match=words):
        variation(BOWL, **{"seed": 0, "steps": 3} | given)
