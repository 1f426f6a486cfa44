"""Laws that hold across modules: invariances and closed forms of whole landscapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lla_func import chart, directions, evaluate, from_loss
from tests.engines import every_engine


def bias_free_relu_net(scale: float = 1.0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    return {"conv": draw(4, 1, 3, 3) * scale, "hidden": draw(6, 64) / scale * 0.1, "out": draw(3, 6)}


def classify(parameters, batch):
    x, y = batch
    x = F.relu(F.conv2d(x, parameters["conv"])).flatten(1)
    return F.cross_entropy(F.relu(x @ parameters["hidden"].mT) @ parameters["out"].mT, y)


def objective_of(parameters):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(9, 1, 6, 6, generator=generator, dtype=torch.float64)
    return from_loss(classify, parameters, [(x, torch.randint(3, (9,), generator=generator))])


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    ("kind", "invariant"), [("filter", True), ("layer", True), ("weight", True), (None, False)]
)
def test_normalized_planes_of_a_relu_net_ignore_a_rescaling_of_its_layers(kind, order, invariant):
    coords = chart.mesh(torch.linspace(-1, 1, 4), torch.linspace(-1, 1, 3))
    losses = []
    for scale in (1.0, 64.0):
        objective = objective_of(bias_free_relu_net(scale))
        raw = directions.random(
            objective.layout, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64
        )
        basis = directions.normalize(raw, objective.theta, objective.layout, kind=kind, order=order)
        losses.append(evaluate(objective, chart.plane(objective.theta, *basis), coords).losses)
    assert torch.allclose(*losses, rtol=1e-12, atol=0) == invariant


@every_engine()
def test_a_plane_along_two_eigenvectors_of_a_quadratic_is_half_the_weighted_squares(engine):
    generator = torch.Generator().manual_seed(0)
    square = torch.randn(7, 7, generator=generator, dtype=torch.float64)
    matrix = square + square.T
    values, vectors = torch.linalg.eigh(matrix)
    center = torch.randn(7, generator=generator, dtype=torch.float64)
    objective = from_loss(lambda t, _: 0.5 * (t - center) @ matrix @ (t - center), center)
    coords = chart.mesh(torch.linspace(-2, 2, 5), torch.linspace(-1, 1, 4))
    losses = evaluate(
        objective, chart.plane(center, vectors[:, -1], vectors[:, 0]), coords, engine=engine
    ).losses
    expected = 0.5 * (values[-1] * coords[:, 0] ** 2 + values[0] * coords[:, 1] ** 2)
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=1e-13)


def test_the_plane_of_a_linear_regression_is_its_own_taylor_series():
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    y = torch.randn(30, generator=generator, dtype=torch.float64)
    theta = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    objective = from_loss(lambda t, b: nn.functional.mse_loss(b[0] @ t, b[1]), theta, [(x, y)])
    basis = directions.random(objective.layout, 2, generator=generator, dtype=torch.float64)
    coords = chart.mesh(torch.linspace(-1, 1, 5), torch.linspace(-1, 1, 5))
    losses = evaluate(objective, chart.plane(theta, *basis), coords).losses
    moved = coords @ basis
    expected = (x @ theta - y).square().mean() + ((moved @ x.T) ** 2).mean(dim=1)
    torch.testing.assert_close(losses, expected, rtol=1e-12, atol=0)
