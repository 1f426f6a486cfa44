"""Claims about symmetries of recorded functions: which factors of axes may be permuted, and that they may."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lla_func.geometry._permutations import permuted, random_permutations
from lla_func.graph._factors import Factors
from lla_func.graph._record import record
from lla_func.graph._symmetry import UnknownOperationError, symmetry


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def groups(function, **tensors):
    """The sizes of the groups, after proof that the function does not notice their permutations."""
    found = symmetry(record(function, *tensors.values()), list(tensors))
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        moved = permuted(tensors, found, random_permutations(found, generator))
        torch.testing.assert_close(
            function(*moved.values()), function(*tensors.values()), rtol=1e-12, atol=1e-12
        )
    return found.sizes


def two_layers(between=lambda x: x):
    """A function of w and v with something between two products."""
    x = draw(5, 3, seed=9)
    return lambda w, v: between(x @ w) @ v


W, V = draw(3, 8, seed=1), draw(8, 2, seed=2)


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        (torch.relu, (8,)),
        (F.gelu, (8,)),
        (lambda x: x.softmax(1), (8,)),
        (lambda x: x / x.norm(dim=1, keepdim=True), (8,)),
        (lambda x: x - x.mean(1, keepdim=True), (8,)),
        (lambda x: F.layer_norm(x, (8,)), (8,)),
        (lambda x: F.group_norm(x, 4), (4, 2)),
        (lambda x: x.view(5, 2, 4).mean(1, keepdim=True).expand(5, 2, 4).reshape(5, 8), (2, 4, 2)),
        (lambda x: torch.stack([x, x.abs()]).sum(0), (8,)),
        (lambda x: torch.cat([x[:, :4], x[:, 4:].relu()], 1), (4,)),
        (lambda x: torch.cat([a.relu() for a in x.chunk(2, 1)], 1), (4,)),
        (lambda x: torch.cat([x[:, :3], x[:, 3:].relu()], 1), ()),
        (lambda x: x.cumsum(1), ()),
        (lambda x: x.cumsum(0).flip(0).roll(1, 0), (8,)),
        (lambda x: F.hardswish(x), (8,)),
        (lambda x: torch.cat([F.glu(x, 1), F.logsigmoid(x[:, 4:])], 1), (4,)),
        (lambda x: F.adaptive_avg_pool2d(x[:, :, None, None].expand(5, 8, 2, 2), 1).flatten(1), (8,)),
        (lambda x: x.flip(1), ()),
        (lambda x: x * torch.arange(8.0).double(), ()),
        (lambda x: x.view(5, 4, 2)[:, :, 0].repeat(1, 2), (4, 2)),
        (lambda x: x[:, torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])], ()),
        (lambda x: torch.cat([x.unbind(1)[i][:, None] for i in range(8)], 1), ()),
        (lambda x: torch.where(x > 0, x, 0.1 * x), (8,)),
        (lambda x: x.topk(8, 1).values, ()),
        (lambda x: F.pad(x, (1, 0))[:, :8], ()),
        (lambda x: x.var(1, keepdim=True) * x, (8,)),
        (lambda x: F.avg_pool1d(x[:, None], 3, 1, 1)[:, 0], ()),
    ],
)
def test_a_hidden_layer_is_permuted_as_far_as_what_follows_allows(between, expected):
    assert groups(two_layers(between), w=W, v=V) == expected


def test_pixels_stay_in_place_when_channels_are_flattened_with_them():
    x = draw(2, 1, 6, 6)

    def network(kernel, w):
        return F.max_pool2d(F.conv2d(x, kernel).relu(), 2).flatten(1) @ w

    assert groups(network, kernel=draw(4, 1, 3, 3), w=draw(16, 2)) == (4,)


def test_a_residual_connection_ties_the_channels_of_both_branches():
    x = draw(3, 4)

    def network(a, b, c, d):
        stream = x @ a
        return (stream + torch.tanh(stream @ b) @ c) @ d

    assert groups(network, a=draw(4, 6), b=draw(6, 5), c=draw(5, 6), d=draw(6, 2)) == (6, 5)


def test_a_weight_between_two_places_of_one_stream_is_permuted_on_both_axes():
    x = draw(3, 4)

    def network(a, b, d):
        stream = x @ a
        return (stream + torch.tanh(stream @ b)) @ d

    assert groups(network, a=draw(4, 6), b=draw(6, 6), d=draw(6, 2)) == (6,)


def test_heads_and_their_width_are_two_factors_of_one_axis():
    x = draw(2, 5, 3)

    def attention(qkv, out):
        q, k, v = (x @ qkv).view(2, 5, 3, 4, 6).permute(2, 0, 3, 1, 4)
        weights = (q @ k.mT).softmax(-1)
        return (weights @ v).transpose(1, 2).reshape(2, 5, 24) @ out

    assert groups(attention, qkv=draw(3, 72), out=draw(24, 2)) == (4, 6)


@pytest.mark.parametrize(("channels", "inner", "expected"), [(4, 1, (4,)), (2, 2, (2, 2)), (1, 4, (4, 4))])
def test_groups_of_convolutions_are_permuted_as_a_whole_and_within(channels, inner, expected):
    x = draw(2, 3, 5, 5)

    def network(first, grouped, last):
        hidden = F.conv2d(F.conv2d(x, first).tanh(), grouped, groups=channels).tanh()
        return F.conv2d(hidden, last)

    found = groups(network, first=draw(4, 3, 1, 1), grouped=draw(4, inner, 3, 3), last=draw(2, 4, 1, 1))
    assert sorted(found)[-len(expected) :] == sorted(expected)


@pytest.mark.parametrize("conv", [1, 2])
def test_transposed_convolutions_are_permuted_unless_they_have_groups(conv):
    x = draw(2, 3, 5, 5)

    def network(first, up, last):
        return F.conv2d(F.conv_transpose2d(F.conv2d(x, first).tanh(), up, groups=conv).tanh(), last)

    found = groups(network, first=draw(4, 3, 1, 1), up=draw(4, 6 // conv, 2, 2), last=draw(2, 6, 1, 1))
    assert found == ((4, 6) if conv == 1 else ())


def test_weight_normalization_permutes_directions_and_lengths():
    x = draw(3, 4)

    def network(v, g, w):
        return torch.tanh(x @ torch._weight_norm(v, g, 0).mT) @ w

    assert groups(network, v=draw(6, 4), g=draw(6, 1).abs(), w=draw(6, 2)) == (6,)


def test_nothing_that_the_output_shows_is_permuted():
    x = draw(3, 4)
    assert groups(lambda w: x @ w, w=draw(4, 5)) == ()


def test_an_input_that_is_used_as_it_is_stays_in_place():
    x = draw(4, 5)
    assert groups(lambda w, v: (w + x) @ v, w=draw(4, 5), v=draw(5, 2)) == ()


def test_an_operation_without_a_rule_is_named():
    with pytest.raises(UnknownOperationError, match="fft"):
        groups(lambda w: torch.fft.fft(w).real, w=draw(4))


def test_layers_of_torch_have_rules():
    torch.manual_seed(0)
    layers = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.SiLU(), nn.AdaptiveAvgPool2d(4), nn.GroupNorm(2, 4)),
        *(
            nn.Upsample(scale_factor=2),
            nn.InstanceNorm2d(4, affine=True),
            nn.ConvTranspose2d(4, 6, 2),
            nn.PReLU(6),
        ),
        *(nn.ReflectionPad2d(1), nn.AvgPool2d(2), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Dropout(0.5)),
        *(
            nn.Linear(24, 8),
            nn.RMSNorm(8),
            nn.Softplus(),
            nn.Unflatten(1, (2, 4)),
            nn.Flatten(),
            nn.Linear(8, 2),
        ),
    )
    layers.double().eval()
    parameters = dict(layers.named_parameters())
    x = draw(2, 1, 8, 8)

    def network(*values):
        return torch.func.functional_call(layers, dict(zip(parameters, values, strict=True)), (x,))

    found = groups(lambda *v: network(*v), **{name: p.detach() for name, p in parameters.items()})
    assert found == (6, 2, 4)  # the first four channels meet constants: the running statistics of BatchNorm


# ---- factors -------------------------------------------------------------------------------------------------------


def test_axes_that_are_tied_share_the_finest_factors_of_both():
    factors = Factors()
    a, b = factors.axis(12), factors.axis(3) + factors.axis(4)
    c = factors.axis(6) + factors.axis(2)
    factors.tie(a, b)
    factors.tie(a, c)
    assert factors.leaves(a) == factors.leaves(b) == factors.leaves(c)
    assert [factors.size(f) for f in factors.leaves(a)] == [3, 2, 2]


def test_axes_without_a_common_factorization_are_fixed():
    factors = Factors()
    a, b = factors.axis(4) + factors.axis(3), factors.axis(3) + factors.axis(4)
    factors.tie(a, b)
    assert all(factors.is_fixed(f) for f in factors.leaves(a + b))


def test_what_is_fixed_stays_fixed_when_it_is_tied_or_split():
    factors = Factors()
    a, b, c = factors.axis(6, fixed=True), factors.axis(6), factors.axis(6)
    factors.tie(b, c)
    factors.tie(b, a)
    (two, three) = factors.cut([c], [2, 3])
    assert all(factors.is_fixed(f) for f in factors.leaves(two + three))


def test_a_view_that_ends_within_a_factor_fixes_everything():
    factors = Factors()
    a = [factors.axis(4), factors.axis(9)]
    new = factors.cut(a, [6, 6])
    assert [factors.size(f) for axis in new for f in factors.leaves(axis)] == [6, 6]
    assert all(factors.is_fixed(f) for axis in [*a, *new] for f in factors.leaves(axis))
