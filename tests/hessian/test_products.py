"""Products with the Hessian, Gauss-Newton and Fisher matrices, against dense matrices and closed forms."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.autograd.functional import hessian as dense_hessian
from torch.autograd.functional import jacobian as dense_jacobian
from torch.nn import functional as F

from lla_func import products
from lla_func._torch._differentiable import differentiable
from lla_func.hessian import _autotune
from lla_func.hessian._kernels import KERNELS
from lla_func.objective._objective import from_loss, samples
from tests.cases import CASES, build, every_case, objective
from tests.dense import QUICK, Streaming, dense, draw, labels, matrix, network, off

STEM = {"mlp": "2.*", "cnn": "7.*", "resnet": "head.*", "transformer": "head.*", "two_inputs": "left.*"}


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
@pytest.mark.parametrize("kernel", ["auto", "timed"])
def test_a_kernel_that_is_chosen_gives_the_hessian_too(oracle, name, dtype, kernel, monkeypatch):
    made, expected = oracle[name]
    monkeypatch.setattr(
        _autotune, "FEW", 0
    )  # or the first kernel that works is taken, without a look at others
    tried = []
    for key, one in KERNELS.items():
        watched = partial(lambda key, hessian, *args: tried.append(key) or hessian(*args), key, one.hessian)
        monkeypatch.setitem(KERNELS, key, one._replace(hessian=watched))
    operator = products.hessian(made, kernel=kernel)
    assert set(tried) == (set(KERNELS) if kernel == "timed" else {"vjp"})
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


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_finite_differences_move_as_far_along_long_vectors_as_along_short_ones(size):
    made = network()
    v = size * draw(len(made.theta))
    assert off(products.finite_difference(made).matvec(v), dense(made) @ v) < 1e-9


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("affine", [True, False])
def test_running_statistics_are_an_affine_map_whose_hessian_is_that_of_the_fused_kernel(kernel, affine):
    made = objective("resnet")
    case = build("resnet")
    if not affine:
        case.model.stem[1] = torch.nn.BatchNorm2d(6, affine=False).double()
        made = case.metric.objective(case.model)
    leaf = made.theta.detach().requires_grad_()
    value = made.loss(leaf, made.batches[0])  # outside of differentiable(): by torch's own kernel
    slope = torch.autograd.grad(value, leaf, create_graph=True)[0]
    v = draw(len(leaf))
    expected = torch.autograd.grad(slope, leaf, v)[0]
    found = products.hessian(made, kernel=kernel, blocks="rows")
    assert off(found.matvec(v), expected) < 1e-12
