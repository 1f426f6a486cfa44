"""Quadratic losses, for which every sharpness has a closed form."""

from __future__ import annotations

import torch

from lla_func import from_loss

__all__ = ["bowl", "draw"]


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bowl(*, size=12, at=1.0, scale=1.0, offset=0.0, at_minimum=False, seed=0):
    """scale (1/2 t^T H t + offset) at a random theta of size ``at``, and the matrix scale H, positive definite.

    With ``at_minimum`` t counts from theta.
    """
    square = draw(size, size, seed=seed)
    matrix = square @ square.T / size + torch.eye(size, dtype=torch.float64)
    theta = at * draw(size, seed=seed + 1)
    lowest = theta if at_minimum else torch.zeros_like(theta)

    def loss(t, _):
        return scale * ((t - lowest) @ matrix @ (t - lowest) / 2 + offset)

    return from_loss(loss, theta), scale * matrix
