"""Claims about elastic bands: the saddles of the Mueller-Brown surface, and their forces."""

from __future__ import annotations

import pytest
import torch

from lla_func import connect, from_loss
from lla_func.connectivity._gradients import of_band

# Mueller and Brown, Theoretica Chimica Acta 53, 75 (1979), table 1. The stationary points are its own to 12 digits.
HEIGHT = torch.tensor([-200.0, -100.0, -170.0, 15.0], dtype=torch.float64)
A = torch.tensor([-1.0, -1.0, -6.5, 0.7], dtype=torch.float64)
B = torch.tensor([0.0, 0.0, 11.0, 0.6], dtype=torch.float64)
C = torch.tensor([-10.0, -10.0, -6.5, 0.7], dtype=torch.float64)
X = torch.tensor([1.0, 0.0, -0.5, -1.0], dtype=torch.float64)
Y = torch.tensor([0.0, 0.5, 1.5, 1.0], dtype=torch.float64)


def energy(theta, _=None):
    x, y = theta[0] - X, theta[1] - Y
    return (HEIGHT * (A * x * x + B * x * y + C * y * y).exp()).sum()


def place(x, y):
    return torch.tensor([x, y], dtype=torch.float64)


MINIMA = [place(-0.558223634633024, 1.441725841804669), place(-0.050010822998206, 0.466694104871972)]
MINIMA.append(place(0.623499404930877, 0.028037758528686))
SADDLES = [place(-0.822001558732732, 0.624312802814871), place(0.212486582000662, 0.292988325107368)]
SURFACE = from_loss(energy, MINIMA[0])


def band(first, last, **options):
    return connect(MINIMA[first], MINIMA[last], SURFACE, kind="band", lr=0.03, steps=9, **options)


def test_the_stationary_points_are_stationary():
    for point in (*MINIMA, *SADDLES):
        leaf = point.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(leaf), leaf)
        assert float(gradient.norm()) < 1e-4
    for saddle in SADDLES:
        values = torch.linalg.eigvalsh(torch.autograd.functional.hessian(energy, saddle))
        assert values[0] < 0 < values[1]


@pytest.mark.parametrize(("first", "last", "saddle", "bends"), [(1, 2, 1, 3), (0, 1, 0, 5)])
def test_the_climbing_pivot_is_the_saddle_of_mueller_and_brown(first, last, saddle, bends):
    found = band(first, last, bends=bends, epochs=400, climbing=True)
    energies = torch.stack([energy(point) for point in found.points])
    top = int(energies.argmax())
    assert 0 < top < bends + 1
    assert float((found.points[top] - SADDLES[saddle]).norm()) < 1e-3
    assert float(energies[top]) == pytest.approx(float(energy(SADDLES[saddle])), rel=1e-5)
    ends = energies[[0, -1]]
    share = top / (bends + 1)
    assert found.barrier.value >= float(energies[top] - torch.lerp(ends[0], ends[1], share)) - 1e-6


def test_springs_keep_the_pivots_apart_and_the_gradient_goes_across_only():
    found = band(1, 2, bends=5, epochs=250)
    lengths = (found.points[1:] - found.points[:-1]).norm(dim=1)
    assert float(lengths.max() - lengths.min()) < 1e-3 * float(lengths.mean())
    forces = of_band(SURFACE, found.points, ()).gradient
    scale = torch.stack([_gradient(point).norm() for point in found.points[1:-1]]).mean()
    assert float(forces.norm(dim=1).max()) < 1e-2 * float(scale)


def _gradient(point):
    leaf = point.clone().requires_grad_()
    return torch.autograd.grad(energy(leaf), leaf)[0]


def test_the_forces_on_a_slope_are_those_of_henkelman_and_jonsson():
    slope = from_loss(lambda theta, _: theta[0] + 3 * theta[1], torch.zeros(2, dtype=torch.float64))
    points = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    loss, forces = of_band(slope, points, (), spring=0.5)
    stiffness = 0.5 * 10**0.5 / 1.5  # the length of the gradient over that of the pieces
    assert loss == 1.0
    torch.testing.assert_close(forces, torch.tensor([[-stiffness * (2 - 1), 3.0]], dtype=torch.float64))
    _, climbing = of_band(slope, points, (), climbing=True)
    torch.testing.assert_close(climbing, torch.tensor([[-1.0, 3.0]], dtype=torch.float64))


def test_at_a_maximum_the_tangent_leans_to_the_higher_neighbor():
    def loss(theta, _):
        return -((theta[0] - 1) ** 2) - 0.2 * (theta[0] - 1) ** 3

    hill = from_loss(loss, torch.zeros(2, dtype=torch.float64))
    points = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 0.0]], dtype=torch.float64)  # losses -0.8, 0, -1.2
    _, forces = of_band(hill, points, (), spring=1e-9)
    tangent = 0.8 * torch.tensor([1.0, -1.0]) + 1.2 * torch.tensor(
        [1.0, 1.0]
    )  # equation 10: the smaller one ahead
    gradient = _at(loss, points[1])
    tangent = (tangent / tangent.norm()).double()
    torch.testing.assert_close(forces[0], gradient - (gradient @ tangent) * tangent, atol=1e-8, rtol=1e-6)


def _at(loss, point):
    leaf = point.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf, ()), leaf)[0]
