"""Claims about the forms of data: whatever a loader yields, the loss is the one that a plain loop over it has."""

from __future__ import annotations

import copy
from collections import UserDict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from bridges.metrics import Loss
from bridges.metrics._graphs import Packed
from lla_func import products
from lla_func.files._fingerprint import fingerprint
from lla_func.objective._objective import risk
from tests.state import unchanged

G = torch.Generator().manual_seed(0)
X, A, Y = torch.randn(7, 4, generator=G), torch.randn(7, 4, generator=G), torch.arange(7) % 3


class Model(nn.Module):
    """Takes one or two inputs; with labels it returns its loss beside its logits, as transformers do."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x, a=None, labels=None):
        logits = torch.tanh(self.linear(x if a is None else x * a))
        return logits if labels is None else {"loss": F.cross_entropy(logits, labels), "logits": logits}


def plain(model, batch):
    return model(**batch)["loss"]


def squares(prediction):
    return prediction.square().mean()


def whole(model, batch):
    x, a, y = batch
    return F.cross_entropy(model(x, a), y)


DICT = {"x": X, "a": A, "labels": Y}
FORMS = {
    "three tensors": (nn.CrossEntropyLoss(), (X, A, Y), lambda m: F.cross_entropy(m(X, A), Y)),
    "arrays": (nn.CrossEntropyLoss(), (X.numpy(), Y.numpy()), lambda m: F.cross_entropy(m(X), Y)),
    "a dict, loss in the output": (None, DICT, lambda m: plain(m, DICT)),
    "positional, loss in the output": (None, (X, A, Y), lambda m: m(X, A, Y)["loss"]),
    "a dict and a criterion of the output": (lambda out: out["loss"], DICT, lambda m: plain(m, DICT)),
    "a dict and a function": (plain, DICT, lambda m: plain(m, DICT)),
    "a function that returns the output": (
        lambda model, batch: model(**batch),
        DICT,
        lambda m: plain(m, DICT),
    ),
    "a function of three tensors": (whole, (X, A, Y), lambda m: whole(m, (X, A, Y))),
    "inputs alone": (squares, (X,), lambda m: squares(m(X))),
    "a bare tensor": (squares, X, lambda m: squares(m(X))),
}


def cut(item, sizes):
    """The batches of data in any form."""
    if isinstance(item, dict):
        parts = {key: cut(value, sizes) for key, value in item.items()}
        return [{key: parts[key][i] for key in item} for i in range(len(sizes))]
    if isinstance(item, tuple):
        return list(zip(*(cut(part, sizes) for part in item), strict=True))
    if isinstance(item, np.ndarray):
        return np.split(item, np.cumsum(sizes)[:-1])
    return list(item.split(sizes))


@pytest.mark.parametrize("resident", [True, False])
@pytest.mark.parametrize("name", FORMS)
def test_data_of_every_form_have_the_loss_of_a_plain_loop(name, resident):
    criterion, data, expected = FORMS[name]
    model = Model()
    metric = Loss.from_loader(criterion, cut(data, [3, 4]), resident=resident)
    with unchanged(model):
        objective = metric.objective(model)
        assert float(risk(objective)) == pytest.approx(expected(model).item(), rel=1e-5)
        assert metric(model) == pytest.approx(expected(model).item(), rel=1e-5)
    raw = cut(data, [3, 4])[0]
    loss, _ = metric(None, model=model, batch=raw, use_wrapper=False, return_pred=True)
    assert loss.requires_grad
    assert products.hessian(objective).matvec(objective.theta).norm() > 0


def test_targets_may_be_left_out():
    model = Model()
    assert Loss(squares, X)(model) == pytest.approx(squares(model(X)).item())
    assert Loss(None, DICT)(model) == pytest.approx(plain(model, DICT).item())
    assert Loss(plain, UserDict(DICT))(model) == pytest.approx(plain(model, DICT).item())
    assert Loss(lambda model, batch: F.cross_entropy(model(batch[0]), batch[1]), X, Y)(
        model
    ) == pytest.approx(F.cross_entropy(model(X), Y).item())


def test_a_dataset_of_any_width_can_be_loaded():
    model = Model()
    loader = DataLoader(TensorDataset(X, A, Y), batch_size=3)
    metric = Loss.from_loader(nn.CrossEntropyLoss(), loader)
    assert metric(model) == pytest.approx(F.cross_entropy(model(X, A), Y).item(), rel=1e-6)
    assert metric.objective(model).separable


def test_an_array_that_is_read_only_is_copied():
    array = X.numpy().copy()
    array.flags.writeable = False
    assert Loss(squares, array)(Model()) > 0


def test_tokens_that_count_are_told_by_weight():
    labels = Y.masked_fill(torch.tensor([1, 1, 0, 0, 0, 0, 0], dtype=torch.bool), -100)
    data = {"x": X, "labels": labels}
    model = Model()
    expected = plain(model, data).item()
    with pytest.warns(UserWarning, match=r"neither the mean nor the sum .* Pass weight="):
        Loss.from_loader(plain, cut(data, [3, 4])).objective(model)
    metric = Loss.from_loader(plain, cut(data, [3, 4]), weight=lambda batch: (batch["labels"] != -100).sum())
    assert float(risk(metric.objective(model))) == pytest.approx(expected, rel=1e-6)
    assert metric(model) == pytest.approx(expected, rel=1e-6)


BAD = {
    "no targets": (
        nn.CrossEntropyLoss(),
        DICT,
        "the criterion takes a prediction and targets, but the data have no",
    ),
    "no targets for a function": (lambda p, y: p.sum(), DICT, "pass targets=..., or a function fn"),
    "no loss": (None, {"x": X}, "the output of type Tensor holds no loss"),
    "text": (plain, ["a"], "the batch is of type str and holds no tensor"),
}


@pytest.mark.parametrize("name", BAD)
def test_data_without_a_loss_are_refused_with_the_way_out(name):
    criterion, data, message = BAD[name]
    loader = cut(data, [3, 4]) if isinstance(data, dict) else data
    with pytest.raises(TypeError, match=message):
        risk(Loss.from_loader(criterion, loader).objective(Model()))


class Store(dict):
    """One kind of nodes or edges."""


class Graph:
    """What a graph of PyTorch Geometric is to us: stores of tensors and other values."""

    def __init__(self, number, nodes):
        generator = torch.Generator().manual_seed(number)
        edges = torch.randint(nodes, (2, 3 * nodes), generator=generator)
        x = torch.randn(nodes, 4, generator=generator)
        self.stores = [Store(x=x, edge_index=edges, y=torch.arange(nodes) % 3, name="ring")]
        self.num_graphs = number

    def __getattr__(self, name):
        try:
            return self.__dict__["stores"][0][name]
        except KeyError:
            raise AttributeError(name) from None

    def __copy__(self):
        made = object.__new__(Graph)
        made.__dict__.update(stores=[Store(store) for store in self.stores], num_graphs=self.num_graphs)
        return made

    def to(self, device):
        raise AssertionError("its tensors are moved one by one")


class Convolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, graph):
        source, target = graph.edge_index
        gathered = torch.zeros_like(graph.x).index_add(0, target, graph.x[source])
        return self.linear(torch.tanh(gathered))


@pytest.mark.parametrize("kind", ["criterion", "function"])
def test_graphs_are_data_like_any_other(kind):
    graphs = [Graph(2, 5), Graph(3, 5), Graph(4, 8)]
    model = Convolution()

    def fn(model, batch):
        return F.cross_entropy(model(batch), batch.y)

    before = fingerprint([Packed(graph) for graph in graphs])
    metric = Loss.from_loader(nn.CrossEntropyLoss() if kind == "criterion" else fn, graphs)
    weights = [5, 5, 8] if kind == "criterion" else [2, 3, 4]
    losses = [fn(model, graph).item() for graph in graphs]
    expected = np.average(losses, weights=weights)
    objective = metric.objective(model)
    assert not objective.separable
    assert float(risk(objective)) == pytest.approx(expected, rel=1e-6)
    assert metric(model) == pytest.approx(expected, rel=1e-6)
    assert fingerprint([Packed(graph) for graph in graphs]) == before
    other = copy.copy(graphs[0])
    other.stores[0]["x"] = other.x + 1
    assert fingerprint(Packed(other)) != fingerprint(Packed(graphs[0]))


def test_an_output_with_an_attribute_holds_its_loss():
    model = nn.Linear(4, 1)
    metric = Loss(lambda model, batch: SimpleNamespace(loss=model(batch).square().mean()), X)
    assert metric(model) == pytest.approx(model(X).square().mean().item())
