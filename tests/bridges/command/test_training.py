"""Training: it learns, repeats bit for bit, and leaves the caller's random states and modes alone."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from torch import nn

from bridges.command import _training as training
from bridges.loaders import mlp
from bridges.metrics import Loss


def clouds(*, dropout: float = 0.0):
    """A small network and two clouds of points that it can tell apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(64) % 2
    points = torch.randn(64, 3, generator=generator) + 2 * labels.unsqueeze(1)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    data = torch.utils.data.TensorDataset(points, labels)
    batches = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True)
    return model, Loss(nn.CrossEntropyLoss(), points, labels), batches


def trained(**options):
    model, metric, batches = clouds(dropout=0.2)
    history = training.train(model, metric, batches, epochs=3, **options)
    return torch.cat([p.detach().flatten() for p in model.parameters()]), history


def test_the_loss_falls_and_the_accuracy_rises():
    model, metric, batches = clouds()
    history = training.train(model, metric, batches, epochs=20, lr=0.02)
    assert [epoch.epoch for epoch in history] == list(range(20))
    assert history[-1].loss < 0.5 * history[0].loss
    assert history[-1].accuracy > 0.9


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_seed_others():
    first, second, third = (trained(seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_held_out_data_and_landscapes_between_epochs_change_no_weight():
    plain, _ = trained(seed=1)
    watched, _ = trained(seed=1, held_out=clouds()[2], after_epoch=lambda _: torch.rand(5))
    assert torch.equal(plain, watched)


def test_global_random_states_stay_where_they_are():
    model, metric, batches = clouds(dropout=0.2)
    before = (torch.get_rng_state(), np.random.get_state()[1], random.getstate())  # noqa: NPY002
    training.train(model, metric, batches, held_out=batches)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert random.getstate() == before[2]


def test_the_recorded_loss_is_the_mean_over_samples_not_over_batches():
    model, metric, _ = clouds()
    inputs, targets = metric.inputs, metric.target
    uneven = [(inputs[:60], targets[:60]), (inputs[60:], targets[60:])]
    loss, accuracy = training.score(model, metric, uneven)
    whole, predictions = metric(None, model=model, use_wrapper=False, return_pred=True)
    assert loss == pytest.approx(whole.item(), rel=1e-6)
    assert accuracy == pytest.approx((predictions.argmax(1) == targets).float().mean().item(), rel=1e-6)


def test_scoring_is_in_eval_mode_and_gives_each_module_its_mode_back():
    model, metric, batches = clouds(dropout=0.9)
    model.train()
    model[2].eval()
    once, again = (training.score(model, metric, list(batches))[0] for _ in range(2))
    assert once == pytest.approx(again, rel=1e-6)
    assert [module.training for module in model.modules()] == [True, True, True, False, True]


def test_a_cosine_schedule_starts_at_the_rate_and_ends_near_zero():
    model, metric, batches = clouds()
    optimizer, rates = torch.optim.Adam(model.parameters(), lr=0.1), []
    training.train(
        model,
        metric,
        batches,
        epochs=4,
        optimizer=optimizer,
        schedule="cosine",
        after_epoch=lambda _: rates.append(optimizer.param_groups[0]["lr"]),
    )
    assert rates == pytest.approx([0.1, 0.1 * (2 + 2**0.5) / 4, 0.05, 0.1 * (2 - 2**0.5) / 4])


def test_regression_has_a_loss_and_no_accuracy():
    x = torch.linspace(-1, 1, 20).unsqueeze(1)
    model, metric = nn.Linear(1, 1), Loss(nn.MSELoss(), x, 3 * x)
    history = training.train(model, metric, [(x, 3 * x)], epochs=60, lr=0.1, held_out=[(x, 3 * x)])
    assert history[-1].held_out_loss < 0.1
    assert history[-1].accuracy is None
    assert history[-1].held_out_accuracy is None


def test_the_log_has_one_json_line_an_epoch(tmp_path):
    model, metric, batches = clouds()
    (tmp_path / "log.jsonl").write_text("of an earlier run\n")
    history = training.train(
        model, metric, batches, epochs=2, after_epoch=training.log(tmp_path / "log.jsonl")
    )
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert records == [epoch._asdict() for epoch in history]


def test_a_diverging_loss_stops_training_and_says_so():
    x = torch.ones(4, 1)
    model, metric = nn.Linear(1, 1), Loss(nn.MSELoss(), x, torch.full((4, 1), float("inf")))
    with pytest.raises(ValueError, match="the loss is inf at batch 0; lower the learning rate"):
        training.train(model, metric, [(x, torch.full((4, 1), float("inf")))])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs=0 is too small"),
        ({"lr": -1.0}, "lr=-1.0 is not allowed"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"seed": -1}, "seed=-1 is too small"),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        training.train(*clouds(), **options)


def test_batches_that_end_for_good_are_refused_before_the_first_step():
    model, metric, batches = clouds()
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="only once"):
        training.train(model, metric, iter(batches), epochs=2)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_no_batches_are_an_error():
    model, metric, _ = clouds()
    with pytest.raises(ValueError, match="batches is empty"):
        training.train(model, metric, [])


def test_the_mlp_learns_digits_in_a_few_epochs():
    model = mlp.ModelInit(weight_path=None)
    batches = mlp.CustomLoader(batch_size=64, shuffle=True, split="train")
    held_out = mlp.CustomLoader(split="test")
    history = training.train(
        model, mlp.CustomLoss(*next(iter(batches))), batches, epochs=5, held_out=held_out
    )
    assert history[-1].held_out_accuracy > 0.9
