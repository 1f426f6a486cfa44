"""Metrics beside a loss: what users pass, per-sample losses of every criterion, and the ready-made ones."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bridges.metrics import (
    ExpectedReturn,
    GradientNorm,
    Loss,
    Pipeline,
    accuracy,
    class_accuracy,
    class_losses,
    metric_of,
)
from bridges.metrics._per_sample import per_sample_of
from bridges.metrics._reduction import MODULES
from lla_func import chart, evaluate, risk
from lla_func.objective import mean_and_error, moments, values
from tests.cases import build, every_case
from tests.state import unchanged

SAMPLES = 12


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def classifier():
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    return model, torch.randn(SAMPLES, 4, dtype=torch.float64), torch.randint(3, (SAMPLES,))


def mean(found):
    return mean_and_error(moments(found.values, found.weights))[0]


def criteria():
    """Each known criterion with predictions and targets that suit it."""
    logits, labels = torch.randn(SAMPLES, 3).double(), torch.randint(3, (SAMPLES,))
    numbers = torch.randn(SAMPLES, 3).double()
    for module in MODULES:
        targets = labels if module in (nn.CrossEntropyLoss, nn.NLLLoss) else numbers.sign()
        prediction = logits
        if module in (nn.BCELoss, nn.BCEWithLogitsLoss, nn.MultiLabelSoftMarginLoss):
            targets = (numbers > 0).double()
        if module is nn.BCELoss:
            prediction = logits.sigmoid()
        if module is nn.KLDivLoss:
            prediction, targets = logits.log_softmax(1), numbers.softmax(1)
        for reduction in ("batchmean" if module is nn.KLDivLoss else "mean", "sum"):
            yield module(reduction=reduction), prediction, targets
    classes = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    yield nn.CrossEntropyLoss(weight=classes, ignore_index=1, label_smoothing=0.1), logits, labels
    yield nn.CrossEntropyLoss(), logits, numbers.softmax(1)
    yield nn.CrossEntropyLoss(weight=classes), logits, numbers.softmax(1)
    tokens, ids = torch.randn(SAMPLES, 3, 5).double(), torch.randint(3, (SAMPLES, 5))
    yield nn.CrossEntropyLoss(ignore_index=2), tokens, ids
    yield nn.BCEWithLogitsLoss(pos_weight=classes), logits, (numbers > 0).double()
    yield F.cross_entropy, logits, labels
    yield functools.partial(F.cross_entropy, ignore_index=0, label_smoothing=0.2), logits, labels
    yield F.mse_loss, logits, numbers


def test_the_weighted_mean_of_the_losses_of_samples_is_the_loss_for_every_known_criterion():
    count = 0
    for criterion, prediction, targets in criteria():
        losses, weights = per_sample_of(criterion)(prediction, targets)
        assert losses.shape == (len(prediction),)
        weights = torch.ones_like(losses) if weights is None else weights
        total = (losses * weights).sum()
        summed = getattr(criterion, "reduction", "mean") == "sum"
        torch.testing.assert_close(
            total if summed else total / weights.sum(), criterion(prediction, targets), msg=str(criterion)
        )
        count += 1
    assert count == 2 * len(MODULES) + 8


def test_losses_of_samples_of_criteria_that_nobody_knows_are_not_guessed():
    assert per_sample_of(lambda p, y: (p - y).square().mean()) is None
    assert per_sample_of(nn.BCEWithLogitsLoss(weight=torch.ones(SAMPLES, 1))) is None
    model, x, y = classifier()
    metric = Loss(lambda p, y: F.cross_entropy(p, y), x, y)
    with pytest.raises(ValueError, match="errors=True needs the losses of single samples"):
        values(metric.objective(model), errors=True)
    told = Loss(metric.criterion, x, y, per_sample=lambda p, y: F.cross_entropy(p, y, reduction="none"))
    known = Loss(nn.CrossEntropyLoss(), x, y)
    errors = [values(each.objective(model), errors=True).errors["loss"] for each in (told, known)]
    torch.testing.assert_close(*errors)


@every_case(dtypes=(torch.float32, torch.float64))
def test_errors_and_metrics_leave_the_loss_and_the_model_as_they_are(name, dtype):
    case = build(name, dtype)
    with unchanged(case.model):
        objective = case.metric.objective(
            case.model, metrics={"mean": lambda p, y: p.reshape(len(p), -1).mean(1)}
        )
        known = objective.per_sample is not None
        found = values(objective, errors=known)
        direction = torch.ones_like(objective.theta) / len(objective.theta)
        land = evaluate(objective, chart.line(objective.theta, direction), torch.linspace(-1, 1, 20)[:, None])
    torch.testing.assert_close(found.loss, risk(case.metric.objective(case.model)), rtol=1e-6, atol=1e-9)
    assert not known or float(found.errors["loss"]) > 0
    assert land.metrics["mean"].shape == (20,)
    assert land.diagnostics["fallback"] is None


@pytest.mark.parametrize("batchnorm", ["eval", "batch", "recalibrate"])
def test_metrics_follow_the_policy_for_batchnorm(batchnorm):
    case = build("resnet")
    metric = Loss(
        case.criterion,
        case.inputs,
        case.targets,
        metrics={"right": accuracy, "each": class_losses},
    )
    objective = metric.objective(case.model, batchnorm=batchnorm)
    found = values(objective, 1.1 * objective.theta)
    plain = objective._replace(metrics={}, per_sample=None)
    torch.testing.assert_close(found.loss, risk(plain, 1.1 * objective.theta))
    shares = torch.bincount(case.targets, minlength=3) / len(case.targets)
    each = found.metrics["each"].nan_to_num()
    torch.testing.assert_close((shares * each).sum(), found.loss, rtol=1e-6, atol=0)


def test_accuracies_are_those_of_a_plain_count():
    model, x, y = classifier()
    predictions = model(x).detach()
    right = predictions.argmax(1) == y
    assert float(mean(accuracy(predictions, y))) == pytest.approx(float(right.double().mean()))
    each = mean(class_accuracy(predictions, y))
    for k in range(3):
        assert float(each[k]) == pytest.approx(float(right[y == k].double().mean()))
    soft = F.one_hot(y, 3).double()
    assert torch.equal(accuracy(predictions, soft).values, accuracy(predictions, y).values)
    two = torch.tensor([[0.3], [-2.0]])
    assert accuracy(two, torch.tensor([1, 1])).values.tolist() == [1.0, 0.0]
    assert accuracy(two, torch.tensor([[1.0], [0.0]])).values.tolist() == [1.0, 1.0]
    assert accuracy(two[:, 0], torch.tensor([0.0, 0.0])).values.tolist() == [0.0, 1.0]
    pixels = torch.zeros(2, 3, 4)
    pixels[:, 1] = 1.0
    labels = torch.tensor([[1, 1, 0, 0], [-100, -100, -100, 1]])
    assert float(mean(accuracy(pixels, labels))) == pytest.approx(3 / 5)
    with pytest.raises(ValueError, match="logits"):
        class_accuracy(pixels, labels)


def test_a_class_without_samples_has_no_number():
    found = mean(class_losses(torch.zeros(2, 3), torch.tensor([0, 1])))
    assert found.isnan().tolist() == [False, False, True]


def test_a_metric_sees_the_same_predictions_though_another_writes_into_them():
    model, x, y = classifier()

    def vandal(predictions, targets):
        return predictions.mul_(0).sum(1)

    metrics = {"vandal": vandal, "accuracy": accuracy}
    objective = Loss(nn.CrossEntropyLoss(), x, y, metrics=metrics).objective(model)
    with pytest.warns(RuntimeWarning, match="writes into its data"):
        found = values(objective)
    assert float(found.metrics["accuracy"]) == pytest.approx(float(mean(accuracy(model(x), y))))


def test_an_accumulating_metric_is_copied_and_fed_with_targets():
    torchmetrics = pytest.importorskip("torchmetrics")
    model, x, y = classifier()
    theirs = torchmetrics.Accuracy(task="multiclass", num_classes=3)
    auroc = torchmetrics.AUROC(task="multiclass", num_classes=3)
    loader = list(zip(x.split(5), y.split(5), strict=True))
    metric = Loss.from_loader(
        nn.CrossEntropyLoss(), loader, metrics={"theirs": theirs, "ours": accuracy, "auroc": auroc}
    )
    objective = metric.objective(model)
    land = evaluate(
        objective, chart.line(objective.theta, objective.theta), torch.linspace(-2, 1, 7)[:, None]
    )
    torch.testing.assert_close(land.metrics["theirs"], land.metrics["ours"], rtol=1e-6, atol=1e-7)
    assert theirs.update_called is False
    fresh = copy.deepcopy(auroc)
    assert float(land.metrics["auroc"][4]) == pytest.approx(float(fresh(model(x).detach(), y)))
    both = torchmetrics.MetricCollection([theirs])
    with pytest.raises(TypeError, match="by name"):
        values(Loss(nn.CrossEntropyLoss(), x, y, metrics={"both": both}).objective(model))


def test_the_gradient_norm_is_that_of_autograd():
    model, x, y = classifier()
    loader = list(zip(x.split(5), y.split(5), strict=True))
    loss = Loss.from_loader(nn.CrossEntropyLoss(), loader)
    objective = Loss(nn.CrossEntropyLoss(), x, y, metrics={"gradient": GradientNorm(loss)}).objective(model)
    land = evaluate(objective, chart.line(objective.theta, objective.theta), torch.tensor([[0.0], [0.5]]))
    nn.CrossEntropyLoss()(model(x), y).backward()
    norm = torch.cat([p.grad.reshape(-1) for p in model.parameters()]).norm()
    torch.testing.assert_close(land.metrics["gradient"][0], norm)
    assert "gradient" not in land.errors


def test_a_pipeline_gives_all_values_and_is_a_loss_with_metrics():
    model, x, y = classifier()
    parts = [Loss(nn.CrossEntropyLoss(), x[:n], y[:n]) for n in (12, 7)]
    size = metric_of(lambda model: sum(p.square().sum() for p in model.parameters()))
    pipeline = Pipeline([*parts, size])
    found = tuple(torch.as_tensor(value).item() for value in pipeline(model))
    assert found == pytest.approx((parts[0](model), parts[1](model), float(size(model).detach())))
    here = values(pipeline.objective(model))
    assert [float(here.loss), *map(float, here.metrics.values())] == pytest.approx(found)
    assert list(here.metrics) == ["metric 2", "metric 3"]


class Corridor:
    """The farther a policy walks within 10 steps of noisy size, the higher its return."""

    def __init__(self):
        self.resets = []

    def reset(self, seed=None):
        self.resets.append(seed)
        self.noise = torch.Generator().manual_seed(seed)
        self.left = 10
        return torch.ones(1).numpy(), {}

    def step(self, action):
        self.left -= 1
        reward = float(action) * float(torch.rand(1, generator=self.noise))
        return torch.ones(1).numpy(), reward, self.left == 0, False, {}


def test_expected_returns_meet_the_same_episodes_at_all_points():
    environment = Corridor()
    metric = ExpectedReturn(environment, episodes=6, seed=3, policy=lambda output: output.item())
    model = nn.Linear(1, 1, bias=False)
    objective = metric.objective(model)
    land = evaluate(
        objective, chart.line(objective.theta, objective.theta), torch.tensor([[0.0], [1.0]]), errors=True
    )
    assert set(environment.resets) == set(range(3, 9))
    torch.testing.assert_close(land.losses[1], 2 * land.losses[0])
    torch.testing.assert_close(land.errors["loss"][1], 2 * land.errors["loss"][0])
    assert float(land.errors["loss"][0]) > 0


def test_a_policy_balances_a_pole_of_gymnasium():
    pytest.importorskip("gymnasium")
    model = nn.Linear(4, 2, bias=False)
    nn.init.zeros_(model.weight)
    model.weight.data[1] = torch.tensor([0.0, 0.5, 5.0, 1.0])
    loss = metric_of(lambda model: model.weight.square().sum())
    metrics = {"return": ExpectedReturn("CartPole-v1", episodes=3)}
    objective = loss.objective(model, metrics=metrics)
    land = evaluate(objective, chart.line(objective.theta, -objective.theta), torch.tensor([[0.0], [2.0]]))
    assert float(land.metrics["return"][0]) > 195 > float(land.metrics["return"][1])
    assert land.errors["return"].isfinite().all()
    drawn = ExpectedReturn("CartPole-v1", episodes=3, draws=True).objective(model)
    assert torch.equal(risk(drawn), risk(drawn))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, y: Loss(nn.CrossEntropyLoss(), x, y, metrics=[accuracy]), "metrics"),
        (lambda x, y: Loss(nn.CrossEntropyLoss(), x, y, per_sample=3), "per_sample=3 cannot be called"),
        (lambda x, y: GradientNorm(nn.CrossEntropyLoss()), r"no objective\(model\)"),
        (lambda x, y: Pipeline([]), "metrics is empty"),
        (lambda x, y: Pipeline(3), "metrics is of type int"),
        (lambda x, y: Pipeline([3]), r"metrics\['metric 1'\] is of type int"),
        (lambda x, y: ExpectedReturn(3), "environment is of type int"),
        (lambda x, y: ExpectedReturn(Corridor(), episodes=0), "episodes"),
        (lambda x, y: ExpectedReturn(Corridor(), draws=True), "discrete"),
        (lambda x, y: ExpectedReturn(Corridor(), policy=3), "policy=3 cannot be called"),
    ],
)
def test_what_is_no_metric_is_named_when_it_is_passed(make, message):
    _, x, y = classifier()
    with pytest.raises((TypeError, ValueError), match=message):
        make(x, y)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (3, r"metrics\['a'\]=3 is no metric"),
        (Loss, r"metrics\['a'\] is the class Loss"),
        (lambda p, y: None, "metric 'a' gives NoneType"),
        (lambda p, y: p[:, :, None], r"metric 'a' gives shape"),
    ],
)
def test_what_is_no_metric_is_named_when_it_is_used(metric, message):
    model, x, y = classifier()
    with pytest.raises((TypeError, ValueError), match=message):
        values(Loss(nn.CrossEntropyLoss(), x, y, metrics={"a": metric}).objective(model))


def test_metrics_of_a_loss_that_holds_its_own_data_are_refused_with_the_way_out():
    model, _, _ = classifier()
    objective = metric_of(lambda model: model.weight.square().sum()).objective(
        model[0], metrics={"a": accuracy}
    )
    with pytest.raises(ValueError, match="does not split into outputs"):
        values(objective)
