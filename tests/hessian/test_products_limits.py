"""Where products end: operations without derivatives, losses that are no functions, and bad input; each says why."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bridges.metrics import Loss
from lla_func import products
from lla_func._torch._differentiable import differentiable
from lla_func.hessian._kernels import KERNELS
from lla_func.objective._objective import from_loss
from tests.dense import QUICK, draw, labels, matrix, network, off


def of_model(model, x, criterion=lambda o: o.square().mean()):
    model = model.double()
    named = {name: p.detach() for name, p in model.named_parameters()}
    return from_loss(lambda p, b: criterion(torch.func.functional_call(model, p, (b,))), named, [x])


def test_attention_is_differentiated_by_matrix_products_in_evaluation_mode_too():
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=8, batch_first=True).eval()
    made = of_model(layer, draw(2, 3, 8))
    reference = products.hessian(made, **QUICK)
    v = draw(reference.dim)
    for kernel in KERNELS:
        assert off(products.hessian(made, kernel=kernel).matvec(v), reference.matvec(v)) < 1e-9
        split = made._replace(outputs=made.loss, criterion=lambda o, b: o.square())
        split = split._replace(loss=lambda t, b: made.loss(t, b).square())
        with differentiable():
            slope = torch.autograd.functional.jacobian(lambda t: made.loss(t, made.batches[0]), made.theta)
        assert off(products.ggn(split, kernel=kernel).matvec(v), 2 * slope * (slope @ v)) < 1e-9
    assert off(products.finite_difference(made).matvec(v), reference.matvec(v)) < 1e-6
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_second_derivative_that_is_missing_is_named_with_the_way_out():
    made = of_model(nn.EmbeddingBag(5, 3, mode="sum"), torch.tensor([[0, 1], [2, 4]]))
    for kernel in ("auto", *KERNELS):
        with pytest.raises(RuntimeError, match=r"hessian stopped at _embedding_bag.*finite_difference"):
            products.hessian(made, kernel=kernel)
    diagonal = matrix(products.finite_difference(made)).diagonal()
    assert float(diagonal.max()) > 0


def test_a_split_that_gives_another_loss_is_refused_down_to_rounding():
    made = network()

    def off_by(factor):
        return made._replace(criterion=lambda o, b: factor * made.criterion(o, b))

    products.ggn(off_by(1 + 1e-11), **QUICK)
    for factor in (1 + 1e-6, 1 - 1e-6):
        with pytest.raises(ValueError, match="they must be the same"):
            products.ggn(off_by(factor), **QUICK)


OLD = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 9)


@pytest.mark.skipif(OLD, reason="older torch has no second derivative of cdist at all")
def test_without_a_forward_rule_vjp_is_named_as_the_way_out_and_auto_takes_it():
    made = of_model(nn.Linear(3, 2), draw(5, 3), lambda o: torch.cdist(o, o + 1.0, p=3.0).sum())
    with pytest.raises(RuntimeError, match=r"_cdist_forward.*no forward-mode derivative.*kernel='vjp'"):
        products.hessian(made, kernel="recompute")
    assert products.hessian(made).name == "hessian (vjp)"


class Square(torch.autograd.Function):
    """x**2 in the old style, that forward mode cannot take."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, slope):
        return 2 * slope * ctx.saved_tensors[0]


class SquareOnce(Square):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return 2 * slope * ctx.saved_tensors[0]


class StraightThrough(torch.autograd.Function):
    """Says that the derivative of x y is y, 0: the gradient of nothing."""

    @staticmethod
    def forward(ctx, x, y):
        ctx.save_for_backward(y)
        return x * y

    @staticmethod
    def backward(ctx, slope):
        return slope * ctx.saved_tensors[0], None


def test_custom_functions_go_by_vjp_unless_they_are_differentiable_once_only():
    made = from_loss(lambda t, b: Square.apply(t).sum(), draw(3))
    assert products.hessian(made).name == "hessian (vjp)"
    assert off(matrix(products.hessian(made)), 2 * torch.eye(3, dtype=torch.float64)) < 1e-15
    with pytest.raises(RuntimeError, match=r"custom autograd.Function.*setup_context.*kernel='vjp'"):
        products.hessian(made, kernel="linearize")
    once = from_loss(lambda t, b: SquareOnce.apply(t).sum() + t.square().sum(), draw(3))
    once = once._replace(outputs=lambda t, b: SquareOnce.apply(t) + t, criterion=lambda o, b: o.sum())
    for make in (products.hessian, products.ggn):
        with pytest.raises(RuntimeError, match=r"custom autograd.Function.*once.*finite_difference"):
            make(once, probe=False, **QUICK)


def noisy(theta, batch):
    return F.dropout(batch @ theta, 0.5).square().mean()


def test_the_probe_catches_a_random_loss_whatever_the_kernel():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = from_loss(noisy, draw(3), [draw(30, 3)])
        for kernel in ("auto", *KERNELS):
            with pytest.raises(ValueError, match=r"deterministic loss.*dropout.*model\.eval\(\)"):
                products.hessian(made, kernel=kernel)
        products.hessian(made, probe=False, **QUICK)


def test_the_probe_catches_a_shuffling_loader():
    generator = torch.Generator().manual_seed(0)
    dataset = torch.utils.data.TensorDataset(draw(12, 3), draw(12, seed=1))
    loader = torch.utils.data.DataLoader(dataset, batch_size=5, shuffle=True, generator=generator)
    made = from_loss(lambda t, b: (b[0] @ t - b[1]).square().mean(), draw(3))._replace(batches=loader)
    with pytest.raises(ValueError, match=r"first batch differs.*shuffle=True"):
        products.hessian(made, **QUICK)
    assert matrix(products.hessian(made._replace(batches=list(loader)), **QUICK)).any()


def test_the_probe_catches_later_batches_that_change():
    first, changing = draw(4, 3), iter(range(100))

    class Changing:
        def __iter__(self):
            yield first
            yield draw(4, 3, seed=next(changing))

    made = from_loss(lambda t, b: (b @ t).pow(4).mean(), draw(3))._replace(batches=Changing())
    with pytest.raises(ValueError, match=r"different products with the same vector.*random augmentation"):
        products.hessian(made, memory=0, **QUICK)


def test_the_probe_catches_a_backward_pass_that_is_no_gradient():
    made = from_loss(lambda t, b: StraightThrough.apply(t[:2], t[1:]).square().sum(), draw(3))
    with pytest.raises(ValueError, match=r"not symmetric: v.Hw = .* w.Hv = .*straight-through.*probe=False"):
        products.hessian(made, **QUICK)
    found = matrix(products.hessian(made, probe=False, **QUICK))
    assert off(found.T, found) > 0.1


def test_the_probe_catches_infinite_second_derivatives():
    made = from_loss(lambda t, b: t.abs().sqrt().sum(), torch.tensor([0.0, 1.0], dtype=torch.float64))
    with pytest.raises(ValueError, match=r"NaN or infinite.*sqrt\(0\)"):
        products.hessian(made, **QUICK)


BAD = {
    "model": (lambda: products.hessian(nn.Linear(2, 2)), TypeError, "Linear; an Objective is needed"),
    "kernel": (
        lambda: products.hessian(network(), kernel="linearise"),
        ValueError,
        "did you mean 'linearize'",
    ),
    "blocks": (lambda: products.hessian(network(), blocks="row"), ValueError, "did you mean 'rows'"),
    "pattern": (lambda: products.hessian(network(), parameters="w3"), ValueError, "w3.*there are w1, b1"),
    "no pattern": (
        lambda: products.hessian(network(), parameters=[]),
        ValueError,
        "parameters is empty.*None for all",
    ),
    "tile": (lambda: products.hessian(network(), tile=0), ValueError, "tile=0 is too small"),
    "tile type": (lambda: products.hessian(network(), tile=2.5), TypeError, "tile=2.5 is not a whole number"),
    "tile of a whole": (
        lambda: products.hessian(network()._replace(separable=False), tile=4),
        ValueError,
        "cannot be cut",
    ),
    "memory": (lambda: products.hessian(network(), memory=-1), ValueError, "memory=-1 is negative"),
    "memory type": (
        lambda: products.hessian(network(), memory="all"),
        TypeError,
        "memory='all' is not a number",
    ),
    "recalibrated": (
        lambda: products.hessian(network()._replace(adapt=lambda theta: None)),
        ValueError,
        "recalibrated.*batchnorm='eval'",
    ),
    "no split": (
        lambda: products.ggn(network()._replace(criterion=None)),
        ValueError,
        "outputs=.*criterion=.*from_loss.*products.hessian",
    ),
    "wrong split": (
        lambda: products.ggn(network()._replace(criterion=lambda o, b: o.sum())),
        ValueError,
        "must be the same",
    ),
    "integer outputs": (
        lambda: products.ggn(network()._replace(outputs=lambda t, b: b[1]), probe=False, **QUICK),
        TypeError,
        "floating dtype",
    ),
    "not separable": (
        lambda: products.fisher(network()._replace(separable=False)),
        ValueError,
        "not separable.*single samples.*products.ggn",
    ),
    "step": (lambda: products.finite_difference(network(), step=0.0), ValueError, "step=0.0 is not allowed"),
    "vector length": (lambda: products.hessian(network(), **QUICK).matvec(draw(5)), ValueError, r"P=51"),
    "vector axes": (
        lambda: products.hessian(network(), **QUICK).matvec(draw(1, 1, 51)),
        ValueError,
        r"takes \[P\] or \[B, P\]",
    ),
    "vector dtype": (
        lambda: products.hessian(network(), **QUICK).matvec(draw(51).float()),
        ValueError,
        "dtype torch.float32.*torch.float64.*operator.dtype",
    ),
    "vector device": (
        lambda: products.hessian(network(), **QUICK).matvec(draw(51).to("meta")),
        ValueError,
        "device meta",
    ),
    "vector type": (lambda: products.hessian(network(), **QUICK).matvec([1.0]), TypeError, "list; hessian"),
    "loss of many": (
        lambda: products.hessian(from_loss(lambda t, b: t.square(), draw(3))),
        ValueError,
        r"shape \[3\].*without axes",
    ),
    "loss a float": (
        lambda: products.hessian(from_loss(lambda t, b: t.sum().item(), draw(3))),
        ValueError,
        "a float.*without axes",
    ),
    "detached loss": (
        lambda: products.hessian(from_loss(lambda t, b: t.detach().sum(), draw(3))),
        ValueError,
        r"does not depend on theta.*\.detach\(\)",
    ),
    "broken loss": (
        lambda: products.hessian(from_loss(lambda t, b: (t @ draw(4)).sum(), draw(3))),
        RuntimeError,
        "size mismatch|inconsistent tensor size",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_bad_input_is_named_with_what_is_allowed(bad):
    call, kind, words = BAD[bad]
    with pytest.raises(kind, match=words):
        call()


WAYS = {
    "embedding bag": (
        of_model(nn.EmbeddingBag(5, 3, mode="sum"), torch.tensor([[0, 1], [2, 4]])),
        "nn.Embedding and a sum",
    ),
    "hardsigmoid": (from_loss(lambda t, b: F.hardsigmoid(t).square().sum(), draw(3)), "relu6"),
    "ctc": (
        from_loss(
            lambda t, b: F.ctc_loss(t.view(6, 1, 4).log_softmax(-1), b, torch.tensor([6]), torch.tensor([2])),
            draw(24),
            [torch.tensor([[1, 2]])],
        ),
        "logsumexp",
    ),
    "once": (from_loss(lambda t, b: SquareOnce.apply(t).sum(), draw(3)), "write that in differentiable"),
}


@pytest.mark.parametrize("name", WAYS)
def test_ways_out_are_those_of_the_operation_and_none_that_was_tried(name):
    made, way = WAYS[name]
    for kernel in ("auto", "vjp"):
        with pytest.raises(RuntimeError, match="stopped at") as caught:
            products.hessian(made, kernel=kernel)
        message = str(caught.value)
        assert way in message
        assert "finite_difference" in message
        assert "kernel='vjp'" not in message
        assert not any(other in message for other in (w for _, w in WAYS.values()) if other != way)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_is_differentiated_by_its_formula(kernel, dim):
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(3, 4), dim=dim)
    made = of_model(layer, draw(5, 3), lambda o: o.tanh().square().mean())
    expected = matrix(products.finite_difference(made))
    assert off(matrix(products.hessian(made, kernel=kernel)), expected) < 1e-6


def test_a_checkpointed_model_with_convolutions_and_running_statistics_has_the_hessian_of_the_plain_one():
    class Checkpointed(nn.Module):
        def __init__(self, plain):
            super().__init__()
            self.plain = plain

        def forward(self, x):
            return torch.utils.checkpoint.checkpoint(self.plain, x, use_reentrant=False)

    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(8, 3))
    plain = plain.double().eval()
    x, y = draw(5, 1, 4, 4), labels(5, 3)
    expected = matrix(products.hessian(Loss(nn.CrossEntropyLoss(), x, y).objective(plain), **QUICK))
    made = Loss(nn.CrossEntropyLoss(), x, y).objective(Checkpointed(plain))
    for kernel in ("auto", "vjp"):
        assert off(matrix(products.hessian(made, kernel=kernel)), expected) < 1e-12
