"""Claims about what the facades take as it is: functions of the model as metrics, directions in any form."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from bridges.metrics import Loss
from lla_func import from_loss, viz_esd, viz_lla
from tests.state import unchanged

X = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)).double()
CALM = {"to_save": False, "steps": 3, "seed": 0, "engine": "loop"}


def network(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.BatchNorm1d(4), nn.Linear(4, 1)).double().eval()


def loss(model):
    return model(X).square().mean()


def metric():
    return Loss(lambda prediction: prediction.square().mean(), X)


def names(model):
    return [name for name, _ in model.named_parameters()]


def vector(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def test_a_bare_function_of_the_model_is_a_metric():
    model = network()
    with unchanged(model):
        bare, whole = (viz_lla(model, one, num_plots=1, **CALM) for one in (loss, metric()))
        spectra = [
            viz_esd(model, one, esd=False, eigs=True, to_save=False, seed=0) for one in (loss, metric())
        ]
    torch.testing.assert_close(bare.landscapes[0].losses, whole.landscapes[0].losses)
    assert bare.center_loss == pytest.approx(loss(model).item(), rel=1e-12)
    torch.testing.assert_close(spectra[0].eigenvalues, spectra[1].eigenvalues)


def test_a_bare_function_may_return_a_number():
    model = network()
    found = viz_lla(model, lambda model: float((model(X) > 0).double().mean()), num_plots=1, **CALM)
    assert found.center_loss == float((model(X) > 0).double().mean())


def test_a_bare_function_serves_the_axes_of_an_optimizer():
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    loss(model).backward()
    optimizer.step()
    assert viz_lla(model, loss, axes="adam", optimizer=optimizer, **CALM).directions.shape == (2, 29)


def test_a_criterion_without_data_is_refused_with_the_way_out():
    with pytest.raises(
        TypeError, match=r"metric is MSELoss, a criterion without data; pass .*Loss\(criterion"
    ):
        viz_lla(network(), nn.MSELoss(), **CALM)


MODEL, FIRST, SECOND = network(), network(1), network(2)
HERE = vector(MODEL.parameters())
TOWARDS = torch.stack([vector(other.parameters()) - HERE for other in (FIRST, SECOND)])
ROWS = [
    dict(
        zip(
            names(MODEL),
            [p.detach() - q.detach() for p, q in zip(other.parameters(), MODEL.parameters(), strict=True)],
            strict=True,
        )
    )
    for other in (FIRST, SECOND)
]
FORMS = {
    "array": TOWARDS.numpy(),
    "single precision": TOWARDS.numpy().astype(np.float32),
    "vectors": list(TOWARDS),
    "a tuple of arrays": tuple(TOWARDS.numpy()),
    "named tensors": ROWS,
    "a state dict with buffers": [{**row, "2.num_batches_tracked": torch.tensor(3)} for row in ROWS],
    "a tensor for each parameter": [list(row.values()) for row in ROWS],
    "other models": [FIRST, SECOND],
    "mixed": [FIRST, TOWARDS[1]],
}


@pytest.mark.parametrize("name", FORMS)
def test_directions_of_every_form_are_the_same(name):
    with unchanged(MODEL), unchanged(FIRST):
        found = viz_lla(MODEL, metric(), axes=FORMS[name], **CALM)
    expected = viz_lla(MODEL, metric(), axes=TOWARDS, **CALM)
    torch.testing.assert_close(found.directions, TOWARDS, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.landscapes[0].losses, expected.landscapes[0].losses, rtol=1e-5, atol=0)


def test_towards_another_model_ends_there():
    other = copy.deepcopy(FIRST)
    line = viz_lla(MODEL, loss, axes=other, dim=1, dist=2, normalization=None, **CALM).landscapes[0]
    ends = loss(MODEL).item(), loss(other).item()
    assert line.losses[1:].tolist() == pytest.approx(ends, rel=1e-9)


def test_directions_of_a_pure_objective_need_no_metric():
    bowl = from_loss(
        lambda p, _: p["a"].square().sum() + p["b"].sum(), {"a": torch.ones(2), "b": torch.ones(1)}
    )
    found = viz_lla(bowl, axes=[{"a": torch.ones(2), "b": torch.zeros(1)}], dim=1, **CALM)
    assert found.directions.tolist() == [[1, 1, 0]]


BAD = {
    "a number": (5, ValueError, "axes=5 is not one of"),
    "nothing": ([], ValueError, "axes is empty"),
    "text": (["hessian", "random"], TypeError, r"axes\[0\] is of type str; a direction is a vector"),
    "short": (
        [torch.ones(3), torch.ones(3)],
        ValueError,
        r"axes\[0\] has shape \[3\]; a direction is a vector \[29\]",
    ),
    "too few": ([FIRST], ValueError, r"axes has shape \[1, 29\]; pass \[2, P\]"),
    "another network": ([FIRST, nn.Linear(3, 4)], ValueError, r"axes\[1\] lacks '0.weight'"),
    "another shape": (
        [nn.Sequential(nn.Linear(2, 4)), FIRST],
        ValueError,
        r"axes\[0\] has '0.weight' of shape \[4, 2\], in the model it has \[4, 3\]",
    ),
    "objects": (np.array([[None]]), TypeError, "axes is an array of object"),
    "too few tensors": (
        [[torch.ones(4, 3)], FIRST],
        ValueError,
        r"axes\[0\] has 1 tensors, the model has 6 param",
    ),
    "no number": ([TOWARDS[0], TOWARDS[1] * float("nan")], ValueError, "axes"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_direction_is_named(name):
    axes, error, message = BAD[name]
    with pytest.raises(error, match=message):
        viz_lla(MODEL, metric(), axes=axes, **CALM)
