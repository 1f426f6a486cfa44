"""Each rewrite: the same value, and only where it applies."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lla_func._torch import tensors
from lla_func.graph import _partition
from lla_func.graph import _rewrite as rewrite
from lla_func.graph._loss import record_loss
from lla_func.graph._matmuls import add_in_product, share_matrix
from lla_func.graph._record import Recording, clean
from tests.graphs import uses

aten = torch.ops.aten
X = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def rewritten(function: Callable, theta: Tensor, batch: object, change: Callable) -> Recording:
    """The graph of a function after one rewrite, checked to have the same value."""
    graph = record_loss(function, theta, batch)
    expected = function(theta, batch)
    change(graph.graph)
    clean(graph.graph)
    torch.testing.assert_close(graph(theta, *tensors(batch)), expected, rtol=1e-12, atol=1e-12)
    return graph


PICTURES = torch.randn(2, 3, 9, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
WEIGHT = torch.randn(4 * 3 * 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("sizes", [(3, 9, 0, 12), 7, 24])
def test_pieces_of_a_split_become_slices(sizes):
    def function(theta, x):
        pieces = (theta[:24].view(2, 12) * x[0, 0, 0, 0]).unsqueeze(0).expand(24, 2, 12).split(sizes, 0)
        return sum((k + 1) * piece.cumsum(0).sum() for k, piece in enumerate(pieces))

    graph = rewritten(function, WEIGHT, PICTURES, rewrite.slice_splits)
    assert not uses(graph.graph, aten.split_with_sizes.default)
    assert not uses(graph.graph, aten.split.Tensor)


@pytest.mark.parametrize("height", [1, 2, 9])
@pytest.mark.parametrize(
    "pooling",
    [(1, 2, 0), (3, 2, 1), (3, 3, 1), (4, 3, 2), (4, 1, 2), ((1, 3), 3, 0), ((2, 3), (1, 2), (1, 0))],
)
def test_max_pooling_becomes_maximum_over_slices(pooling, height):
    def function(theta, x):
        return functional.max_pool2d(theta[0] * x, pooling[0], pooling[1], pooling[2])

    graph = rewritten(function, WEIGHT, PICTURES[:, :, :height], rewrite.pool_by_maximum)
    assert not uses(graph.graph, aten.max_pool2d_with_indices.default)


@pytest.mark.parametrize("pooling", [(2, 2, 0), (3, 3, 0), (2, 3, 0)])
def test_max_pooling_without_padding_reads_slices_alone(pooling):
    def function(theta, x):
        return functional.max_pool2d(theta[0] * x, pooling[0], pooling[1], pooling[2])

    graph = rewritten(function, WEIGHT, PICTURES, rewrite.pool_by_maximum)
    assert not uses(graph.graph, aten.max_pool2d_with_indices.default)
    assert not uses(graph.graph, aten.constant_pad_nd.default)


@pytest.mark.parametrize("options", [{"ceil_mode": True}, {"dilation": 2}])
def test_max_pooling_with_ragged_windows_is_left_alone(options):
    def function(theta, x):
        return functional.max_pool2d(theta[0] * x, 2, **options)

    graph = rewritten(function, WEIGHT, PICTURES, rewrite.pool_by_maximum)
    assert uses(graph.graph, aten.max_pool2d_with_indices.default)


def test_pooled_indices_that_are_read_are_kept():
    def function(theta, x):
        values, indices = functional.max_pool2d(theta[0] * x, 2, return_indices=True)
        return values * indices

    graph = rewritten(function, WEIGHT, PICTURES, rewrite.pool_by_maximum)
    assert uses(graph.graph, aten.max_pool2d_with_indices.default)


def test_not_a_number_survives_pooling():
    x = PICTURES.clone()
    x[0, 0, 3, 3] = torch.nan
    graph = record_loss(lambda t, x: functional.max_pool2d(t[0] * x, 2), WEIGHT, x)
    expected = graph(WEIGHT, x)
    rewrite.pool_by_maximum(graph.graph)
    assert torch.equal(graph(WEIGHT, x).isnan(), expected.isnan())


def test_relu_moves_behind_the_pooling_unless_it_is_read_elsewhere():
    def alone(theta, x):
        return functional.max_pool2d((theta[0] * x).relu(), 2)

    def shared(theta, x):
        h = (theta[0] * x).relu()
        return functional.max_pool2d(h, 2).sum() + h.sum()

    nodes = list(rewritten(alone, WEIGHT, PICTURES, rewrite.rectify_after_pooling).graph.nodes)
    assert nodes[-2].target is aten.relu.default
    nodes = list(rewritten(shared, WEIGHT, PICTURES, rewrite.rectify_after_pooling).graph.nodes)
    order = [n.target for n in nodes]
    assert order.index(aten.relu.default) < order.index(aten.max_pool2d_with_indices.default)


def test_a_hoisted_convolution_keeps_its_own_weights():
    running = torch.zeros(4, dtype=torch.float64), torch.ones(4, dtype=torch.float64)

    def function(theta, x):
        h = functional.conv2d(x, theta.view(4, 3, 3, 3))
        return functional.batch_norm(h, *running, theta[4:8], theta[8:12]).square().sum()

    parts = _partition.partition(function, WEIGHT, PICTURES)
    assert aten.convolution.default in {n.target for n in parts.affine}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("targets", [[0, 2, 1], [0, -100, 1], [-100, -100, -100]])
def test_negative_log_likelihood_picks_entries(reduction, targets):
    y = torch.tensor(targets)

    def function(theta, batch):
        logits = theta[:12].view(3, 4).log_softmax(1)
        return functional.nll_loss(logits, batch, reduction=reduction).nan_to_num(5.0)

    graph = rewritten(function, WEIGHT, y, rewrite.pick_log_probability)
    assert not uses(graph.graph, aten.nll_loss_forward.default)


def test_weighted_negative_log_likelihood_is_left_alone():
    def function(theta, batch):
        return functional.nll_loss(theta[:12].view(3, 4).log_softmax(1), batch, theta[:4].abs())

    graph = rewritten(function, WEIGHT, torch.tensor([0, 1, 2]), rewrite.pick_log_probability)
    assert uses(graph.graph, aten.nll_loss_forward.default)


def test_a_matrix_shared_by_a_batch_is_multiplied_once():
    def function(theta, x):
        return x.transpose(0, 1) @ theta.view(4, 27)

    graph = rewritten(function, WEIGHT, X, share_matrix)
    assert uses(graph.graph, aten.mm.default)
    assert not uses(graph.graph, aten.bmm.default)


def test_views_that_demand_a_layout_become_reshapes():
    graph = rewritten(lambda t, x: x.view(-1) * t[0], WEIGHT, X, rewrite.forget_strides)
    assert graph(WEIGHT, X.transpose(0, 1)).shape == (24,)


@pytest.mark.parametrize("shape", [(6, 4), (2, 3, 4)])
def test_softmax_over_few_classes_runs_over_rows(shape):
    graph = rewritten(
        lambda t, x: t.view(shape).log_softmax(-1), WEIGHT[:24], X, rewrite.normalize_classes_as_rows
    )
    (node,) = graph.graph.find_nodes(op="call_function", target=aten._log_softmax.default)
    assert node.args[1] == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_over_many_classes_or_another_axis_is_left_alone(axis):
    wide = torch.randn(2 * 70, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shape = (2, 70) if axis else (70, 2)
    graph = rewritten(
        lambda t, x: t.view(shape).log_softmax(axis), wide, X, rewrite.normalize_classes_as_rows
    )
    (node,) = graph.graph.find_nodes(op="call_function", target=aten._log_softmax.default)
    assert node.args[1] == axis


def test_a_bias_is_added_within_the_product():
    def function(theta, x):
        return (x.view(6, 4) @ theta[:12].view(4, 3)).view(2, 3, 3) + theta[12:15]

    graph = rewritten(function, WEIGHT, X, add_in_product)
    assert uses(graph.graph, aten.addmm.default)
    assert not uses(graph.graph, aten.add.Tensor)


SUMS = {
    "read twice": lambda t, x: (lambda p: (p + t[12:15]).sum() + p.sum())(x.view(6, 4) @ t[:12].view(4, 3)),
    "a matrix": lambda t, x: x.view(6, 4) @ t[:12].view(4, 3) + x.view(6, 4)[:, :3],
    "a scaled sum": lambda t, x: torch.add(x.view(6, 4) @ t[:12].view(4, 3), t[12:15], alpha=2),
}


@pytest.mark.parametrize("name", SUMS)
def test_other_sums_are_left_alone(name):
    assert uses(rewritten(SUMS[name], WEIGHT, X, add_in_product).graph, aten.mm.default)


def test_batchnorm_behind_a_transposed_convolution_keeps_its_value():
    running = torch.linspace(-1, 1, 3, dtype=torch.float64), torch.linspace(0.5, 2, 3, dtype=torch.float64)

    def function(theta, x):
        h = functional.conv_transpose2d((theta[0] * x).relu(), theta[:81].view(3, 3, 3, 3), theta[:3])
        return functional.batch_norm(h, *running, theta[4:7], theta[8:11]).square().sum()

    folded = _partition.partition(function, WEIGHT, PICTURES).recording
    torch.testing.assert_close(folded(WEIGHT, PICTURES), function(WEIGHT, PICTURES), rtol=1e-12, atol=0)
