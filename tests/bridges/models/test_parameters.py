"""Claims about the parameters of a module: their names, roles and filters, and which models cannot be borrowed."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from bridges.metrics import Loss
from bridges.models import layout_of, trainable, unwrap
from tests.cases import build


def test_names_and_order_are_those_of_the_model():
    model = build("cnn").model
    assert layout_of(model).names == tuple(name for name, _ in model.named_parameters())


def test_roles_and_filters_follow_the_layer():
    model = nn.ModuleDict(
        {
            "conv": parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
            "up": nn.ConvTranspose2d(4, 2, 2),
            "norm": nn.LayerNorm([2, 5, 5]),
            "attention": nn.MultiheadAttention(4, 1, add_bias_kv=True),
            "lstm": nn.LSTM(4, 3),
        }
    )
    layout = layout_of(model)
    roles = dict(zip(layout.names, layout.roles, strict=True))
    axes = dict(zip(layout.names, layout.filter_axes, strict=True))
    assert {name for name, role in roles.items() if role == "norm"} == {"norm.weight", "norm.bias"}
    assert {name for name, role in roles.items() if role == "bias"} == {
        *("conv.bias", "up.bias", "attention.in_proj_bias", "attention.out_proj.bias"),
        *("attention.bias_k", "attention.bias_v", "lstm.bias_ih_l0", "lstm.bias_hh_l0"),
    }
    assert axes["up.weight"] == 1
    assert axes["conv.parametrizations.weight.original1"] == 0
    assert axes["lstm.weight_hh_l0"] == 0


def test_shells_around_a_model_are_taken_off():
    model = build("mlp").model
    assert unwrap(nn.DataParallel(model)) is model
    assert unwrap(torch.compile(model)) is model


class FullyShardedDataParallel(nn.Module):  # known by its name, so that its import costs nothing
    pass


BAD_MODELS = {
    "no module": (lambda: [1], TypeError, "model is of type list; a torch.nn.Module is needed"),
    "a class": (lambda: nn.Linear, TypeError, "model is a class; pass an instance"),
    "sharded": (FullyShardedDataParallel, TypeError, r"model is sharded \(FSDP\)"),
    "nothing to train": (nn.ReLU, ValueError, "no parameter with requires_grad=True"),
    "frozen": (lambda: nn.Linear(2, 2).requires_grad_(False), ValueError, "requires_grad=True"),
    "no values yet": (
        lambda: nn.Linear(2, 2, device="meta"),
        ValueError,
        "'weight' of the model has no values",
    ),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_a_model_that_cannot_be_borrowed_is_refused_with_the_reason(name):
    make, error, message = BAD_MODELS[name]
    with pytest.raises(error, match=message):
        trainable(unwrap(make()))


@pytest.mark.filterwarnings("ignore::UserWarning")  # lazy modules warn about themselves
def test_a_lazy_model_has_to_run_once():
    with pytest.raises(ValueError, match="'weight' of the model has no values yet; run the model once"):
        trainable(nn.LazyLinear(2))


def test_mixed_dtypes_and_values_that_are_not_numbers_are_refused_by_name():
    x, y = torch.ones(2, 3), torch.ones(2, 1)
    mixed = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1).double())
    with pytest.raises(
        ValueError, match=r"'1.weight' has dtype torch.float64, but '0.weight' has torch.float32"
    ):
        Loss(nn.MSELoss(), x, y).objective(mixed)
    broken = nn.Linear(3, 1)
    nn.init.constant_(broken.bias, float("nan"))
    with pytest.raises(ValueError, match="parameter 'bias' has NaN or infinite values"):
        Loss(nn.MSELoss(), x, y).objective(broken)


@pytest.mark.parametrize(("groups", "channels", "axis"), [(1, (4, 6), 1), (4, (4, 4), 0), (2, (4, 4), None)])
def test_filters_of_transposed_convolutions_follow_their_groups(groups, channels, axis):
    layer = nn.ConvTranspose2d(*channels, 2, groups=groups, bias=False)
    assert layout_of(layer).filter_axes == (axis,)
