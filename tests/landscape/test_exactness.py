"""Every engine, axes, normalization and update rule gives what a plain loop over copies of the model gives."""

from __future__ import annotations

import copy
import functools

import pytest
import torch

from lla_func import evaluate
from lla_func.geometry import panels
from lla_func.geometry._directions import KINDS
from lla_func.options import Panels
from tests.cases import DTYPES, build, every_case
from tests.engines import QUICK
from tests.state import unchanged

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
AXES = ("random", "given", "adam", "adameq")


@functools.cache
def subject(name, dtype):
    """A case after two steps of Adam, with its objective and moments."""
    case = build(name, dtype)
    optimizer = torch.optim.Adam(case.model.parameters(), lr=0.02)
    for _ in range(2):
        optimizer.zero_grad()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            criterion_of(case, case.model).backward()
        optimizer.step()
    optimizer.zero_grad()
    case.model.eval()
    return case, case.metric.objective(case.model), case.metric.moments(case.model, optimizer)


def criterion_of(case, model):
    inputs = case.inputs if isinstance(case.inputs, tuple) else (case.inputs,)
    return case.criterion(model(*inputs), case.targets)


def panel_of(objective, moments, axes, normalization, order):
    generator = torch.Generator().manual_seed(7)
    given = torch.randn(2, len(objective.theta), generator=generator, dtype=objective.theta.dtype)
    asked = {"given": given, "adameq": "adam"}.get(axes, axes)
    options = Panels(
        axes=asked,
        mode="adameq" if axes == "adameq" else "add",
        normalization=normalization,
        order=order,
        steps=3,
        dist=0.7,
        adam_lr=0.1,
        num_plots=1,
    )
    moments = moments if axes in ("adam", "adameq") else None
    return next(panels(objective, options, axes=asked, generator=generator, moments=moments))


def naive_losses(case, panel, coords):
    """A loop over deep copies whose parameters are moved one by one, without flat vectors or functional calls."""
    losses = []
    for a, b in coords.tolist():
        weights = [a / b**0.5] if panel.chart.kind == "adameq" else [a, b]
        model = copy.deepcopy(case.model).eval()
        start = 0
        with torch.no_grad():
            for parameter in model.parameters():
                piece = slice(start, start := start + parameter.numel())
                for weight, direction in zip(weights, panel.chart.basis, strict=True):
                    parameter += weight * direction[piece].reshape(parameter.shape)
            losses.append(float(criterion_of(case, model)))
    return torch.tensor(losses, dtype=torch.float64)


def assert_exact(name, dtype, axes, normalization, order=2):
    case, objective, moments = subject(name, dtype)
    panel = panel_of(objective, moments, axes, normalization, order)
    coords = panel.coords[[0, 4, 5]]
    expected = naive_losses(case, panel, coords)
    for engine in QUICK:
        with unchanged(case.model):
            landscape = evaluate(objective, panel.chart, coords, engine=engine, points_per_pass=2)
        assert landscape.diagnostics["engine"] == engine
        torch.testing.assert_close(landscape.losses, expected, rtol=TOLERANCE[dtype], atol=1e-300)


@every_case(dtypes=DTYPES)
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.filterwarnings("ignore:enable_nested_tensor:UserWarning")
def test_losses_equal_a_loop_over_copies_of_the_model(name, dtype, axes):
    assert_exact(name, dtype, axes, "filter")


@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize("normalization", KINDS)
def test_every_normalization_of_the_axes_keeps_losses_exact(axes, normalization):
    """The length of the axes is all that a normalization changes, so one model shows it."""
    for order in (1, 2) if normalization in ("layer", "model", "filter") else (2,):
        assert_exact("cnn", torch.float64, axes, normalization, order)


@pytest.mark.parametrize("frozen", [2, -2, "0.*"])
def test_frozen_planes_equal_a_loop_over_copies_of_the_model(frozen):
    case, objective, _ = subject("cnn", torch.float64)
    options = Panels(steps=3, normalization="filter", freeze=frozen, num_plots=1)
    generator = torch.Generator().manual_seed(0)
    panel = next(panels(objective, options, axes="random", generator=generator))
    landscape = evaluate(objective, panel.chart, panel.coords[:3])
    torch.testing.assert_close(
        landscape.losses, naive_losses(case, panel, panel.coords[:3]), rtol=1e-12, atol=0
    )
