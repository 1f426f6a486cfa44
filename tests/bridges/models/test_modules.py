"""Claims about borrowing a module: what theta is, what stays constant, and that nothing is left behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from bridges.metrics import Loss, Metric
from tests.cases import DTYPES, build, every_case
from tests.state import differences, snapshot, unchanged

RTOL = {torch.float32: 1e-5, torch.float64: 1e-12}


def naive(model: nn.Module, theta: torch.Tensor, loss) -> float:
    """The loss of a deep copy in evaluation mode whose trainable parameters are overwritten with theta."""
    model = copy.deepcopy(model).eval()
    with torch.no_grad():
        start = 0
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(theta[start : start + parameter.numel()].view_as(parameter))
                start += parameter.numel()
        assert start == len(theta)
        return float(loss(model))


def moved(theta: torch.Tensor, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return theta + 0.1 * torch.randn(count, len(theta), generator=generator, dtype=theta.dtype)


@every_case(dtypes=DTYPES)
def test_the_loss_is_that_of_a_deep_copy_with_these_parameters(name, dtype):
    case = build(name, dtype)
    with unchanged(case.model):
        objective = case.metric.objective(case.model)
        for theta in moved(objective.theta):
            expected = naive(case.model, theta, case.metric)
            with torch.no_grad():
                found = float(objective.loss(theta, objective.batches[0]))
            assert found == pytest.approx(expected, rel=RTOL[dtype])


@pytest.mark.filterwarnings(
    "ignore:There is a performance drop"
)  # older versions map over attention one by one
@every_case()
def test_the_loss_maps_over_thetas_and_has_the_gradient_of_autograd(name, dtype):
    case = build(name, dtype)
    objective = case.metric.objective(case.model)
    (batch,) = objective.batches
    thetas = moved(objective.theta)
    with unchanged(case.model):
        together = vmap(objective.loss, in_dims=(0, None))(thetas, batch)
        gradient = grad(objective.loss)(objective.theta, batch)
    one_by_one = torch.stack([objective.loss(theta, batch) for theta in thetas])
    torch.testing.assert_close(together, one_by_one, rtol=1e-12, atol=1e-12)
    model = copy.deepcopy(case.model).eval()
    loss, _ = case.metric(None, model=model, use_wrapper=False, return_pred=True)
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))])
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


@every_case()
def test_derivatives_leave_the_model_alone(name, dtype):
    case = build(name, dtype)
    objective = case.metric.objective(case.model)
    (batch,) = objective.batches
    direction = torch.ones_like(objective.theta)
    with unchanged(case.model):
        _, back = torch.func.vjp(grad(lambda theta: objective.loss(theta, batch)), objective.theta)
        assert torch.isfinite(back(direction)[0]).all()
        traced = torch.fx.experimental.proxy_tensor.make_fx(objective.loss)(objective.theta, batch)
    torch.testing.assert_close(traced(objective.theta, batch), objective.loss(objective.theta, batch))


def test_frozen_parameters_are_constants_and_not_in_theta():
    case = build("mlp")
    case.model[0].requires_grad_(False)
    objective = case.metric.objective(case.model)
    assert objective.layout.names == ("2.weight", "2.bias")
    (batch,) = objective.batches
    for theta in moved(objective.theta):
        assert float(objective.loss(theta, batch)) == pytest.approx(
            naive(case.model, theta, case.metric), rel=1e-12
        )


def test_training_after_binding_does_not_alter_the_objective():
    case = build("resnet")
    case.model.head.requires_grad_(False)
    objective = case.metric.objective(case.model)
    before = objective.loss(objective.theta, objective.batches[0])
    with torch.no_grad():
        for tensor in [*case.model.parameters(), *case.model.buffers()]:
            tensor.add_(1)
    assert torch.equal(objective.loss(objective.theta, objective.batches[0]), before)


def test_tied_weights_count_once_and_reach_every_place():
    case = build("tied")
    objective = case.metric.objective(case.model)
    assert objective.layout.names == ("embedding.weight", "mix.weight", "mix.bias")
    (batch,) = objective.batches
    with_zeros = objective.theta.clone()
    with_zeros[: 9 * 6] = 0  # without the output layer, all nine tokens are equally likely
    assert float(objective.loss(with_zeros, batch)) == pytest.approx(torch.tensor(9.0).log().item(), rel=1e-6)
    functional = functional_call(
        case.model, objective.layout.unravel(objective.theta + 0.1), (case.inputs,), tie_weights=True
    )
    expected = F.cross_entropy(functional, case.targets)
    torch.testing.assert_close(objective.loss(objective.theta + 0.1, batch), expected)


def test_a_metric_may_use_parts_of_the_model():
    case = build("transformer")

    class Norm(Metric):
        def loss(self, model, batch):
            return model.encoder(model.embedding(batch[0])).square().mean() + model.head.bias.sum()

    metric = Norm(case.inputs, case.targets)
    objective = metric.objective(case.model)
    for theta in moved(objective.theta):
        expected = naive(case.model, theta, lambda m: metric.loss(m, (case.inputs, case.targets)))
        assert float(objective.loss(theta, objective.batches[0])) == pytest.approx(expected, rel=1e-12)


def test_modules_that_the_metric_holds_are_constants_in_evaluation_mode():
    student, teacher = nn.Linear(3, 2).double(), nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).double()
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    class Distil(Metric):
        def __init__(self):
            self.inputs, self.target, self.teacher = x, None, teacher

        def loss(self, model, batch):
            return F.mse_loss(model(batch[0]), self.teacher(batch[0]))

    with unchanged(teacher):
        objective = Distil().objective(student)
        found = objective.loss(objective.theta, objective.batches[0])
    expected = F.mse_loss(student(x), copy.deepcopy(teacher).eval()(x)).detach()
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        teacher[0].weight.zero_()
    assert torch.equal(objective.loss(objective.theta, objective.batches[0]), found)


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with pytest.warns(FutureWarning):
        return nn.utils.weight_norm(layer)


class LastOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 3, num_layers=2, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0][:, -1]


class Remembering(nn.Module):
    """Counts its calls in a buffer and keeps its last activation."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.last = None

    def forward(self, x):
        self.calls += 1
        self.last = self.linear(x)
        self.extra = "new"
        return self.last * self.calls


AWKWARD = {
    "weight_norm": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3))), (6, 4)),
    "spectral_norm": (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(4, 3))), (6, 4)),
    "old weight_norm": (lambda: nn.Sequential(old_weight_norm(nn.Linear(4, 3))), (6, 4)),
    "lstm": (LastOutput, (6, 5, 4)),
    "remembering": (Remembering, (6, 4)),
}


def awkward(name: str) -> tuple[nn.Module, Loss]:
    make, shape = AWKWARD[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().double(), Loss(nn.MSELoss(), torch.randn(shape).double(), torch.randn(6, 3).double())


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_modules_are_evaluated_right_and_left_alone(name):
    model, metric = awkward(name)
    with unchanged(model):
        objective = metric.objective(model)
        thetas = moved(objective.theta)
        found = [float(objective.loss(theta, objective.batches[0])) for theta in thetas]
        again = [float(objective.loss(theta, objective.batches[0])) for theta in thetas]
    assert found == again
    fresh = [awkward(name)[0] for _ in thetas]  # old weight_norm cannot be copied
    for model, theta, loss in zip(fresh, thetas, found, strict=True):
        with torch.no_grad():
            torch.nn.utils.vector_to_parameters(theta, model.parameters())
        assert loss == pytest.approx(metric(model.eval()), rel=1e-12)


@pytest.mark.parametrize("name", AWKWARD)
def test_no_tensor_of_a_transform_stays_in_an_awkward_module(name):
    model, metric = awkward(name)
    objective = metric.objective(model)
    with unchanged(model):
        gradient = grad(objective.loss)(objective.theta, objective.batches[0])
    assert gradient.norm() > 0


def test_a_bag_of_embeddings_with_offsets_works():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.EmbeddingBag(7, 3).double()
    tokens, offsets = torch.tensor([0, 1, 2, 6, 5, 3, 3]), torch.tensor([0, 2, 3])
    metric = Loss(nn.CrossEntropyLoss(), (tokens, offsets), torch.tensor([0, 1, 2]))
    with unchanged(model):
        objective = metric.objective(model)
        found = objective.loss(objective.theta, objective.batches[0])
    torch.testing.assert_close(
        found, F.cross_entropy(model(tokens, offsets), torch.tensor([0, 1, 2])).detach()
    )


class Interrupted(nn.Module):
    """Fails in the middle of its forward pass, after its parts ran."""

    def __init__(self, error: type[BaseException]):
        super().__init__()
        self.parts = build("resnet").model
        self.error = error

    def forward(self, x):
        self.parts(x)
        raise self.error("in the middle")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize(
    "options", [{}, {"batchnorm": "batch"}, {"batchnorm": "recalibrate"}, {"dropout_seed": 1}]
)
def test_the_model_is_left_alone_when_the_pass_fails(error, options):
    case, model = build("resnet"), Interrupted(error)
    model.parts.head.weight.grad = torch.ones_like(model.parts.head.weight)
    model.parts.stem.eval()
    model.parts.shortcut.requires_grad_(False)
    metric = Loss(lambda p, y: p.sum(), case.inputs, case.targets)
    with unchanged(model):
        objective = metric.objective(model, **options)
        with pytest.raises(error, match="in the middle"):
            (objective.adapt or (lambda _: objective.loss))(objective.theta)(
                objective.theta, objective.batches[0]
            )


def test_the_proof_of_state_notices_every_kind_of_change():
    def changes(act) -> list[str]:
        model = build("resnet").model
        before = snapshot(model)
        act(model)
        return differences(before, snapshot(model))

    assert changes(lambda m: None) == []
    assert changes(lambda m: m.stem[1].eval()) == ["training of stem.1"]
    assert changes(lambda m: m.stem[1].running_mean.add_(1)) == ["buffer stem.1.running_mean"]
    assert "parameter head.bias" in changes(lambda m: m.head.bias.data.add_(1))
    assert "parameter head.bias" in changes(lambda m: m.head.bias.requires_grad_(False))
    assert changes(lambda m: m.head(torch.ones(1, 8).double()).sum().backward()) == [
        "grad head.bias",
        "grad head.weight",
    ]
    assert changes(lambda m: setattr(m, "last", torch.ones(1))) == ["last of "]
    state = torch.get_rng_state()
    assert changes(lambda m: torch.rand(1)) == ["rng torch"]
    torch.set_rng_state(state)


def test_random_numbers_inside_the_model_are_equal_at_all_points_and_leave_no_trace():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.w * torch.randn_like(x)

    model = Noisy()
    with unchanged(model):
        objective = Loss(lambda p, y: p.sum(), torch.zeros(5), torch.zeros(5)).objective(model)
        (batch,) = objective.batches
        losses = objective.loss(objective.theta, batch), objective.loss(2 * objective.theta, batch)
    torch.testing.assert_close(2 * losses[0], losses[1])


@pytest.mark.filterwarnings("ignore:.*nested tensors.*:UserWarning")
def test_padded_sequences_have_the_loss_whose_derivatives_are_taken():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    x, padded = torch.randn(3, 5, 8), torch.zeros(3, 5, dtype=torch.bool)
    padded[1, 3:] = True
    inputs = {"src": x, "src_key_padding_mask": padded}
    objective = Loss(nn.MSELoss(), inputs, torch.zeros(3, 5, 8)).objective(encoder)
    (batch,) = objective.batches
    with torch.no_grad():
        plain = objective.loss(objective.theta, batch)
    differentiable = objective.loss(objective.theta.clone().requires_grad_(), batch)
    torch.testing.assert_close(plain, differentiable.detach(), rtol=1e-5, atol=0)
    assert encoder.use_nested_tensor


def test_a_model_altered_after_the_objective_was_made_is_refused():
    case = build("mlp")
    objective = case.metric.objective(case.model)
    del case.model[2].bias
    case.model[2].register_parameter("shift", nn.Parameter(torch.zeros(3).double()))
    with unchanged(case.model), pytest.raises(RuntimeError, match="no 'bias' in Linear any more"):
        objective.loss(objective.theta, objective.batches[0])
