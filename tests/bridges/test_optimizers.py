"""Claims about Adam's moments as vectors along theta."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bridges.models._borrowed import layout_of
from bridges.optimizers import moments
from lla_func.geometry._directions import adam_step
from tests.cases import build
from tests.state import unchanged

MAKERS = {
    "Adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.8, 0.9), eps=1e-6),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.0),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.5, 0.6), amsgrad=True),
    "tensor lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01)),
}


def trained(make, case, *, steps: int = 4):
    """A model after some steps, its optimizer, and the parameters before the last step."""
    optimizer = make(case.model.parameters())
    for _ in range(steps):
        before = nn.utils.parameters_to_vector(case.model.parameters()).detach()
        optimizer.zero_grad()
        case.metric(None, model=case.model, use_wrapper=False, return_pred=True)[0].backward()
        optimizer.step()
    return optimizer, before


@pytest.mark.parametrize("name", MAKERS)
def test_the_step_made_of_the_moments_is_the_one_that_the_optimizer_made(name):
    case = build("cnn")
    optimizer, before = trained(MAKERS[name], case)
    with unchanged(case.model):
        found = moments(case.model, optimizer)
    step = adam_step(found.first, found.second, lr=found.lr, eps=found.eps)
    after = nn.utils.parameters_to_vector(case.model.parameters()).detach()
    torch.testing.assert_close(step, after - before, rtol=1e-6, atol=1e-12)


def test_raw_moments_are_those_that_the_optimizer_stores():
    case = build("mlp")
    optimizer, _ = trained(MAKERS["Adam"], case)
    found = moments(case.model, optimizer)
    stored = [optimizer.state[p] for p in case.model.parameters()]
    assert torch.equal(found.raw_first, torch.cat([s["exp_avg"].flatten() for s in stored]))
    assert torch.equal(found.raw_second, torch.cat([s["exp_avg_sq"].flatten() for s in stored]))
    torch.testing.assert_close(found.first, found.raw_first / (1 - 0.8**4))
    torch.testing.assert_close(found.second, found.raw_second / (1 - 0.9**4))


def test_parameters_are_matched_by_identity_whatever_the_groups_and_their_order():
    case = build("mlp")
    other = copy.deepcopy(case)
    optimizer, _ = trained(lambda p: torch.optim.Adam(p, lr=0.01), case)
    shuffled, _ = trained(
        lambda p: (
            (ps := list(p)) and torch.optim.Adam([{"params": ps[2:][::-1]}, {"params": ps[:2]}], lr=0.01)
        ),
        other,
    )
    expected, found = moments(case.model, optimizer), moments(other.model, shuffled)
    assert torch.equal(found.first, expected.first)
    assert torch.equal(found.second, expected.second)
    assert found.lr == expected.lr == 0.01


def test_each_group_has_its_own_settings():
    case = build("mlp")
    groups = [
        {"params": case.model[0].parameters(), "lr": 0.1, "betas": (0.5, 0.75)},
        {"params": case.model[2].parameters(), "eps": 1e-3},
    ]
    optimizer, before = trained(lambda _: torch.optim.Adam(groups, lr=0.02), case)
    found = moments(case.model, optimizer)
    layout = layout_of(case.model)
    assert layout.unravel(found.lr)["0.weight"].unique().tolist() == [0.1]
    assert layout.unravel(found.lr)["2.bias"].unique().tolist() == [0.02]
    assert layout.unravel(found.eps)["2.bias"].unique().tolist() == [1e-3]
    step = adam_step(found.first, found.second, lr=found.lr, eps=found.eps)
    after = nn.utils.parameters_to_vector(case.model.parameters()).detach()
    torch.testing.assert_close(step, after - before, rtol=1e-6, atol=1e-12)


def test_parameters_without_state_have_zeros():
    case = build("mlp")
    optimizer, _ = trained(lambda _: torch.optim.Adam(case.model[2].parameters()), case)
    found = moments(case.model, optimizer)
    assert found.first[: 5 * 8 + 8].abs().max() == 0
    assert found.second[: 5 * 8 + 8].abs().max() == 0
    assert found.first[5 * 8 + 8 :].abs().min() > 0


def test_frozen_parameters_are_left_out_as_in_theta():
    case = build("mlp")
    optimizer, _ = trained(MAKERS["Adam"], case)
    case.model[0].requires_grad_(False)
    assert moments(case.model, optimizer).first.shape == case.metric.objective(case.model).theta.shape


def test_the_metric_gives_the_moments_on_its_device_and_through_shells():
    case = build("mlp")
    optimizer, _ = trained(MAKERS["Adam"], case)
    found = case.metric.moments(nn.DataParallel(case.model), optimizer)
    assert found.first.device == case.metric.device
    assert torch.equal(found.first, moments(case.model, optimizer).first)


def stepped(make):
    def build_it(model):
        optimizer = make(model.parameters())
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        return optimizer

    return build_it


BAD_OPTIMIZERS = {
    "no optimizer": (lambda m: "adam", TypeError, "optimizer is of type str; pass the torch.optim optimizer"),
    "SGD": (
        stepped(lambda p: torch.optim.SGD(p, 0.1)),
        ValueError,
        "optimizer is SGD, which has no Adam moments",
    ),
    "Adamax": (
        stepped(torch.optim.Adamax),
        ValueError,
        r"optimizer \(Adamax\), 'weight': .* no 'exp_avg_sq'",
    ),
    "not stepped": (lambda m: torch.optim.Adam(m.parameters()), ValueError, r"\(Adam\) has not stepped"),
    "another model": (
        lambda m: stepped(torch.optim.Adam)(copy.deepcopy(m)),
        ValueError,
        "holds none of the model's trainable parameters",
    ),
}


@pytest.mark.parametrize("name", BAD_OPTIMIZERS)
def test_an_optimizer_without_moments_for_this_model_is_refused_with_the_reason(name):
    make, error, message = BAD_OPTIMIZERS[name]
    model = nn.Linear(2, 1)
    with pytest.raises(error, match=message):
        moments(model, make(model))


def test_asking_for_moments_creates_no_state_in_the_optimizer():
    case = build("mlp")
    optimizer, _ = trained(lambda _: torch.optim.Adam(case.model[2].parameters()), case)
    optimizer.add_param_group({"params": case.model[0].parameters()})
    before = len(optimizer.state)
    moments(case.model, optimizer)
    assert len(optimizer.state) == before
