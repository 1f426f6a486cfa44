"""Each rule: right, and needed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx
from torch.nn import functional

from lla_func.graph import _affine, _partition
from lla_func.graph import _rewrite as rewrite
from lla_func.graph._affine import RULES, classify
from lla_func.graph._loss import record_loss
from lla_func.graph._partition import hoist
from tests.graphs import uses

aten = torch.ops.aten
P = 24
X = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
MASK = X[0] > 0
INDEX = torch.tensor([[0, 2, 1, 1], [1, 1, 0, 2]])


def images(theta: Tensor) -> Tensor:
    return theta.view(1, 2, 3, 4)


AFFINE: dict[Callable, Callable[[Tensor, Tensor], Tensor]] = {
    aten.view.default: lambda t, x: t.view(4, 6),
    aten.reshape.default: lambda t, x: t.view(4, 6),  # what rewrites make of a view
    aten.slice.Tensor: lambda t, x: t[2:9:2],
    aten.select.int: lambda t, x: t.view(4, 6)[1],
    aten.t.default: lambda t, x: t.view(4, 6).t(),
    aten.transpose.int: lambda t, x: t.view(2, 3, 4).transpose(0, 2),
    aten.permute.default: lambda t, x: t.view(2, 3, 4).permute(2, 0, 1),
    aten.expand.default: lambda t, x: t.expand(3, P),
    aten.unsqueeze.default: lambda t, x: t.unsqueeze(0),
    aten.squeeze.dim: lambda t, x: t.view(P, 1).squeeze(1),
    aten.squeeze.default: lambda t, x: t.view(P, 1).squeeze(),
    aten.alias.default: lambda t, x: aten.alias.default(t),
    aten._unsafe_view.default: lambda t, x: aten._unsafe_view.default(t, [4, 6]),
    aten.clone.default: lambda t, x: t.clone(),
    aten._to_copy.default: lambda t, x: aten._to_copy.default(t, dtype=torch.float32),
    aten.neg.default: lambda t, x: -t,
    aten.sum.default: lambda t, x: t.sum(),
    aten.sum.dim_IntList: lambda t, x: t.view(4, 6).sum(1),
    aten.mean.default: lambda t, x: t.mean(),
    aten.mean.dim: lambda t, x: t.view(4, 6).mean(0),
    aten.cumsum.default: lambda t, x: t.cumsum(0),
    aten.flip.default: lambda t, x: t.flip(0),
    aten.roll.default: lambda t, x: t.roll(2),
    aten.repeat.default: lambda t, x: t.repeat(2),
    aten.tril.default: lambda t, x: t.view(4, 6).tril(),
    aten.triu.default: lambda t, x: t.view(4, 6).triu(),
    aten.index.Tensor: lambda t, x: t.view(4, 6)[:, INDEX[0]],
    aten.index_select.default: lambda t, x: t.view(4, 6).index_select(1, INDEX[0]),
    aten.gather.default: lambda t, x: t.view(4, 6).gather(0, INDEX),
    aten.embedding.default: lambda t, x: functional.embedding(INDEX, t.view(4, 6)),
    aten.avg_pool2d.default: lambda t, x: functional.avg_pool2d(images(t), 2, 1),
    aten._adaptive_avg_pool2d.default: lambda t, x: functional.adaptive_avg_pool2d(images(t), 2),
    aten.upsample_nearest2d.default: lambda t, x: aten.upsample_nearest2d.default(images(t), [6, 8]),
    aten.upsample_bilinear2d.default: lambda t, x: aten.upsample_bilinear2d.default(images(t), [6, 8], False),
    aten.constant_pad_nd.default: lambda t, x: functional.pad(images(t), (1, 0, 2, 1), value=3.0),
    aten.add.Tensor: lambda t, x: x + 2 * t.view(2, 3, 4),
    aten.add.Scalar: lambda t, x: aten.add.Scalar(t, 3.0),
    aten.sub.Tensor: lambda t, x: torch.sub(x, t.view(2, 3, 4), alpha=3),
    aten.sub.Scalar: lambda t, x: aten.sub.Scalar(t, 3.0),
    aten.rsub.Scalar: lambda t, x: aten.rsub.Scalar(t, 3.0, 2.0),
    aten.where.self: lambda t, x: torch.where(MASK, x[1], t.view(2, 3, 4)[0]),
    aten.masked_fill.Scalar: lambda t, x: t.view(2, 3, 4).masked_fill(MASK, 7.0),
    aten.cat.default: lambda t, x: torch.cat([t.view(2, 3, 4), x, 3 * t.view(2, 3, 4)]),
    aten.stack.default: lambda t, x: aten.stack.default([x, t.view(2, 3, 4)]),
    aten.mul.Tensor: lambda t, x: x * t.view(2, 3, 4),
    aten.mul.Scalar: lambda t, x: aten.mul.Scalar(t, 3.0),
    aten.div.Tensor: lambda t, x: t.view(2, 3, 4) / x,
    aten.div.Scalar: lambda t, x: aten.div.Scalar(t, 3.0),
    aten.mm.default: lambda t, x: x[0] @ t.view(4, 6),
    aten.bmm.default: lambda t, x: torch.bmm(x, t.view(2, 4, 3)),
    aten.mv.default: lambda t, x: torch.mv(x.view(3, 8), t[:8]),
    aten.dot.default: lambda t, x: torch.dot(x.view(P), t),
    aten.addmm.default: lambda t, x: torch.addmm(t[:6], x[0], t.view(4, 6)),
    aten.addmv.default: lambda t, x: torch.addmv(x[0, :, 0], x.view(3, 8), t[:8]),
    aten.baddbmm.default: lambda t, x: torch.baddbmm(x, x[:, :, :3], t.view(2, 3, 4)),
    aten.convolution.default: lambda t, x: functional.conv2d(
        x.view(1, 2, 3, 4), t[:12].view(2, 2, 1, 3), t[:2]
    ),
}

NOT_AFFINE = {
    "a product of two varying values": lambda t, x: t * t,
    "a matrix product of two varying values": lambda t, x: t.view(4, 6) @ t.view(6, 4),
    "a convolution of two varying values": lambda t, x: functional.conv2d(images(t), t[:4].view(1, 2, 1, 2)),
    "division by a varying value": lambda t, x: x.view(P) / t,
    "a varying condition": lambda t, x: torch.where(t > 0, x.view(P), 1.0),
    "relu": lambda t, x: t.relu(),
    "softmax": lambda t, x: t.softmax(0),
    "maximum": lambda t, x: torch.maximum(t, x.view(P)),
    "conversion to integers": lambda t, x: aten._to_copy.default(t, dtype=torch.int64).double(),
}


def prepared(function: Callable[[Tensor, Tensor], Tensor]) -> _partition.Partition:
    theta = torch.ones(P, dtype=torch.float64)

    def loss(theta: Tensor, batch: Tensor) -> Tensor:  # the sine keeps the value itself at the frontier
        return function(theta, batch).sin()

    return _partition.partition(loss, theta, X)


def frontier_is_exact(function: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Whether every combined value equals the function at a point away from the origin."""
    generator = torch.Generator().manual_seed(0)
    origin = torch.randn(P, generator=generator, dtype=torch.float64)
    basis = torch.randn(2, P, generator=generator, dtype=torch.float64)
    parts = prepared(function)
    affine, constant = hoist(parts, origin, basis, X)
    combined = [f0 + 0.7 * f1 - 1.3 * f2 for f0, f1, f2 in affine]
    theta = origin + 0.7 * basis[0] - 1.3 * basis[1]
    actual = parts.point(*parts.views(theta[parts.span]), *combined, *constant)
    tol = 1e-6 if actual.dtype == torch.float32 else 1e-12
    return torch.allclose(actual, function(theta, X).sin(), rtol=tol, atol=tol)


def recorded(operation: Callable) -> fx.Graph:
    graph = record_loss(AFFINE[operation], torch.ones(P, dtype=torch.float64), X).graph
    if operation is aten.reshape.default:
        rewrite.forget_strides(graph)
    return graph


OLD = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 9)


def test_every_rule_has_a_case():
    assert set(AFFINE) == set(RULES)


@pytest.mark.parametrize("operation", AFFINE, ids=str)
def test_the_rule_gives_the_exact_origin_and_directions(operation):
    graph = recorded(operation)
    if OLD and not uses(graph, operation):
        pytest.skip("older torch records this operation as others")
    assert uses(graph, operation)
    assert set(classify(graph).values()) <= {"affine", "constant"}
    assert frontier_is_exact(AFFINE[operation])


@pytest.mark.parametrize("operation", AFFINE, ids=str)
def test_without_its_rule_the_value_is_not_affine(operation, monkeypatch):
    graph = recorded(operation)
    monkeypatch.setattr(_affine, "RULES", {op: rule for op, rule in RULES.items() if op is not operation})
    assert "general" in classify(graph).values()


@pytest.mark.parametrize("what", NOT_AFFINE)
def test_what_is_not_affine_is_computed_at_each_point(what):
    graph = record_loss(NOT_AFFINE[what], torch.ones(P, dtype=torch.float64), X).graph
    assert "general" in classify(graph).values()
    assert frontier_is_exact(NOT_AFFINE[what])
