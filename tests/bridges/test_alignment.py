"""Claims about alignment: the function stays, permutations are recovered, what has no rule is refused by its name."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from torch import nn

from benchmarks.jobs import Encoder
from bridges.alignment import align, symmetry_of
from bridges.loaders.lenet import LeNet
from lla_func.geometry._permutations import permuted, random_permutations
from tests.cases import build
from tests.state import unchanged

CLOSE = {torch.float64: 1e-12, torch.float32: 1e-6}


class SmallEncoder(nn.Module):
    """A pre-norm encoder of two layers with a class token, positions and images cut into patches."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 12, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 12))
        self.position = nn.Parameter(torch.randn(1, 5, 12))
        layer = nn.TransformerEncoderLayer(12, 3, 20, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(12), enable_nested_tensor=False)
        self.head = nn.Linear(12, 4)

    def forward(self, images):
        x = self.patch(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        return self.head(self.encoder(x)[:, 0])


def models():
    torch.manual_seed(0)
    yield "lenet", LeNet(), torch.randn(3, 1, 28, 28), (6, 16, 120, 84)
    yield "patches", SmallEncoder(), torch.randn(3, 3, 8, 8), (12, 3, 4, 20, 3, 4, 20)
    yield "encoder", Encoder(), torch.randint(100, (2, 64)), (128, *(4, 32, 256) * 4)
    for name, sizes in (
        ("mlp", (8,)),
        ("cnn", (4, 6, 16)),
        ("resnet", (6, 8, 8)),
        ("transformer", (8, 2, 4, 16)),
        ("two_inputs", (5,)),
        ("tied", (6,)),
    ):
        case = build(name, torch.float32)
        yield name, case.model, case.inputs, sizes


with torch.random.fork_rng(devices=[]):
    MODELS = {name: rest for name, *rest in models()}


def posed(name, dtype):
    model, inputs, sizes = MODELS[name]
    model = copy.deepcopy(model).to(dtype)
    inputs = tuple(
        x.to(dtype) if x.is_floating_point() else x
        for x in (inputs if isinstance(inputs, tuple) else (inputs,))
    )
    return model, inputs, sizes


def outputs(model, inputs):
    with torch.no_grad():
        return copy.deepcopy(model).eval()(*inputs)


def shuffled(model, inputs, seed=1):
    """A copy of the model with its units permuted at random."""
    found = symmetry_of(model, inputs)
    other = copy.deepcopy(model)
    own = dict(other.named_parameters()) | dict(other.named_buffers())  # tied ones once
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in permuted(own, found, random_permutations(found, generator)).items():
        own[name].data = tensor.detach().clone()
    return other


def loaded(model, state):
    other = copy.deepcopy(model)
    other.load_state_dict(state)
    return other


@pytest.mark.parametrize("name", MODELS)
def test_the_groups_of_units_are_those_that_the_operations_leave(name):
    model, inputs, sizes = posed(name, torch.float32)
    assert symmetry_of(model, inputs).sizes == sizes


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", MODELS)
def test_a_random_permutation_is_recovered_and_the_function_stays(name, dtype):
    model, inputs, _ = posed(name, dtype)
    other = shuffled(model, inputs)
    expected = outputs(model, inputs)
    scale = float(expected.abs().max())
    assert float((outputs(other, inputs) - expected).abs().max()) <= CLOSE[dtype] * scale
    with unchanged(model), unchanged(other):
        state = align(other, to=model, inputs=inputs, restarts=2)
    for key, tensor in model.state_dict().items():
        assert torch.equal(state[key], tensor), key


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("name", ["lenet", "resnet", "patches", "tied"])
def test_an_aligned_model_computes_what_the_model_computed_and_is_nearer(name, dtype):
    model, inputs, _ = posed(name, dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        other = copy.deepcopy(model)
        for parameter in other.parameters():
            parameter.data += 0.5 * parameter.std(correction=0) * torch.randn_like(parameter)
    other = shuffled(other, inputs)
    aligned = loaded(other, align(other, to=model, inputs=inputs))
    expected = outputs(other, inputs)
    off = float((outputs(aligned, inputs) - expected).abs().max())
    assert off <= CLOSE[dtype] * float(expected.abs().max())

    def distance(a):
        return sum(
            float((p - q).detach().square().sum())
            for p, q in zip(a.parameters(), model.parameters(), strict=True)
        )

    assert distance(aligned) < 0.9 * distance(other)


def test_tied_weights_stay_tied():
    model, inputs, _ = posed("tied", torch.float32)
    state = align(shuffled(model, inputs), to=model, inputs=inputs)
    assert torch.equal(state["embedding.weight"], state["output.weight"])


def test_frozen_parameters_and_constants_stay_as_they_are():
    model, inputs, _ = posed("cnn", torch.float64)
    other = shuffled(model, inputs)
    other[3].requires_grad_(False)  # between two layers that could move otherwise
    found = symmetry_of(other, inputs)
    assert found.sizes == (16,)
    state = align(other, to=model, inputs=inputs)
    assert torch.equal(state["3.weight"], other[3].weight)


def test_bfloat16_and_losses_of_any_size_are_aligned():
    for scale in (1e-9, 1e8):
        model, inputs, _ = posed("cnn", torch.bfloat16)
        with torch.no_grad():
            model[-1].weight *= scale
        other = shuffled(model, inputs)
        state = align(other, to=model, inputs=inputs)
        assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())


def test_the_same_seed_gives_the_same_alignment():
    model, inputs, _ = posed("lenet", torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        other = LeNet()
    first, second = (align(other, to=model, inputs=inputs, restarts=2, seed=4) for _ in range(2))
    assert all(torch.equal(first[key], second[key]) for key in first)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 4)
        self.memory = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x):
        return self.head(self.memory(self.encoder(x))[0][:, -1])


def test_a_layer_without_rules_is_refused_by_its_name():
    model = Recurrent()
    with pytest.raises(ValueError, match=r"layer 'memory' \(LSTM\) calls aten\.\S*.*known are linear, conv"):
        align(model, to=copy.deepcopy(model), inputs=torch.randn(2, 6, 3))


class Writing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 8)
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        x.add_(1.0)
        return {"logits": self.last(self.first(x).relu_()), "inputs": x, "step": 3}


def test_a_model_that_writes_into_its_inputs_is_aligned_and_the_inputs_stay():
    torch.manual_seed(0)
    model, inputs = Writing(), torch.randn(4, 3)
    before = inputs.clone()
    other = shuffled(model, inputs)
    state = align(other, to=model, inputs=inputs)
    assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())
    assert torch.equal(inputs, before)


def test_a_model_that_branches_on_values_is_refused():
    class Branching(nn.Linear):
        def forward(self, x):
            y = super().forward(x)
            return y if y.sum() > 0 else -y

    model = Branching(2, 2)
    with pytest.raises(ValueError, match="cannot be aligned: it branches on values"):
        align(model, to=copy.deepcopy(model), inputs=torch.ones(1, 2))


def test_without_scipy_an_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    monkeypatch.setitem(sys.modules, "scipy", None)
    model, inputs, _ = posed("mlp", torch.float32)
    with pytest.raises(ModuleNotFoundError, match=r"needs SciPy.*pip install 'lla-func\[align\]'"):
        align(model, to=model, inputs=inputs)


MLP = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
WIDER = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
X = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: align(MLP, to=WIDER, inputs=X),
            r"to is of another architecture.*'0.weight' has shape \[4, 3\].*\[5, 3\]",
        ),
        (lambda: align(MLP, to=nn.Linear(3, 2), inputs=X), "to is of another architecture.*nothing"),
        (
            lambda: align(MLP.state_dict(), to=MLP, inputs=X),
            "model_b is of type OrderedDict; pass a torch.nn.Module",
        ),
        (lambda: align(MLP, to=None, inputs=X), "to is of type NoneType; pass a torch.nn.Module"),
        (lambda: align(MLP, to=MLP, inputs=X, restarts=0), "restarts=0 is too small"),
        (lambda: align(MLP, to=MLP, inputs=X, restarts=True), "restarts=True is not a whole number"),
        (lambda: align(MLP, to=MLP, inputs=X, seed=-1), "seed=-1 is too small"),
    ],
)
def test_bad_arguments_are_named(call, says):
    with pytest.raises((ValueError, TypeError), match=says):
        call()


def test_a_failing_pass_leaves_both_models_as_they_were():
    with unchanged(MLP), pytest.raises(RuntimeError):
        align(MLP, to=copy.deepcopy(MLP), inputs=torch.ones(2, 7))
