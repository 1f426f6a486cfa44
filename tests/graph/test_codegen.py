"""A graph written out as a function gives what the graph says, by bindings that are the operations themselves."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from lla_func.graph._codegen import BINDINGS, generate
from lla_func.graph._record import record

aten = torch.ops.aten
A = torch.randn(4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
B = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
IMAGES = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

ARGUMENTS = {
    aten.add.Tensor: (A, B),
    aten.addcmul.default: (A, A, B),
    aten.addcmul.out: (A, A, B, {"out": A}),
    aten.addmm.default: (A[0], A, B),
    aten.bmm.default: (A.view(1, 4, 4), B.view(1, 4, 4)),
    aten.convolution.default: (IMAGES, IMAGES[:, :, :2, :2], None, [2, 1], [1, 0], [1, 2], False, [0, 0], 1),
    aten.dot.default: (A[0], B[0]),
    aten.gather.default: (A, 1, torch.tensor([[0], [3], [1], [2]])),
    aten.maximum.default: (A, B),
    aten.maximum.out: (A, B, {"out": A}),
    aten.mm.default: (A, B),
    aten.mul.Tensor: (A, B),
    aten.native_layer_norm.default: (A, [4], B[0], B[1], 1e-5),
    aten.neg.default: (A,),
    aten.permute.default: (IMAGES, [0, 2, 3, 1]),
    aten.relu.default: (A,),
    aten.relu_.default: (A,),
    aten.reshape.default: (A, [2, -1]),
    aten.sigmoid.default: (A,),
    aten.sigmoid_.default: (A,),
    aten.t.default: (A,),
    aten.tanh.default: (A,),
    aten.tanh_.default: (A,),
    aten.transpose.int: (IMAGES, 1, 3),
    aten.unsqueeze.default: (A, 1),
}


def test_every_binding_has_a_case():
    assert set(ARGUMENTS) == set(BINDINGS)


@pytest.mark.parametrize("operation", BINDINGS, ids=str)
def test_a_binding_is_the_operation(operation):
    def called(function):
        given = pytree.tree_map_only(Tensor, Tensor.clone, ARGUMENTS[operation])
        named = given[-1] if isinstance(given[-1], dict) else {}
        return function(*given[: len(given) - bool(named)], **named)

    expected, actual = called(operation), called(BINDINGS[operation])
    pairs = [(expected, actual)] if isinstance(expected, Tensor) else zip(expected, actual, strict=True)
    for one, other in pairs:
        assert torch.equal(one, other)
        assert one.stride() == other.stride()


def test_constants_of_any_kind_reach_the_operation():
    graph = fx.Graph()
    x = graph.placeholder("x")
    padded = graph.call_function(aten.constant_pad_nd.default, (x, [1, 0], -math.inf))
    half = graph.call_function(aten._to_copy.default, (padded,), {"dtype": torch.float32})
    table = graph.create_node("get_attr", "table", name="table")
    graph.output(graph.call_function(aten.cat.default, ([half, table],)))
    run = generate(graph, {"table": torch.zeros(1)})
    assert torch.equal(run(torch.ones(1, dtype=torch.float64)), torch.tensor([-math.inf, 1.0, 0.0]))


def test_values_are_dropped_after_their_last_use():
    def chain(x: Tensor) -> Tensor:
        for _ in range(20):
            x = x + 1
        return x

    x = torch.zeros(2**18)
    recording = record(chain, x)
    run = generate(recording.graph, recording.constants)
    alive: list[int] = []

    class Watching(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
            frame = next(f for f in _frames() if f.f_code.co_name == "run")
            alive.append(sum(isinstance(v, Tensor) for v in frame.f_locals.values()))
            return operation(*args, **(kwargs or {}))

    with Watching():
        run(x)
    assert max(alive) <= 2  # the input and one value


def _frames():
    import sys

    frame = sys._getframe()
    while frame is not None:
        yield frame
        frame = frame.f_back
