"""Convolutions by our own derivatives, against torch's in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lla_func._torch import differentiable
from tests.dense import draw

OPTIONS = [
    {},
    {"stride": 2, "padding": 1},
    {"stride": (2,), "padding": (1,), "dilation": 2},
    {"groups": 2, "padding": 1},
    {"padding": "same"},
]


def second(axes, options, bias, wanted):
    """A product with the second derivative of a loss of a convolution, with respect to what is wanted."""
    x = draw(3, 4, *[7] * axes)
    w = draw(6, 4 // options.get("groups", 1), *[3] * axes, seed=1)
    b = draw(6, seed=2) if bias else None
    tensors = [t for t, want in zip((x, w, b), wanted, strict=True) if want and t is not None]
    for tensor in tensors:
        tensor.requires_grad_()
    function = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    loss = function(input=x, weight=w, bias=b, **options).sin().sum()
    slopes = torch.autograd.grad(loss, tensors, create_graph=True)
    images = torch.autograd.grad(
        slopes, tensors, [draw(*t.shape, seed=5) for t in tensors], create_graph=True
    )
    third = torch.autograd.grad(sum((image**2).sum() for image in images), tensors)
    return [*slopes, *images, *third]


@pytest.mark.parametrize("wanted", [(True, True, True), (False, True, True), (True, False, False)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_derivatives_up_to_the_third_are_those_of_torch(axes, options, bias, wanted):
    expected = second(axes, options, bias, wanted)
    with differentiable():
        found = second(axes, options, bias, wanted)
    for ours, theirs in zip(found, expected, strict=True):
        theirs = theirs.detach()
        torch.testing.assert_close(ours.detach(), theirs, rtol=1e-11, atol=1e-11 * float(theirs.abs().max()))


def test_images_without_a_batch_and_transforms_are_left_to_torch():
    x, w = draw(4, 7, 7), draw(6, 4, 3, 3, seed=1).requires_grad_()
    with differentiable():
        assert "_Convolution" not in F.conv2d(x, w).grad_fn.name()
        assert "_Convolution" in F.conv2d(x[None], w).grad_fn.name()
        tangent = torch.func.jvp(lambda w: F.conv2d(x[None], w), (w.detach(),), (w.detach(),))[1]
    torch.testing.assert_close(tangent, F.conv2d(x[None], w.detach()))
