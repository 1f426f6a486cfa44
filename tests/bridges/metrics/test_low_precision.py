"""Models in 16 bits: their landscapes are coarse, which is said, and copies in more precision have fine ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bridges.metrics import Loss
from lla_func.facades._landscape import viz_lla
from lla_func.facades._spectrum import viz_esd
from lla_func.objective._objective import risk
from tests.state import unchanged

X = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(32) % 3
QUIET = {"steps": 7, "num_plots": 1, "seed": 0, "to_save": False, "to_viz": False}


def network(dtype: torch.dtype) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3))
    return model.to(dtype)


def metric(dtype: torch.dtype) -> Loss:
    return Loss(nn.CrossEntropyLoss(), X.to(dtype), CLASSES)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_coarse_landscape_says_so_and_names_the_way_out(dtype):
    words = rf"the model is in {str(dtype)[6:]}, .* distinct losses at 49 points; dtype=torch.float32"
    with pytest.warns(RuntimeWarning, match=words):
        viz_lla(network(dtype), metric(dtype), engine="loop", **QUIET)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("wanted", [torch.float32, "float64"])
@pytest.mark.parametrize("options", [{}, {"batchnorm": "recalibrate"}, {"engine": "hoisted"}], ids=str)
def test_a_copy_has_the_landscape_of_the_model_in_that_precision(dtype, wanted, options):
    model = network(dtype)
    found = metric(dtype)
    with unchanged(model):
        coarse = viz_lla(model, found, dtype=wanted, **QUIET, **options)
    target = torch.float32 if wanted == torch.float32 else torch.float64
    fine = Loss(nn.CrossEntropyLoss(), X.to(dtype).to(target), CLASSES)
    expected = viz_lla(network(dtype).to(target), fine, **QUIET, **options)
    assert torch.equal(coarse.landscapes[0].losses, expected.landscapes[0].losses)
    assert len(coarse.landscapes[0].losses.unique()) == 49
    assert coarse.landscapes[0].diagnostics["dtype"] == f"a copy in {target}"
    assert coarse.settings["dtype"] == str(target)
    assert found.inputs.dtype == dtype


def test_parameters_of_several_dtypes_become_one():
    model = network(torch.bfloat16)
    model[1].float()
    with pytest.raises(ValueError, match="dtype"):
        metric(torch.bfloat16).objective(model)
    objective = metric(torch.bfloat16).objective(model, dtype=torch.float32)
    expected = nn.CrossEntropyLoss()(model.eval().float()(X.bfloat16().float()), CLASSES)
    assert risk(objective) == pytest.approx(expected.item(), rel=1e-6)


def test_spectra_are_those_of_the_copy():
    model = network(torch.bfloat16)
    options = {
        "eigs": True,
        "esd": False,
        "trace": False,
        "top_n": 1,
        "seed": 0,
        "to_save": False,
        "to_viz": False,
    }
    found = viz_esd(model, metric(torch.bfloat16), dtype=torch.float64, **options)
    fine = Loss(nn.CrossEntropyLoss(), X.bfloat16().double(), CLASSES)
    assert torch.equal(found.eigenvalues, viz_esd(model.double(), fine, **options).eigenvalues)


def test_adam_axes_fit_the_copy():
    model = network(torch.bfloat16)
    optimizer = torch.optim.Adam(model.parameters())
    nn.CrossEntropyLoss()(model(X.bfloat16()), CLASSES).backward()
    optimizer.step()
    result = viz_lla(
        model, metric(torch.bfloat16), axes="adam", optimizer=optimizer, dtype=torch.float32, **QUIET
    )
    assert result.landscapes[0].losses.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64, "double", 32])
def test_a_dtype_of_no_use_is_refused(dtype):
    with pytest.raises(ValueError, match="dtype=.* is not one of 'float32', 'float64'"):
        metric(torch.bfloat16).objective(network(torch.bfloat16), dtype=dtype)


def test_an_objective_has_its_dtype():
    objective = metric(torch.float32).objective(network(torch.float32))
    with pytest.raises(ValueError, match="dtype cannot change an Objective"):
        viz_lla(objective, dtype=torch.float64, **QUIET)
