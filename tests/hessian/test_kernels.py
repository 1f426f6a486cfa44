"""Kernels: what they keep, how one is chosen, and that nothing is left behind."""

from __future__ import annotations

import gc
import time

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from bridges.metrics import Loss
from lla_func import products
from lla_func._torch import Meter
from lla_func.graph._linearize import linearize
from lla_func.hessian import _autotune
from lla_func.hessian._assembly import assemble
from lla_func.hessian._autotune import KernelChoice, autotune
from lla_func.hessian._choice import Choice
from lla_func.hessian._kernels import KERNELS
from lla_func.objective._objective import from_loss
from tests.cases import build
from tests.dense import QUICK, dense, draw, matrix, network, off
from tests.peak import Peak
from tests.state import unchanged


def test_a_kernel_that_keeps_less_is_taken_where_the_fastest_does_not_fit():
    made, sizes = network(sizes=(300,)), {}
    for kernel in KERNELS:
        with Meter() as meter:
            operator = products.hessian(made, kernel=kernel, probe=False, blocks="rows")
        sizes[kernel] = meter.kept()
        assert operator.dim
    assert 0 == sizes["recompute"] < sizes["vjp"] < sizes["linearize"]
    choice = KernelChoice(("linearize", "vjp"), "recompute", batched=False)
    for memory, kernel in ((2**30, "linearize"), (sizes["vjp"] + 64, "vjp"), (0, "recompute")):
        found = assemble(
            made,
            lambda kernel, batch: KERNELS[kernel].hessian(lambda t: made.loss(t[0], batch), (made.theta,)),
            made.theta,
            choice,
            name="matrix",
            tile=1024,
            memory=memory,
        )
        assert found.name == f"matrix ({kernel})"
        assert off(matrix(found), dense(made)) < 1e-12


def test_a_restricted_hessian_keeps_less_than_the_full_one():
    made, sizes = network(sizes=(200,)), []
    for parameters in (None, "w2"):
        with Meter() as meter:
            operator = products.hessian(made, parameters=parameters, probe=False, **QUICK)
        sizes.append(meter.kept())
        assert operator.dim
    assert sizes[1] < 0.6 * sizes[0]


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


def autotuned(kernels, **options):
    """The choice for made-up kernels: each a tuple (seconds to build, seconds a product takes, the product)."""
    # Large enough not to count as small.
    made = from_loss(lambda t, b: t.square().sum(), draw(1000), [torch.zeros(1000)])

    def build(name, batch):
        building, applying, product = kernels[name]
        time.sleep(building)

        def apply(v):
            time.sleep(applying)
            return product(v)

        return apply

    return autotune(made, build, made.theta, tuple(kernels), **options)


def failing(v):
    raise RuntimeError("not this one")


def test_the_fastest_kernel_is_taken_and_the_others_stand_by():
    choice = autotuned(
        {
            "slow": (0.0, 0.02, torch.neg),
            "fast": (0.04, 0.002, torch.neg),
            "middling": (0.0, 0.008, torch.neg),
        }
    )
    assert choice.kernels == ("fast", "middling")
    assert choice.streaming == "middling"


def test_a_small_problem_takes_the_first_kernel_that_works_without_a_look_at_the_clock():
    made = from_loss(lambda t, b: t.square().sum(), draw(4))
    products_of = {"broken": failing, "first": lambda v: time.sleep(0.01) or -v, "second": torch.neg}

    def build(name, batch):
        return products_of[name]

    assert autotune(made, build, made.theta, tuple(products_of)) == KernelChoice(
        ("first",), "first", batched=True
    )


@pytest.mark.parametrize(("memory", "kernel"), [(None, "linearize"), (2**20, "vjp"), (0, "vjp")])
def test_linearize_is_left_where_its_building_would_not_fit(memory, kernel, monkeypatch):
    for name, value in (("LONG", 0), ("CLEARLY", 1e9), ("PAYS", 1e9)):
        monkeypatch.setattr(_autotune, name, value)
    data = torch.zeros(2000, 50, dtype=torch.float64)
    made = from_loss(lambda t, x: (x + t).sin().square().mean(), draw(50), [data], separable=True)
    operator = products.hessian(made, memory=memory, tile=500)
    assert operator.name == f"hessian ({kernel})"
    assert (operator.choice.kernel, operator.choice.tile) == (kernel, 500)
    assert set(operator.choice.seconds) == ({"vjp", "linearize"} if kernel == "linearize" else set())


@pytest.mark.parametrize(("name", "value"), [("CLEARLY", 0.0), ("PAYS", -1.0), ("LONG", 1e30)])
def test_linearize_is_left_where_it_does_not_pay(name, value, monkeypatch):
    for constant, easy in (("LONG", 0), ("CLEARLY", 1e9), ("PAYS", 1e9)):
        monkeypatch.setattr(_autotune, constant, easy)
    monkeypatch.setattr(_autotune, name, value)
    choice = products.hessian(network(sizes=(40,))).choice
    assert choice.kernel == "vjp"
    assert bool(choice.seconds) == (name != "LONG")


@pytest.mark.parametrize("kernel", ["auto", "vjp", "linearize", "recompute", "timed"])
def test_a_choice_repeats_the_bits_of_what_was_chosen(kernel):
    made = network(sizes=(40, 30), dtype=torch.float32)
    first = products.hessian(made, kernel=kernel)
    block = draw(5, first.dim).float()
    expected = first.matvec(block)
    for options in ({"choice": first.choice}, {"kernel": first.choice}):
        again = products.hessian(made, **options)
        assert again.choice[:3] == first.choice[:3]
        assert torch.equal(again.matvec(block), expected)
    for make in (products.ggn, products.fisher):
        one = make(made, kernel=kernel)
        assert torch.equal(make(made, kernel=one.choice).matvec(block), one.matvec(block))


def test_a_choice_stands_alone():
    made = network()
    choice = products.hessian(made).choice
    for options, word in (
        ({"kernel": "vjp"}, "leave it out"),
        ({"blocks": "rows"}, "come beside a choice"),
        ({"tile": 5}, "come beside a choice"),
    ):
        with pytest.raises(ValueError, match=word):
            products.hessian(made, choice=choice, **options)
    with pytest.raises(ValueError, match="the kernel of choice"):
        products.hessian(made, choice=Choice("quick"))
    with pytest.raises(TypeError, match="choice"):
        products.hessian(made, choice="vjp")


def test_the_first_kernel_is_taken_unless_another_is_clearly_faster():
    assert autotuned({"a": (0.0, 0.01, torch.neg), "b": (0.0, 0.0097, torch.neg)}).kernels[0] == "a"


def test_a_kernel_that_fails_or_disagrees_is_out():
    choice = autotuned(
        {
            "broken": (0.0, 0.0, failing),
            "right": (0.0, 0.01, torch.neg),
            "wrong": (0.0, 0.0, lambda v: -1.01 * v),
        }
    )
    assert choice == (("right",), "right", choice.batched)
    with pytest.raises(RuntimeError, match="not this one"):
        autotuned({"broken": (0.0, 0.0, failing)})


def test_blocks_go_together_where_that_is_faster_and_gives_the_same():
    assert autotuned({"a": (0.0, 0.01, torch.neg)}).batched
    assert not autotuned({"a": (0.0, 0.01, torch.neg)}, blocks="rows").batched

    def without_rule(v):
        return v * float(v.sum())

    assert not autotuned({"a": (0.0, 0.01, without_rule)}).batched
    assert autotuned({"a": (0.0, 0.01, without_rule)}, blocks="vmap").batched


def test_a_linearization_that_lost_sight_of_the_tangent_is_refused():
    def hiding(point):
        with _disable_current_modes():
            return point[0] * 2

    for function in (hiding, lambda point: hiding((point[0].sin(),)) + point[0]):
        with pytest.raises(RuntimeError, match="could not be recorded in full"):
            linearize(function, (draw(3),))


def test_a_linearization_repeats_nothing_that_does_not_depend_on_the_tangent():
    calls = []

    def counted(x):
        calls.append(1)
        return x.exp() * x.sin()

    x = draw(5)
    product = linearize(lambda point: counted(*point), (x,))
    v = draw(5, seed=1)
    expected = x.exp() * (x.sin() + x.cos()) * v
    assert len(calls) == 1
    for _ in range(2):
        torch.testing.assert_close(product(v), expected, rtol=1e-14, atol=0)
    assert len(calls) == 1
    torch.testing.assert_close(
        torch.func.vmap(product)(torch.stack([v, -v]))[1], -expected, rtol=1e-14, atol=0
    )


def test_a_constant_has_derivative_zero():
    constant = draw(3)
    assert not linearize(lambda point: constant * 1.0, (draw(3),))(draw(3, seed=1)).any()


def test_what_was_tried_on_the_whole_batch_is_built_once_and_probed_with_two_products(monkeypatch):
    counts = {"built": 0, "multiplied": 0}

    def counting(f, x):
        counts["built"] += 1
        product = KERNELS["linearize"].hessian(f, x)

        def counted(v):
            counts["multiplied"] += 1
            return product(v)

        return counted

    monkeypatch.setitem(KERNELS, "vjp", KERNELS["vjp"]._replace(hessian=counting))
    made = network(sizes=(9,))
    operator = products.hessian(made, blocks="rows")
    assert operator.name == "hessian (vjp)"
    assert counts == {"built": 1, "multiplied": 3}  # the trial's, and two for symmetry
    assert off(matrix(operator), dense(made)) < 1e-12


def test_the_only_piece_gives_its_product_back_as_it_is_but_never_the_vector_itself():
    made = from_loss(lambda t, b: t.square().sum() / 2, draw(5), [torch.zeros(1)])
    operator = products.hessian(made, **QUICK)
    v = draw(5, seed=1)
    image = operator.matvec(v)
    assert torch.equal(image, v)
    image.zero_()
    assert v.any()


def test_a_kernel_may_give_back_the_vector_itself_but_the_operator_does_not():
    made = from_loss(lambda t, b: t.sum(), draw(5), [torch.zeros(1)])
    choice = KernelChoice(("identity",), "identity", batched=False)
    operator = assemble(made, lambda *_: lambda v: v, made.theta, choice, name="it", tile=1, memory=1e9)
    for v in (draw(5, seed=1), draw(2, 5, seed=1)):
        operator.matvec(v).zero_()
        assert v.any()


def test_recording_takes_at_most_four_times_the_memory_of_the_kept_graph():
    layers = [nn.Linear(100, 400), nn.ReLU(), nn.Linear(400, 400), nn.GELU(), nn.Linear(400, 10)]
    metric = Loss(nn.CrossEntropyLoss(), torch.randn(64, 100), torch.randint(10, (64,)))
    made, peaks = metric.objective(nn.Sequential(*layers)), {}
    for kernel in ("vjp", "linearize"):
        with Peak(1000) as peak:
            products.hessian(made, kernel=kernel, probe=False, blocks="rows")
        peaks[kernel] = peak.most
    assert peaks["linearize"] < 4 * peaks["vjp"]
