"""A recorder writes down what a function does with its inputs, and refuses what a graph would repeat wrongly."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from lla_func.graph._inplace import make_inplace
from lla_func.graph._record import RecordingError, dtype_of, infer, itemsize, record, shape_of
from tests.graphs import calls

aten = torch.ops.aten
X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


FUNCTIONS = {
    "several outputs": lambda x: x.max(1).values.sum() + x.split(2)[1].sum(),
    "a tensor of its own": lambda x: (x * torch.arange(3.0)).sum(),
    "a gradient inside": lambda x: grad(lambda y: (y**3).sum())(x).sum(),
    "a batched map": lambda x: vmap(lambda row: row.softmax(0))(x).square().sum(),
    "an index": lambda x: x[torch.tensor([0, 2])].sum(),
    "an input as it is": lambda x: x,
    "a view of what is written to": lambda x: (lambda y: (y[0], y.add_(1))[0])(2 * x),
    "a constant": lambda x: torch.ones(2).sum(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_graph_repeats_the_function_on_other_values(name):
    function = FUNCTIONS[name]
    graph = record(function, X)
    other = 2 * X.flip(0) - 1
    torch.testing.assert_close(graph(other), function(other), rtol=1e-14, atol=1e-14)


def test_what_depends_on_no_input_is_a_constant():
    table = torch.arange(6.0).view(2, 3)
    graph = record(lambda x: x @ table.exp().t().cumsum(0), torch.ones(1, 3))
    assert calls(graph.graph) == ["aten.mm.default"]


def test_a_module_is_recorded_with_its_parameters_as_inputs():
    model = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU()).double().eval()
    weight = model[0].weight.detach()

    def function(w, x):
        return functional_call(model, {"0.weight": w}, (x,)).sum()

    graph = record(function, weight, X)
    torch.testing.assert_close(graph(3 * weight, X), function(3 * weight, X))


REFUSED = {
    "it draws random numbers": lambda x: x * torch.rand(3),
    "item": lambda x: x * float(x[0, 0]),
    "branches": lambda x: x if (x > 0).all() else -x,
    "outlives": lambda x: x.add_(1),
    "returns tuple": lambda x: (x, x),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_a_graph_would_repeat_wrongly_is_refused(why):
    with pytest.raises(RecordingError, match=why):
        record(REFUSED[why], X.clone())


def test_shapes_are_known_of_every_node_and_inferred_for_new_ones_without_computing():
    graph = record(lambda x: x.max(1).values, X)
    for node in graph.graph.nodes:
        assert node.op == "output" or shape_of(node) is not None or "values" in node.meta
    (outlet,) = graph.graph.find_nodes(op="output")
    with graph.graph.inserting_before(outlet):
        value = graph.graph.call_function(aten._to_copy.default, (outlet.args[0],), {"dtype": torch.float32})
    infer(graph.graph)
    assert (shape_of(value), dtype_of(value), itemsize(value)) == ((4,), torch.float32, 4)


# ---- memory reused -------------------------------------------------------------------------------------------------


def test_an_activation_writes_over_a_value_that_nobody_else_reads():
    graph = record(lambda x: (x @ x.t()).view(16).relu().tanh().sum(), X)
    make_inplace(graph.graph)
    assert "aten.relu_.default" in calls(graph.graph)
    before = X.clone()
    assert graph(X) == (X @ X.t()).view(16).relu().tanh().sum()
    assert torch.equal(X, before)


def test_maxima_and_scaled_sums_write_into_an_argument():
    def function(x):
        y = torch.maximum(x, 2 * x)
        return torch.addcmul(x[:, 0], y @ y.t(), x[:, 1]).sum()

    graph = record(function, X)
    make_inplace(graph.graph)
    assert calls(graph.graph).count("aten.maximum.out") == calls(graph.graph).count("aten.addcmul.out") == 1
    before = X.clone()
    assert graph(X) == function(X)
    assert torch.equal(X, before)


KEPT = {
    "an input": lambda x: x.relu().sum(),
    "a view of an input": lambda x: x.t().relu().sum(),
    "a value read twice": lambda x: (lambda y: y.relu().sum() + y.sum())(2 * x),
    "a view read elsewhere": lambda x: (lambda y: y.t().relu().sum() + y.sum())(2 * x),
    "an expanded value": lambda x: x.sum().expand(3).relu().sum(),
    "another dtype": lambda x: ((2 * x).float() + x).sum(),
    "a smaller value": lambda x: (x.sum(0) + x).sum(),
    "an input of a maximum": lambda x: torch.maximum(x, x[0].expand(4, 3)).sum(),
    "a factor smaller than the product": lambda x: torch.addcmul(x, 2 * x[0], x).sum(),
    "twice the same": lambda x: (lambda y: (y + y).sum())(2 * x),
}


@pytest.mark.parametrize("name", KEPT)
def test_nothing_is_written_over_that_somebody_needs(name):
    graph = record(KEPT[name], X)
    make_inplace(graph.graph)
    before = X.clone()
    assert not {"aten.relu_.default", "aten.maximum.out", "aten.addcmul.out"} & set(calls(graph.graph))
    assert "aten.add_.Tensor" not in calls(graph.graph) or "relu" in "".join(calls(graph.graph))
    torch.testing.assert_close(graph(X), KEPT[name](X))
    assert torch.equal(X, before)


def test_inputs_are_written_over_only_where_that_is_allowed():
    graph = record(lambda x, y: x.relu() + y.relu(), X, X.clone())
    make_inplace(graph.graph, fresh=1)
    assert calls(graph.graph)[:2] == ["aten.relu_.default", "aten.relu.default"]


def test_a_tensor_that_a_function_also_holds_by_itself_is_a_constant_of_it():
    x = torch.tensor([1.0, 2.0])
    distance = record(lambda y: (y - x).square().sum(), x)
    assert float(distance(torch.tensor([4.0, 6.0]))) == 25.0
