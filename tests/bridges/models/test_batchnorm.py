"""Claims about BatchNorm policies and dropout."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import vmap

from bridges.metrics import Loss
from lla_func.objective._objective import loss_at, risk
from tests.cases import build
from tests.state import unchanged


def parts(case, *sizes):
    """The metric of a case with its data cut into batches of these sizes."""
    pairs = zip(case.inputs.split(sizes), case.targets.split(sizes), strict=True)
    return Loss.from_loader(case.criterion, list(pairs))


def test_eval_uses_the_running_statistics():
    case = build("resnet")
    objective = case.metric.objective(case.model, batchnorm="eval")
    assert float(risk(objective)) == pytest.approx(case.metric(copy.deepcopy(case.model).eval()), rel=1e-12)
    assert objective.separable
    assert objective.notes["batchnorm"] == "eval"


def test_batch_uses_the_statistics_of_the_batch_and_forbids_cutting_it():
    case = build("resnet")
    with unchanged(case.model):
        objective = case.metric.objective(case.model, batchnorm="batch")
        found = risk(objective)
        vmap(objective.loss, in_dims=(0, None))(objective.theta.expand(2, -1), objective.batches[0])
    assert float(found) == pytest.approx(case.metric(copy.deepcopy(case.model).train()), rel=1e-12)
    assert not objective.separable
    assert objective.notes["batchnorm"] == "batch"


def test_recalibrate_gathers_the_statistics_as_update_bn_does():
    case = build("resnet")
    metric = parts(case, 5, 5)
    with unchanged(case.model):
        objective = metric.objective(case.model, batchnorm="recalibrate")
        thetas = [objective.theta, 1.1 * objective.theta]
        found = [float(risk(objective, theta)) for theta in thetas]
    for theta, loss in zip(thetas, found, strict=True):
        model = copy.deepcopy(case.model)
        torch.nn.utils.vector_to_parameters(theta, model.parameters())
        torch.optim.swa_utils.update_bn([x for x, _ in metric.batches], model)
        assert loss == pytest.approx(metric(model.eval()), rel=1e-12)
    assert objective.notes["batchnorm"] == "recalibrate"


def test_recalibrated_statistics_are_weighted_by_samples():
    x = torch.tensor([[0.0], [2.0], [4.0], [10.0], [16.0]], dtype=torch.float64)
    model = nn.BatchNorm1d(1).double()
    pairs = [(x[:3], torch.zeros(3)), (x[3:], torch.zeros(2))]
    objective = Loss.from_loader(lambda p, y: p.sum(), pairs, reduction="sum").objective(
        model, batchnorm="recalibrate"
    )
    mean, var = (3 * 2.0 + 2 * 13.0) / 5, (3 * 4.0 + 2 * 18.0) / 5
    expected = (x.sum() - 5 * mean) / (var + model.eps) ** 0.5
    assert float(risk(objective)) == pytest.approx(float(expected), rel=1e-12)


def test_recalibrated_loss_may_be_cut_and_differentiated():
    case = build("resnet")
    objective = parts(case, 6, 4).objective(case.model, batchnorm="recalibrate")
    loss = loss_at(objective, objective.theta)
    gradient = torch.func.grad(loss)(objective.theta, objective.batches[0])
    assert objective.separable
    assert gradient.norm() > 0


def test_a_layer_used_twice_is_recalibrated_with_the_mean_over_its_uses():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)

        def forward(self, x):
            return self.norm(x) + self.norm(3 * x + 1)

    x = torch.arange(8.0, dtype=torch.float64).view(4, 2) ** 2
    model = Twice().double()
    objective = Loss(lambda p, y: p.square().mean(), x, torch.zeros(4)).objective(
        model, batchnorm="recalibrate"
    )
    reference = copy.deepcopy(model)
    torch.optim.swa_utils.update_bn([x], reference)
    assert float(risk(objective)) == pytest.approx(reference.eval()(x).square().mean().item(), rel=1e-12)


def test_policies_mean_nothing_without_batchnorm():
    case = build("mlp")
    for policy in ("eval", "batch", "recalibrate"):
        objective = case.metric.objective(case.model, batchnorm=policy)
        assert objective.notes["batchnorm"] == "none"
        assert objective.separable
        assert objective.adapt is None


def test_a_layer_without_running_statistics_forbids_cutting():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False), nn.Linear(4, 2))
    metric = Loss(nn.CrossEntropyLoss(), torch.eye(3).repeat(3, 1), torch.arange(9) % 2, separable=True)
    objective = metric.objective(model)
    assert not objective.separable
    assert objective.notes["batchnorm"] == "eval, batch where a layer has no running statistics"


def test_an_unknown_policy_is_named():
    case = build("mlp")
    with pytest.raises(ValueError, match=r"batchnorm='evil' is not one of 'eval', .*; did you mean 'eval'\?"):
        case.metric.objective(case.model, batchnorm="evil")


def dropout_case():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 50), nn.Dropout(0.5), nn.Linear(50, 3)).double()
        x, y = torch.randn(8, 4).double(), torch.randint(3, (8,))
    return model, Loss(nn.CrossEntropyLoss(), x, y)


def test_dropout_is_off_unless_seeded():
    model, metric = dropout_case()
    assert float(risk(metric.objective(model))) == pytest.approx(
        metric(copy.deepcopy(model).eval()), rel=1e-12
    )
    assert metric.objective(model).notes["dropout"] == "off"
    assert metric.objective(model).separable


def test_seeded_dropout_draws_equal_masks_at_every_point_and_others_for_another_seed():
    model, metric = dropout_case()
    masks = []
    model[1].register_forward_hook(lambda layer, _, out: masks.append(out == 0))
    with unchanged(model):
        objective = metric.objective(model, dropout_seed=3)
        risk(objective)
        risk(objective, 2 * objective.theta)
        risk(metric.objective(model, dropout_seed=4))
    assert 0.3 < masks[0].double().mean() < 0.7
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert not objective.separable
    assert objective.notes["dropout"] == "seed 3"


def test_seeded_dropout_puts_only_layers_that_drop_out_into_training_mode():
    seen = {}
    model = nn.Sequential(
        nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.1), nn.Dropout(0.0), nn.Linear(6, 3)
    )
    for layer in model:
        layer.register_forward_hook(lambda layer, *_: seen.update({layer: layer.training}))
    risk(Loss(nn.CrossEntropyLoss(), torch.ones(6, 4), torch.arange(6) % 3).objective(model, dropout_seed=0))
    assert [seen[layer] for layer in model] == [False, False, True, False, False]


def test_seeded_dropout_changes_nothing_without_layers_that_drop_out():
    case = build("resnet")
    plain, seeded = (case.metric.objective(case.model, dropout_seed=seed) for seed in (None, 0))
    assert torch.equal(risk(plain), risk(seeded))
    assert seeded.notes["dropout"] == "off"
    assert seeded.separable


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (0.5, TypeError), (True, TypeError)])
def test_a_dropout_seed_is_a_whole_number(seed, error):
    case = build("mlp")
    with pytest.raises(error, match=f"dropout_seed={seed}"):
        case.metric.objective(case.model, dropout_seed=seed)


def test_repeating_the_data_leaves_recalibrated_statistics_bit_for_bit():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 1))
        x, y = 3 + torch.randn(7, 4), torch.randn(7, 1)
    once, often = (
        metric.objective(model, batchnorm="recalibrate")
        for metric in (Loss(nn.MSELoss(), x, y), Loss.from_loader(nn.MSELoss(), [(x, y)] * 11))
    )
    for theta in (once.theta, 2 * once.theta):
        assert torch.equal(loss_at(once, theta)(theta, (x, y)), loss_at(often, theta)(theta, (x, y)))
