"""Differences between losses have the errors that other data show."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bridges.metrics import Loss
from lla_func import chart, from_loss, risk
from lla_func.assessment import contrast, difference
from lla_func.objective import values
from tests.cases import build, every_case
from tests.state import unchanged


def regression(x, y, *, reduction="mean", batches=None):
    """Linear regression with the losses of its samples."""

    def criterion(outputs, batch):
        losses = (outputs - batch[1]).square()
        return losses.sum() if reduction == "sum" else losses.mean()

    return from_loss(
        lambda w, batch: criterion(batch[0] @ w, batch),
        torch.zeros(x.shape[1], dtype=x.dtype),
        [(x, y)] if batches is None else list(zip(x.split(batches), y.split(batches), strict=True)),
        reduction=reduction,
        outputs=lambda w, batch: batch[0] @ w,
        criterion=criterion,
        per_sample=lambda outputs, batch: (outputs - batch[1]).square(),
    )


def data(generator, count):
    x = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return x, x.sum(1) + torch.randn(count, generator=generator, dtype=torch.float64)


def test_a_contrast_is_the_sum_of_losses_and_its_error_that_of_the_sums_of_samples():
    x, y = data(torch.Generator().manual_seed(0), 50)
    thetas = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    weights = (1.0, -0.3, -0.7)
    for batches in (None, 7):
        objective = regression(x, y, batches=batches)
        found = contrast(objective, thetas, weights)
        each = sum(w * (x @ t - y).square() for w, t in zip(weights, thetas, strict=True))
        assert found.value == pytest.approx(
            sum(w * float(risk(objective, t)) for w, t in zip(weights, thetas, strict=True))
        )
        assert found.value == pytest.approx(float(each.mean()))
        assert found.data_error == pytest.approx(float(each.std() / 50**0.5))
        assert found.error == 0.0


def test_the_error_is_the_spread_that_other_data_show_and_far_smaller_than_unpaired():
    generator = torch.Generator().manual_seed(0)
    pair = torch.tensor([[1.0, 1.0, 1.0], [1.05, 1.0, 1.0]], dtype=torch.float64)
    found = [contrast(regression(*data(generator, 200)), pair, (1, -1)) for _ in range(300)]
    spread = torch.tensor([each.value for each in found]).std()
    assert float(spread) == pytest.approx(sum(each.data_error for each in found) / 300, rel=0.1)
    objective = regression(*data(generator, 200))
    unpaired = sum(float(values(objective, t, errors=True).errors["loss"]) ** 2 for t in pair) ** 0.5
    assert found[0].data_error < unpaired / 5


def test_a_sum_has_the_error_of_a_sum():
    x, y = data(torch.Generator().manual_seed(0), 40)
    pair = torch.eye(3, dtype=torch.float64)[:2]
    mean, total = (contrast(regression(x, y, reduction=how), pair, (1, -1)) for how in ("mean", "sum"))
    assert total.value == pytest.approx(40 * mean.value)
    assert total.data_error == pytest.approx(40 * mean.data_error)


@every_case(dtypes=(torch.float32, torch.float64))
def test_differences_are_those_of_the_losses_for_any_model(name, dtype):
    case = build(name, dtype)
    objective = case.metric.objective(case.model)
    if objective.per_sample is None:
        pytest.skip("its criterion is not known")
    plane = chart.line(objective.theta, objective.theta)
    with unchanged(case.model):
        found = difference(objective, plane, [0.1], [0.0])
    expected = risk(objective, 1.1 * objective.theta) - risk(objective)
    rounding = 4 * torch.finfo(dtype).eps * float(risk(objective))  # of losses, whose difference is small
    assert found.value == pytest.approx(float(expected), rel=1e-9, abs=rounding)
    assert found.data_error > 0


def test_recalibrated_batchnorm_is_recalibrated_at_each_point():
    case = build("resnet")
    objective = case.metric.objective(case.model, batchnorm="recalibrate")
    thetas = torch.stack([objective.theta, 1.2 * objective.theta])
    found = contrast(objective, thetas, (1, -1))
    assert found.value == pytest.approx(
        float(risk(objective, thetas[0]) - risk(objective, thetas[1])), rel=1e-6
    )


def test_class_weights_and_ignored_labels_weigh_samples():
    torch.manual_seed(0)
    x, y = torch.randn(30, 4).double(), torch.randint(3, (30,))
    criterion = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 5.0, 0.2]).double(), ignore_index=2)
    objective = Loss(criterion, x, y).objective(nn.Linear(4, 3).double())
    thetas = torch.stack([objective.theta, 0.5 * objective.theta])
    expected = risk(objective, thetas[0]) - risk(objective, thetas[1])
    assert contrast(objective, thetas, (1, -1)).value == pytest.approx(float(expected))


def test_one_sample_has_no_error():
    x, y = data(torch.Generator().manual_seed(0), 1)
    assert contrast(regression(x, y), torch.eye(3).double()[:2], (1, -1)).data_error is None


@pytest.mark.parametrize(
    ("thetas", "weights", "message"),
    [
        ([], [], "thetas is empty"),
        (torch.zeros(2, 3), [1.0], r"weights has shape \[1\]"),
        (torch.zeros(2, 3), [1.0, float("nan")], "weights"),
        (torch.zeros(2, 4), [1.0, -1.0], r"thetas\[0\] has shape \[4\]"),
        ([torch.zeros(3), torch.full((3,), float("inf"))], [1.0, -1.0], r"thetas\[1\]"),
        ([3, 4], [1.0, -1.0], r"thetas\[0\]"),
    ],
)
def test_what_does_not_fit_is_named(thetas, weights, message):
    objective = regression(*data(torch.Generator().manual_seed(0), 5))
    with pytest.raises((TypeError, ValueError), match=message):
        contrast(objective, thetas, weights)


def test_an_objective_without_losses_of_samples_is_refused_with_the_way_out():
    objective = from_loss(lambda w, batch: w.square().sum(), torch.zeros(2))
    with pytest.raises(ValueError, match="no losses of single samples.*per_sample="):
        contrast(objective, torch.zeros(2, 2), (1, -1))
