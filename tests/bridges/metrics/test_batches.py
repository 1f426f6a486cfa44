"""Claims about data: what a batch is, and that a loader gives the same batches in every pass without a trace."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from bridges.metrics import Loss
from bridges.metrics import _batches as module
from bridges.metrics._batches import Streamed, available, checked, from_loader
from lla_func.objective._objective import risk
from tests.state import unchanged

CPU = torch.device("cpu")


class Augmented(Dataset):
    """Images that are disturbed by every global generator there is."""

    def __len__(self):
        return 7

    def __getitem__(self, index):
        noise = torch.rand(()) + np.random.rand() + random.random()  # noqa: NPY002
        return torch.full((2,), float(index)) + noise, torch.tensor([float(index)])


def flat(batches):
    return torch.cat([x for x, _ in batches])


@pytest.mark.parametrize("own", [False, True])
def test_every_pass_over_a_shuffling_augmenting_loader_gives_the_same_batches(own):
    generator = torch.Generator().manual_seed(3) if own else None
    streamed = Streamed(DataLoader(Augmented(), batch_size=3, shuffle=True, generator=generator), CPU)
    state = generator.get_state() if own else torch.zeros(1)
    with unchanged(nn.Identity()):
        first, second = flat(streamed), flat(streamed)
    assert torch.equal(first, second)
    noise = first[:, 0] - torch.cat([index for _, index in streamed])[:, 0]
    assert len(noise.unique()) == 7, "each batch is disturbed by other numbers"
    assert not torch.equal(first[:, 0].round(), first[:, 0].round().sort().values)
    assert torch.equal(state, generator.get_state() if own else torch.zeros(1))


def test_between_batches_and_after_giving_up_the_global_state_is_undisturbed():
    streamed = Streamed(DataLoader(Augmented(), batch_size=2, shuffle=True), CPU)
    expected = flat(streamed)
    seen = []
    with unchanged(nn.Identity()):
        for x, _ in streamed:
            seen.append(x)
            with unchanged(nn.Identity()):
                pass
            break
    torch.rand(3, generator=torch.Generator())
    state = torch.get_rng_state()
    for x, _ in streamed:  # what the caller draws in between doesn't matter
        torch.rand(5)
        seen.append(x)
    torch.set_rng_state(state)
    assert torch.equal(torch.cat(seen[1:]), expected)


def test_data_that_fits_is_kept_and_other_data_streamed(monkeypatch):
    loader = DataLoader(
        TensorDataset(torch.randn(8, 4, generator=torch.Generator()), torch.zeros(8)), batch_size=3
    )
    assert isinstance(from_loader(loader, CPU), list)
    assert isinstance(from_loader(loader, CPU, resident=False), Streamed)
    monkeypatch.setattr(module, "free_memory", lambda device: 100)
    assert isinstance(from_loader(loader, CPU), Streamed)
    assert isinstance(from_loader(loader, CPU, resident=True), list)
    assert isinstance(from_loader(iter(list(loader)), CPU), list), "what can be read once is kept"


@pytest.mark.parametrize("resident", [True, False])
def test_the_risk_over_a_loader_is_that_over_all_its_data(resident):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x, y, model = torch.randn(10, 4).double(), torch.randint(3, (10,)), nn.Linear(4, 3).double()
    loader = DataLoader(TensorDataset(x, y), batch_size=4)  # 4, 4, 2
    whole = Loss(nn.CrossEntropyLoss(), x, y)
    metric = Loss.from_loader(nn.CrossEntropyLoss(), loader, resident=resident)
    with unchanged(model):
        objective = metric.objective(model)
        assert float(risk(objective)) == pytest.approx(float(risk(whole.objective(model))), rel=1e-12)
        assert metric(model) == pytest.approx(whole(model), rel=1e-12)
    summed = Loss.from_loader(nn.CrossEntropyLoss(reduction="sum"), loader, resident=resident)
    assert summed(model) == pytest.approx(10 * whole(model), rel=1e-12)
    assert float(risk(summed.objective(model))) == pytest.approx(10 * whole(model), rel=1e-12)


def test_inputs_that_a_loader_collates_to_a_list_are_positional():
    pairs = [((torch.ones(2), torch.zeros(3)), 1.0)] * 4

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.tensor(2.0))

        def forward(self, a, b):
            return self.w * (a.sum(1) + b.sum(1))

    metric = Loss.from_loader(nn.MSELoss(), DataLoader(pairs, batch_size=2))
    assert metric(Two()) == pytest.approx(9.0)


def test_a_loader_that_changes_its_length_is_noticed():
    class Shrinking:
        rounds = 3

        def __iter__(self):
            self.rounds -= 1
            return iter([(torch.ones(1, 2), torch.ones(1))] * self.rounds)

    streamed = Streamed(Shrinking(), CPU)
    list(streamed)
    with pytest.raises(ValueError, match="yields 1 batches in this pass, 2 before"):
        list(streamed)


ONE = torch.ones(1, 2)
BAD_LOADERS = {
    "no iterable": (3, TypeError, "loader is of type int; pass a DataLoader"),
    "nothing": ([], ValueError, "loader yields no batch"),
    "no items": ([()], ValueError, "batch 0 of the loader: the batch is an empty tuple"),
    "text": (
        [("a", "b", ONE)],
        TypeError,
        "batch 0 of the loader: inputs is of type tuple and holds no tensor",
    ),
    "words": ([(np.array(["a"]), ONE)], TypeError, "an array of dtype <U1, which tensors cannot hold"),
    "lengths": ([(ONE, ONE), (ONE, ONE[:0])], ValueError, "batch 1 of the loader: targets is empty"),
}


@pytest.mark.parametrize("name", BAD_LOADERS)
def test_a_loader_that_gives_no_pairs_is_refused_with_the_reason(name):
    loader, error, message = BAD_LOADERS[name]
    with pytest.raises(error, match=message):
        from_loader(loader, CPU)


BAD_DATA = {
    "empty": (torch.ones(0, 2), torch.ones(0), ValueError, r"inputs is empty \(no samples on axis 0\)"),
    "lengths": (torch.ones(3, 2), torch.ones(4), ValueError, "targets has 4 samples on axis 0, inputs has 3"),
    "array": (np.array([None]), torch.ones(2), TypeError, "an array of dtype object"),
    "number": (torch.ones(2, 2), 1.0, TypeError, "targets is of type float and holds no tensor"),
    "scalar": (torch.ones(2, 2), torch.ones(()), ValueError, "targets has a tensor without axes"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_data_that_is_no_batch_is_refused_with_the_reason(name):
    inputs, targets, error, message = BAD_DATA[name]
    with pytest.raises(error, match=message):
        checked(inputs, targets, CPU)


@pytest.mark.parametrize("device", ["cuda:99", "warp", 1.5])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(
        ValueError, match=rf"device='?{device}'? cannot be used here \(.*\); pass device='cpu'"
    ):
        available(device)
