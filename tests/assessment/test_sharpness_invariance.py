"""Which kinds of sharpness see that a ReLU network is the same function after a rescaling of its layers."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lla_func import from_loss, sharpness
from tests.assessment.quadratics import draw


def classify(p, batch):
    x, y = batch
    return F.cross_entropy(F.relu(F.relu(x @ p["first"].mT) @ p["second"].mT) @ p["last"].mT, y)


def network(factors, *, of_nodes=False):
    """A ReLU network without biases whose layers, or single nodes, are scaled by factors that cancel."""
    first, second, last = draw(6, 4, seed=1), draw(5, 6, seed=2) / 2, draw(3, 5, seed=3)
    if of_nodes:
        a, b = factors ** torch.linspace(-1, 1, 6).double(), factors ** torch.linspace(1, -1, 5).double()
        first, second, last = a[:, None] * first, b[:, None] * second / a, last / b
    else:
        first, second, last = factors * first, second / factors**2, factors * last
    y = torch.randint(3, (11,), generator=torch.Generator().manual_seed(4))
    return from_loss(classify, {"first": first, "second": second, "last": last}, [(draw(11, 4, seed=5), y)])


def pair(kind, of_nodes, **options):
    return [sharpness(network(f, of_nodes=of_nodes), kind=kind, **options).value for f in (1.0, 8.0)]


@pytest.mark.parametrize("of_nodes", [False, True], ids=["layers", "nodes"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("asam", {"rho": 0.2, "eta": 0.0}),
        ("asam_max", {"rho": 0.2, "eta": 0.0, "steps": 4, "restarts": 2}),
        ("average", {"rho": 0.1, "draws": 4, "relative": True}),
        ("pac_bayes", {"draws": 4, "relative": True, "rise": 0.1}),
    ],
)
def test_sharpness_in_units_of_the_weights_ignores_a_rescaling(kind, options, of_nodes):
    plain, scaled = pair(kind, of_nodes, **options)
    assert scaled == pytest.approx(plain, rel=1e-9)


def test_the_radius_of_a_basin_ignores_a_rescaling_of_layers():
    plain, scaled = pair("basin", False, draws=5, rise=0.1)
    assert scaled == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("sam", {"rho": 0.05}),
        ("sam_max", {"rho": 0.05, "steps": 4, "restarts": 2}),
        ("asam", {"rho": 0.05, "eta": 0.5}),
        ("average", {"rho": 0.05, "draws": 4}),
        ("critical_lr", {}),
        ("pac_bayes", {"draws": 4, "rise": 0.1}),
    ],
)
def test_sharpness_in_absolute_units_does_not(kind, options):
    plain, scaled = pair(kind, False, **options)
    assert not abs(scaled - plain) < 0.05 * abs(plain)
