"""Claims about the fit of curves: what its gradients are, what an epoch goes over, and how it is interrupted."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from lla_func.connectivity._fit import fit, schedule, start
from lla_func.connectivity._gradients import along_curve, value_and_gradient
from lla_func.connectivity._minibatches import USUAL, count, minibatches, size_of
from lla_func.geometry import CURVES, chart
from lla_func.objective._objective import from_loss, risk, samples, weigh
from lla_func.options import Connection
from tests.cases import every_case, objective
from tests.dense import Streaming, draw, network

OPTIMIZERS = {
    "adam": None,
    "sgd": partial(torch.optim.SGD, momentum=0.9),
    "lbfgs": partial(torch.optim.LBFGS, max_iter=3, history_size=4),
    "adamw": partial(torch.optim.AdamW, weight_decay=0.1, amsgrad=True),
}


class Stopped(Exception):  # noqa: N818
    """What interrupts a fit."""


def stopping(kept, stop, state):
    """Keeps the state after some steps, and stops."""
    if state.step == stop:
        kept.append(state)
        raise Stopped


@pytest.mark.parametrize("kind", CURVES)
def test_in_the_mean_over_t_the_gradient_is_that_of_the_mean_loss_on_the_curve(kind):
    asked = network(sizes=(9,))
    (batch,) = asked.batches
    points = asked.theta + draw(4, len(asked.theta), seed=5)
    places = torch.linspace(0, 1, 13, dtype=torch.float64)
    leaf = points.clone().requires_grad_()
    thetas = CURVES[kind](leaf).coefficients(places[:, None]) @ leaf
    mean = torch.stack([asked.loss(theta, batch) for theta in thetas]).mean()
    (expected,) = torch.autograd.grad(mean, leaf)
    pulls = [along_curve(asked, CURVES[kind](points), batch, float(t)) for t in places]
    torch.testing.assert_close(torch.stack([p.gradient for p in pulls]).mean(0), expected[1:-1])
    assert sum(p.loss for p in pulls) / len(pulls) == pytest.approx(float(mean.detach()), rel=1e-12)


@every_case(dtypes=(torch.float64, torch.float32))
def test_gradients_in_named_tensors_are_those_of_the_flat_loss(name, dtype):
    asked = objective(name, dtype)
    batch = next(iter(asked.batches))
    loss, gradient = value_and_gradient(asked, asked.theta, batch)
    theta = asked.theta.clone().requires_grad_()
    expected = torch.autograd.grad(asked.loss(theta, batch), theta)[0]
    torch.testing.assert_close(gradient, expected)
    assert loss == pytest.approx(float(asked.loss(asked.theta, batch)), rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("size", [None, 1, 4, 100])
def test_the_mean_over_an_epoch_of_steps_is_the_risk(reduction, size):
    asked = network(sizes=(7, 3, 12), reduction=reduction)
    counted = count(asked, size)
    found = list(minibatches(asked, size, torch.Generator().manual_seed(0)))
    assert len(found) == counted.steps
    shares = [weigh(asked, batch) / counted.mean_weight for batch in found]
    losses = [
        share * float(asked.loss(asked.theta, batch)) for share, batch in zip(shares, found, strict=True)
    ]
    total = sum(losses) / (len(losses) if reduction == "mean" else 1)
    assert total == pytest.approx(float(risk(asked)), rel=1e-12)


def test_an_epoch_shows_each_sample_once_in_an_order_of_its_own():
    data = [torch.arange(10.0), torch.arange(10.0, 17.0)]
    asked = from_loss(lambda theta, x: (theta * x.mean()).sum(), torch.ones(2), data)
    orders = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        seen = torch.cat(list(minibatches(asked, 3, generator)))
        assert sorted(seen.tolist()) == list(range(17))
        orders.append(seen.tolist())
    assert len({*map(tuple, orders)}) == 3


def test_what_was_seen_before_is_skipped_and_the_rest_is_the_same():
    asked = network(sizes=(7, 3, 12))
    whole = list(minibatches(asked, 4, torch.Generator().manual_seed(3)))
    for skip in range(len(whole) + 1):
        rest = list(minibatches(asked, 4, torch.Generator().manual_seed(3), skip=skip))
        assert len(rest) == len(whole) - skip
        for (x, y), (a, b) in zip(rest, whole[skip:], strict=True):
            assert torch.equal(x, a)
            assert torch.equal(y, b)


def test_data_in_one_batch_are_cut_and_those_of_a_loader_taken_as_they_come():
    assert size_of(network(sizes=(500,)), None) == USUAL
    assert size_of(network(sizes=(500, 3)), None) is None
    assert size_of(network(sizes=(500, 3)), 7) == 7
    streamed = network()._replace(batches=Streaming(network().batches))
    assert [samples(b) for b in minibatches(streamed, None, torch.Generator())] == [7, 3, 12]


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["bezier", "chain", "band"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_fit_that_goes_on_ends_with_the_bits_of_one_that_was_not_interrupted(name, kind, stream):
    asked = network(sizes=(7, 3, 12))
    if stream:
        asked = asked._replace(batches=Streaming(asked.batches))
    options = Connection(
        kind=kind, bends=2, epochs=3, optimizer=OPTIMIZERS[name], lr=0.02, batch_size=4, seed=6
    )
    ends = asked.theta, asked.theta + draw(len(asked.theta), seed=8)
    points = start(*ends, 2)
    whole = fit(asked, points, options)
    assert whole.step == 3 * 6
    assert torch.equal(whole.points[[0, -1]], points[[0, -1]])
    assert not torch.equal(whole.points, points)
    for stop in (1, 6, 11, 17):
        kept = []
        with pytest.raises(Stopped):
            fit(asked, points, options, after_step=partial(stopping, kept, stop))
        again = fit(asked, points, options, resumed=kept[0])
        assert torch.equal(again.points, whole.points)
        assert torch.equal(again.losses, whole.losses)


def test_the_learning_rate_is_kept_and_then_falls_to_a_hundredth():
    assert [schedule(x) for x in (0.0, 0.3, 0.5)] == [1, 1, 1]
    assert schedule(0.7) == pytest.approx(0.505)
    assert schedule(0.9) == pytest.approx(0.01)
    assert schedule(1.0) == 0.01


def test_control_points_start_evenly_on_the_straight_line():
    first, last = draw(2, 6)
    found = start(first, last, 3)
    torch.testing.assert_close(
        found, chart.point(CURVES["chain"](found[[0, -1]]), torch.linspace(0, 1, 5)[:, None])
    )
    assert torch.equal(found[[0, -1]], torch.stack([first, last]))


def test_a_batch_without_weight_makes_no_step():
    def loss(theta, batch):
        return (theta.square() * batch[1].sum()).sum() / batch[1].sum()

    data = [(torch.ones(2), torch.tensor([1.0, 1.0])), (torch.ones(2), torch.zeros(2))]
    asked = from_loss(loss, torch.ones(2), data, weight=lambda batch: batch[1].sum())
    state = fit(asked, start(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 1.0]), 1), Connection(epochs=4))
    assert int(state.losses.isnan().sum()) == 4
    assert bool(state.points.isfinite().all())
