"""Products with the Hessian, Gauss-Newton and Fisher matrices, against dense matrices and closed forms."""

from __future__ import annotations

import gc

import pytest
import torch
from cases import CASES, build, every_case, objective
from state import unchanged
from torch import nn
from torch.autograd.functional import hessian as dense_hessian
from torch.autograd.functional import jacobian as dense_jacobian
from torch.nn import functional as F

from lla_func import products
from lla_func.assembly import assemble
from lla_func.differentiable import differentiable, load_forward_mode
from lla_func.kernels import KERNELS
from lla_func.memory import Meter
from lla_func.objective import from_loss, samples
from lla_func.rehearsal import Plan

load_forward_mode()
QUICK = {"kernel": "vjp", "blocks": "rows"}  # no rehearsal
STEM = {"mlp": "2.*", "cnn": "7.*", "resnet": "head.*", "transformer": "head.*", "two_inputs": "left.*"}


def dense(objective):
    """The Hessian by two reverse passes without vmap: the weighted sum over the batches as they are.

    Not by ``torch.func.hessian``, which is wrong by 5 % for the transformer in torch 2.14: it disagrees with finite
    differences, and its result is not symmetric.
    """
    total, weights = 0.0, 0
    with differentiable():
        for batch in objective.batches:
            weight = samples(batch) if objective.reduction == "mean" else 1
            total = total + weight * dense_hessian(lambda t: objective.loss(t, batch), objective.theta)  # noqa: B023
            weights += weight
    return total / weights if objective.reduction == "mean" else total


def matrix(operator):
    """The matrix of an operator, from one product with the identity."""
    return operator.matvec(torch.eye(operator.dim, dtype=operator.dtype)).detach()


def off(found, expected):
    return float((found - expected).norm()) / (float(expected.norm()) or 1.0)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(count, classes, seed=0):
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


def network(*, sizes=(7, 3, 12), reduction="mean", flat=False, dtype=torch.float64):
    """A small tanh network on unequal batches, as a pure loss that splits into outputs and criterion."""
    parameters = {
        "w1": draw(6, 4),
        "b1": draw(6, seed=1),
        "w2": draw(3, 6, seed=2),
        "b2": draw(3, seed=3),
    }  # P = 51
    parameters = {name: (0.5 * p).to(dtype) for name, p in parameters.items()}
    batches = [(draw(n, 4, seed=n).to(dtype), labels(n, 3, n)) for n in sizes]

    def outputs(p, batch):
        return torch.tanh(batch[0] @ p["w1"].mT + p["b1"]) @ p["w2"].mT + p["b2"]

    def criterion(output, batch):
        return F.cross_entropy(output, batch[1], reduction=reduction)

    def loss(p, batch):
        return criterion(outputs(p, batch), batch)

    made = from_loss(
        loss,
        parameters,
        batches,
        separable=True,
        reduction=reduction,
        outputs=outputs,
        criterion=criterion,
    )
    return made._replace(named=False) if flat else made


class Streaming:
    """Batches that are made anew in every pass."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        for batch in self.batches:
            yield tuple(part.clone() for part in batch)


# --- against the dense Hessian ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oracle():
    """Dense Hessians of the cases, each computed once."""
    return {name: (made := objective(name), dense(made)) for name in CASES}


@pytest.mark.parametrize("kernel", KERNELS)
@every_case()
def test_the_hessian_is_that_of_two_reverse_passes(oracle, name, dtype, kernel):
    made, expected = oracle[name]
    operator = products.hessian(made, kernel=kernel, blocks="vmap")
    assert off(matrix(operator), expected) < 1e-9
    assert operator.name == f"hessian ({kernel})"


@every_case()
def test_the_kernel_found_by_rehearsal_gives_the_hessian_too(oracle, name, dtype):
    made, expected = oracle[name]
    operator = products.hessian(made)
    block = draw(3, operator.dim)
    assert off(operator.matvec(block), block @ expected) < 1e-9


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("blocks", ["rows", "vmap"])
def test_a_block_gives_what_its_rows_give(kernel, blocks):
    operator = products.hessian(network(), kernel=kernel, blocks=blocks)
    block = draw(5, operator.dim)
    rows = torch.stack([operator.matvec(v) for v in block])
    torch.testing.assert_close(operator.matvec(block), rows, rtol=1e-12, atol=1e-14)
    assert operator.matvec(block[:0]).shape == (0, operator.dim)
    assert operator.matvec(block[:1]).shape == (1, operator.dim)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("memory", [None, 0], ids=["kept", "streamed"])
def test_unequal_batches_count_by_their_samples(reduction, kernel, memory):
    made = network(reduction=reduction)
    operator = products.hessian(made, kernel=kernel, blocks="vmap", tile=5, memory=memory)
    together = tuple(torch.cat(parts) for parts in zip(*made.batches, strict=True))
    expected = dense(made._replace(batches=[together]))
    assert off(matrix(operator), expected) < 1e-12


@pytest.mark.parametrize("make", [products.hessian, products.ggn, products.fisher])
def test_streamed_batches_give_bit_for_bit_what_resident_ones_give(make):
    made = network()
    v = draw(len(made.theta))
    resident = make(made, **QUICK).matvec(v)
    streamed = make(made._replace(batches=Streaming(made.batches)), memory=0, **QUICK).matvec(v)
    assert torch.equal(resident, streamed)


def test_a_kernel_that_keeps_less_is_taken_where_the_fastest_does_not_fit():
    made, sizes = network(sizes=(300,)), {}
    for kernel in KERNELS:
        with Meter() as meter:
            operator = products.hessian(made, kernel=kernel, probe=False, blocks="rows")
        sizes[kernel] = meter.kept()
        assert operator.dim
    assert 0 == sizes["recompute"] < sizes["vjp"] < sizes["linearize"]
    plan = Plan(("linearize", "vjp"), "recompute", batched=False)
    for memory, kernel in ((2**30, "linearize"), (sizes["vjp"] + 64, "vjp"), (0, "recompute")):
        found = assemble(
            made,
            lambda kernel, batch: KERNELS[kernel].hessian(lambda t: made.loss(t, batch), made.theta),
            made.theta,
            plan,
            name="matrix",
            tile=1024,
            memory=memory,
        )
        assert found.name == f"matrix ({kernel})"
        assert off(matrix(found), dense(made)) < 1e-12


def test_products_do_not_depend_on_how_often_they_were_taken():
    for kernel in KERNELS:
        operator = products.hessian(network(), kernel=kernel, blocks="rows")
        v = draw(operator.dim)
        first = operator.matvec(v).clone()
        operator.matvec(draw(operator.dim, seed=9))
        assert torch.equal(operator.matvec(v), first)


def test_float32_is_as_exact_as_float32_gets():
    expected = dense(network())
    for kernel in KERNELS:
        found = matrix(products.hessian(network(dtype=torch.float32), kernel=kernel))
        assert found.dtype == torch.float32
        assert off(found.double(), expected) < 2e-6


# --- restricted to some parameters -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STEM)
def test_a_restricted_hessian_is_the_diagonal_block(oracle, name):
    made, expected = oracle[name]
    inside = made.layout.mask(made.layout.matching(STEM[name]))
    operator = products.hessian(made, parameters=STEM[name], **QUICK)
    assert operator.dim == int(inside.sum()) < len(made.theta)
    assert off(matrix(operator), expected[inside][:, inside]) < 1e-9


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("flat", [False, True], ids=["named", "flat"])
@pytest.mark.parametrize("make", [products.hessian, products.ggn, products.fisher])
def test_any_matrix_restricted_by_several_patterns_is_the_diagonal_block(make, flat, kernel):
    made = network(flat=flat)
    inside = made.layout.mask(made.layout.matching(["b1", "w2"]))
    operator = make(made, parameters=["b1", "w2"], kernel=kernel)
    assert operator.name.endswith(f" of b1, w2 ({kernel})")
    assert off(matrix(operator), matrix(make(made, **QUICK))[inside][:, inside]) < 1e-12


@pytest.mark.parametrize("make", [products.hessian, products.ggn, products.fisher])
def test_parameters_that_the_loss_does_not_use_have_a_block_of_zeros(make):
    made = from_loss(
        lambda p, b: F.cross_entropy(b[0] @ p["used"], b[1]),
        {"used": draw(4, 3), "unused": draw(2)},
        [(draw(5, 4), labels(5, 3))],
        separable=True,
        outputs=lambda p, b: b[0] @ p["used"],
        criterion=lambda o, b: F.cross_entropy(o, b[1]),
    )
    for kernel in KERNELS:
        assert not matrix(make(made, parameters="unused", kernel=kernel)).any()
        assert matrix(make(made, kernel=kernel))[:12, :12].any()


def test_a_restricted_hessian_keeps_less_than_the_full_one():
    made, sizes = network(sizes=(200,)), []
    for parameters in (None, "w2"):
        with Meter() as meter:
            operator = products.hessian(made, parameters=parameters, probe=False, **QUICK)
        sizes.append(meter.kept())
        assert operator.dim
    assert sizes[1] < 0.6 * sizes[0]


# --- Gauss-Newton and Fisher -----------------------------------------------------------------------------------------


def dense_ggn(made):
    total, weights = 0.0, 0
    for batch in made.batches:
        jacobian = dense_jacobian(lambda t: made.outputs(t, batch).flatten(), made.theta)  # noqa: B023
        output = made.outputs(made.theta, batch)
        inner = dense_hessian(lambda o: made.criterion(o.view(output.shape), batch), output.flatten())  # noqa: B023
        weight = samples(batch) if made.reduction == "mean" else 1
        total, weights = total + weight * jacobian.T @ inner @ jacobian, weights + weight
    return total / weights if made.reduction == "mean" else total


def dense_fisher(made):
    gradients = [
        torch.func.grad(made.loss)(made.theta, (x[None], y[None]))
        for batch in made.batches
        for x, y in zip(*batch, strict=True)
    ]
    stacked = torch.stack(gradients)
    return stacked.T @ stacked / (len(stacked) if made.reduction == "mean" else 1)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    ("make", "definition"),
    [(products.ggn, dense_ggn), (products.fisher, dense_fisher)],
    ids=["ggn", "fisher"],
)
def test_ggn_and_fisher_are_their_definitions(make, definition, reduction, kernel):
    made = network(reduction=reduction)
    operator = make(made, kernel=kernel, blocks="vmap", tile=5)
    found, expected, v = matrix(operator), definition(made), draw(operator.dim)
    assert off(found, expected) < 1e-12
    assert off(operator.matvec(v), expected @ v) < 1e-12
    assert float(torch.linalg.eigvalsh(found)[0]) > -1e-12


@every_case()
def test_ggn_of_a_model_is_its_definition(name, dtype):
    made = objective(name)
    with differentiable():
        expected = dense_ggn(made)
    v = draw(len(made.theta))
    for kernel in KERNELS:
        assert off(products.ggn(made, kernel=kernel, blocks="rows").matvec(v), expected @ v) < 1e-9


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet", "transformer", "two_inputs", "tied"])
def test_fisher_of_a_model_is_the_sum_over_its_samples(name):
    made = objective(name)
    assert made.separable
    with differentiable():
        gradients = []
        batch = next(iter(made.batches))
        for i in range(samples(batch)):
            single = torch.utils._pytree.tree_map(lambda leaf: leaf[i : i + 1], batch)  # noqa: B023
            theta = made.theta.clone().requires_grad_()
            gradients.append(torch.autograd.grad(made.loss(theta, single), theta)[0])
    stacked = torch.stack(gradients)
    v = draw(len(made.theta))
    expected = stacked.T @ (stacked @ v) / len(stacked)
    for kernel in KERNELS:
        assert off(products.fisher(made, kernel=kernel, blocks="rows").matvec(v), expected) < 1e-9


def test_fisher_goes_sample_by_sample_where_the_loss_can_not_be_batched():
    def loss(theta, batch):
        return sum(row @ theta if float(row[0]) > 0 else (row @ theta).square() for row in batch) / len(batch)

    x = draw(6, 3)
    made = from_loss(loss, draw(3, seed=1), [x], separable=True)
    rows = [torch.func.grad(lambda t, r=row: loss(t, r[None]))(made.theta) for row in x]
    expected = sum(torch.outer(g, g) for g in rows) / 6
    assert off(matrix(products.fisher(made, **QUICK)), expected) < 1e-12


def test_outputs_may_be_several_tensors():
    def outputs(theta, batch):
        return {"mean": batch @ theta, "scale": (torch.tanh(theta).sum(), theta[:2])}

    def criterion(output, batch):
        total, first = output["scale"]
        return (output["mean"] * total).square().mean() + first.exp().sum()

    x = draw(6, 3)
    made = from_loss(
        lambda t, b: criterion(outputs(t, b), b), draw(3, seed=1), [x], outputs=outputs, criterion=criterion
    )

    def stacked(t):
        out = outputs(t, x)
        return torch.cat([out["mean"], out["scale"][0][None], out["scale"][1]])

    def from_stacked(s):
        return criterion({"mean": s[:6], "scale": (s[6], s[7:])}, x)

    jacobian = torch.func.jacrev(stacked)(made.theta)
    expected = jacobian.T @ dense_hessian(from_stacked, stacked(made.theta)) @ jacobian
    for kernel in KERNELS:
        assert off(matrix(products.ggn(made, kernel=kernel)), expected) < 1e-12


# --- closed forms ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [products.hessian, products.ggn])
def test_linear_regression_has_hessian_two_xtx_over_n(make):
    x, y = draw(30, 4), draw(30, seed=1)
    made = from_loss(
        lambda t, b: F.mse_loss(b[0] @ t, b[1]),
        draw(4, seed=2),
        [(x[:11], y[:11]), (x[11:], y[11:])],
        separable=True,
        outputs=lambda t, b: b[0] @ t,
        criterion=lambda output, b: F.mse_loss(output, b[1]),
    )
    for kernel in KERNELS:
        assert off(matrix(make(made, kernel=kernel)), 2 * x.T @ x / 30) < 1e-14


def test_softmax_regression_at_zero_has_each_eigenvalue_of_the_data_over_c_with_multiplicity_c_minus_one():
    classes, x = 4, draw(25, 3)
    made = from_loss(
        lambda p, b: F.cross_entropy(b[0] @ p["w"].mT, b[1]),
        {"w": torch.zeros(classes, 3, dtype=torch.float64)},
        [(x, labels(25, classes))],
        separable=True,
    )
    found = torch.linalg.eigvalsh(matrix(products.hessian(made)))
    data = torch.linalg.eigvalsh(x.T @ x / 25) / classes
    expected = torch.cat([torch.zeros(3, dtype=torch.float64), data.repeat_interleave(classes - 1)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_a_deep_linear_network_at_its_saddle_has_a_symmetric_spectrum():
    inputs, hidden = 3, 4
    x, y = draw(20, inputs), draw(20, 2, seed=1)
    made = from_loss(
        lambda p, b: F.mse_loss(b[0] @ p["w1"] @ p["w2"], b[1]),
        {
            "w1": torch.zeros(inputs, hidden, dtype=torch.float64),
            "w2": torch.zeros(hidden, 2, dtype=torch.float64),
        },
        [(x, y)],
    )
    found = torch.linalg.eigvalsh(matrix(products.hessian(made)))
    # Mixed second derivatives only: 2 sum_h tr(w1[:, h] C w2[h]) with C = X^T Y / (n outputs).
    singular = torch.linalg.svdvals(-2 * x.T @ y / 40)
    expected = torch.cat([singular, -singular]).repeat(hidden)
    expected = torch.cat([expected, torch.zeros(len(found) - len(expected), dtype=torch.float64)])
    torch.testing.assert_close(found, expected.sort().values, rtol=0, atol=1e-14)


def test_a_linear_loss_has_hessian_zero_and_passes_the_probe():
    made = from_loss(lambda t, b: (b @ t).mean(), draw(3), [draw(5, 3)])
    for kernel in KERNELS:
        assert not matrix(products.hessian(made, kernel=kernel, blocks="rows")).any()


def test_finite_differences_come_close_and_say_what_they_are():
    made = network()
    operator = products.finite_difference(made)
    assert 0 < off(matrix(operator), dense(made)) < 1e-8
    assert operator.name == "hessian (finite difference)"
    assert products.finite_difference(made, parameters="w*").name == "hessian of w* (finite difference)"
    assert not operator.matvec(torch.zeros(operator.dim, dtype=torch.float64)).any()
    coarse = products.finite_difference(made, step=0.1, probe=False)
    assert off(matrix(coarse), dense(made)) > 1e-5
    single = products.finite_difference(network(dtype=torch.float32))
    assert off(matrix(single).double(), dense(made)) < 1e-2


# --- operations that lack a derivative -------------------------------------------------------------------------------


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


def test_without_a_forward_rule_vjp_is_named_as_the_way_out_and_auto_takes_it():
    made = of_model(nn.Linear(3, 2), draw(5, 3), lambda o: torch.cdist(o, o + 1.0, p=3.0).sum())
    with pytest.raises(RuntimeError, match=r"_cdist_forward.*no forward-mode derivative.*kernel='vjp'"):
        products.hessian(made, kernel="recompute")
    assert products.hessian(made).name == "hessian (vjp)"


class Square(torch.autograd.Function):
    """x**2 in the old style, that forward mode can't take."""

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


# --- the probe -------------------------------------------------------------------------------------------------------


def noisy(theta, batch):
    return F.dropout(batch @ theta, 0.5).square().mean()


def test_the_probe_catches_a_random_loss_whatever_the_kernel():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = from_loss(noisy, draw(3), [draw(6, 3)])
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


# --- nothing left behind ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [products.hessian, products.fisher, products.finite_difference])
def test_the_model_is_left_as_it_came(make):
    case = build("resnet")
    made = case.metric.objective(case.model)
    with unchanged(case.model):
        operator = make(made)
        operator.matvec(draw(2, operator.dim))
        with pytest.raises(ValueError, match="vectors has shape"):
            operator.matvec(draw(3))
    assert made.theta.grad is None
    assert not made.theta.requires_grad


def test_an_interrupted_product_leaves_the_model_and_torch_as_they_were():
    case = build("mlp")
    made = case.metric.objective(case.model)
    calls = iter(range(1000))

    def interrupted(theta, batch):
        if next(calls) > 20:
            raise KeyboardInterrupt
        return made.loss(theta, batch)

    operator = products.hessian(made._replace(loss=interrupted), kernel="recompute", blocks="rows")
    block = draw(30, operator.dim)
    with unchanged(case.model), pytest.raises(KeyboardInterrupt):
        operator.matvec(block)
    assert torch.get_float32_matmul_precision() == "highest"
    assert (
        off(products.hessian(made).matvec(made.theta), products.hessian(made, **QUICK).matvec(made.theta))
        < 1e-9
    )


@pytest.mark.parametrize("kernel", ["auto", *KERNELS])
def test_memory_is_free_at_once_when_an_operator_is_dropped(kernel):
    made = network(sizes=(40, 30), dtype=torch.float32)
    gc.collect()
    gc.disable()  # what only the collector of cycles could free counts as kept
    try:
        for make in (products.hessian, products.ggn, products.fisher):
            make(made, kernel=kernel, probe=False)  # the first time may fill caches of torch
            with Meter() as meter:
                operator = make(made, kernel=kernel)
                v = draw(operator.dim).float()
                operator.matvec(v)
                held = meter.kept()
                for _ in range(3):
                    operator.matvec(v)
                assert meter.kept() <= held
                del operator, v
            assert meter.kept() == 0
    finally:
        gc.enable()


def test_products_carry_no_graph_and_read_no_mode_of_the_caller():
    made = network()
    operator = products.hessian(made, **QUICK)
    v = draw(operator.dim).requires_grad_()
    found = operator.matvec(v)
    assert not found.requires_grad
    with torch.no_grad():
        assert torch.equal(operator.matvec(v), found)
        assert torch.equal(products.hessian(made, **QUICK).matvec(v), found)
    with torch.inference_mode():
        assert torch.equal(operator.matvec(draw(operator.dim)), found)
        assert torch.equal(products.hessian(made, **QUICK).matvec(v), found)
    assert v.grad is None


# --- bad inputs ------------------------------------------------------------------------------------------------------


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
        "can't be cut",
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
