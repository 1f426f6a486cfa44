"""Surfaces on [-1, 1]^2 for tests of sampling: of random networks, and waves, kinks, peaks and ripples."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lla_func import directions
from lla_func.objective._layout import Layout

__all__ = ["ACTIVATIONS", "NARROWEST", "SYNTHETIC", "network", "synthetic"]

Surface = Callable[[Tensor], Tensor]
Random = Callable[..., Tensor]

NARROWEST = 0.15
"""The least standard deviation of a feature, as a part of the half extent."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": nn.functional.leaky_relu,
    "elu": nn.functional.elu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "softplus": nn.functional.softplus,
    "hardswish": nn.functional.hardswish,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sin": torch.sin,
}


def network(activation: str, seed: int) -> Surface:
    """The loss of a small random network on a random plane; odd seeds are filter-normalized."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    f = ACTIVATIONS[activation]
    weights = {
        "first.weight": normal(10, 4) / 2,
        "first.bias": 0.3 * normal(10),
        "second.weight": normal(8, 10) / math.sqrt(10),
        "second.bias": 0.3 * normal(8),
        "last.weight": normal(3, 8) / math.sqrt(8),
    }
    inputs, targets = normal(24, 4), torch.randint(3, (24,), generator=generator)
    layout = Layout.of(weights)
    origin = layout.ravel(weights)
    basis = directions.random(layout, 2, generator=generator).double()
    if seed % 2:
        basis = directions.normalize(basis, origin, layout, kind="filter", order=2)
    extent = (0.25, 0.5, 1.0, 2.0)[seed // 2 % 4]

    def loss(coords: Tensor) -> Tensor:
        w = {
            name: origin_ + extent * torch.einsum("nk,k...->n...", coords, basis_)
            for name, origin_, basis_ in parts
        }
        hidden = f(inputs @ w["first.weight"].mT + w["first.bias"][:, None])
        hidden = f(hidden @ w["second.weight"].mT + w["second.bias"][:, None])
        logits = hidden @ w["last.weight"].mT
        return nn.functional.cross_entropy(
            logits.movedim(2, 1), targets.expand(len(coords), -1), reduction="none"
        ).mean(1)

    rows = [layout.unravel(row) for row in basis]
    parts = [(name, value, torch.stack([row[name] for row in rows])) for name, value in weights.items()]
    return loss


def synthetic(kind: str, seed: int) -> Surface:
    """A smooth bowl with a feature of this kind at a random place."""
    generator = torch.Generator().manual_seed(1000 + seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

    steepness = uniform(0.2, 1.5, 2)
    place, width, height = uniform(-1, 1, 2), uniform(NARROWEST, 0.5), uniform(0.3, 3.0)
    angle, phase = uniform(0, math.pi), uniform(0, 2 * math.pi)
    slope = torch.stack([angle.cos(), angle.sin()])
    feature = SYNTHETIC[kind]

    def loss(coords: Tensor) -> Tensor:
        bowl = 1 + (steepness * coords.square()).sum(1)
        return bowl + height * feature((coords - place) @ slope, (coords - place).norm(dim=1), width, phase)

    return loss


SYNTHETIC: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]] = {
    # of the distance from a line, that from a place, the width of the feature, and a phase
    "wave": lambda along, _, width, phase: (along / width + phase).sin(),
    "kink": lambda along, _, width, phase: along.abs(),
    "hinge": lambda along, _, width, phase: along.clamp_min(0),
    "cone": lambda _, distance, width, phase: (1 - distance / (4 * width)).clamp_min(0),
    "peak": lambda _, distance, width, phase: (-0.5 * (distance / width) ** 2).exp(),
    "pit": lambda _, distance, width, phase: -0.3 * (-0.5 * (distance / width) ** 2).exp(),
    "ripple": lambda along, distance, width, phase: (
        (2 * along / width + phase).sin() * (-0.5 * (distance / width) ** 2).exp()
    ),
    "ridge": lambda along, _, width, phase: (-0.5 * (along / width) ** 2).exp(),
}
