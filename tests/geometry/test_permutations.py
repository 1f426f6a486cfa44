"""Claims about weight matching: against brute force, and against permutations that are known."""

from __future__ import annotations

from itertools import permutations, product

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from lla_func.geometry._permutations import match, permuted, random_permutations
from lla_func.graph import Factor, Symmetry, record, symmetry


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def assign(scores):
    return torch.from_numpy(linear_sum_assignment(scores.numpy(), maximize=True)[1])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed, first=4, second=3):
    x = draw(5, 2, seed=99)
    tensors = {
        "u": draw(2, first, seed=seed),
        "v": draw(first, second, seed=seed + 1),
        "w": draw(second, 2, seed=seed + 2),
    }
    found = symmetry(
        record(lambda u, v, w: ((x @ u).tanh() @ v).tanh() @ w, *tensors.values()), list(tensors)
    )
    return tensors, found


def inner(a, b):
    return sum(float((a[name] * b[name]).sum()) for name in a)


@pytest.mark.parametrize("seed", range(5))
def test_with_restarts_the_best_of_all_permutations_is_found(seed):
    (a, found), (b, _) = network(10 * seed), network(1000 + 10 * seed)
    every = product(*([torch.tensor(p) for p in permutations(range(n))] for n in found.sizes))
    best = max(inner(a, permuted(b, found, chosen)) for chosen in every)
    matching = match(a, b, found, assign, restarts=20, generator=generator())
    assert matching.similarity == pytest.approx(best, rel=1e-12)
    assert inner(a, permuted(b, found, matching.permutations)) == pytest.approx(best, rel=1e-12)


def test_no_start_ends_below_where_it_began_and_the_best_is_taken():
    (a, found), (b, _) = network(0, 12, 9), network(50, 12, 9)
    matching = match(a, b, found, assign, restarts=6, generator=generator())
    assert matching.before == pytest.approx(inner(a, b), rel=1e-12)
    assert matching.restarts[0] >= matching.before
    assert matching.similarity == max(matching.restarts)
    assert len(matching.restarts) == 6


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_a_known_permutation_is_undone_at_any_scale(scale):
    a, found = network(3, 20, 15)
    a = {name: scale * tensor for name, tensor in a.items()}
    b = permuted(a, found, random_permutations(found, generator(1)))
    back = permuted(b, found, match(a, b, found, assign, generator=generator()).permutations)
    assert all(torch.equal(a[name], back[name]) for name in a)


def test_a_group_on_both_axes_of_a_weight_never_loses():
    x = draw(3, 4, seed=7)

    def stream(a, b, d):
        s = x @ a
        return (s + torch.tanh(s @ b)) @ d

    sizes = {"a": (4, 9), "b": (9, 9), "d": (9, 2)}
    first = {name: draw(*shape, seed=i) for i, (name, shape) in enumerate(sizes.items())}
    found = symmetry(record(stream, *first.values()), list(first))
    for seed in range(10, 20):
        second = {name: draw(*shape, seed=seed + 7 * i) for i, (name, shape) in enumerate(sizes.items())}
        matching = match(first, second, found, assign, generator=generator(seed))
        assert matching.similarity >= matching.before
        aligned = inner(first, permuted(second, found, matching.permutations))
        assert matching.similarity == pytest.approx(aligned, rel=1e-10)


def test_weights_that_are_alike_already_stay_in_their_order():
    a, found = network(0)
    matching = match(a, a, found, assign, generator=generator())
    assert all(torch.equal(p, torch.arange(len(p))) for p in matching.permutations)


def test_weights_of_zero_are_matched_without_trouble():
    a, found = network(0)
    zero = {name: torch.zeros_like(tensor) for name, tensor in a.items()}
    assert match(a, zero, found, assign, restarts=2, generator=generator()).similarity == 0


def test_random_starts_leave_an_optimum_that_no_single_group_improves():
    axes = {"v": ((Factor(2, 0),), (Factor(2, 1),))}
    found = Symmetry(axes, (2, 2))
    a = {"v": torch.tensor([[3.0, 0.0], [0.0, 1.0]])}
    b = {"v": torch.tensor([[1.0, 0.0], [0.0, 3.0]])}
    assert match(a, b, found, assign, generator=generator()).similarity == 6
    assert match(a, b, found, assign, restarts=20, generator=generator()).similarity == 10


def test_a_weight_with_a_group_on_both_axes_does_not_hide_what_the_others_say():
    sizes = {"a": (4, 9), "b": (9, 9), "d": (9, 2)}
    axes = {"a": ((Factor(4, None),), (Factor(9, 0),)), "b": ((Factor(9, 0),), (Factor(9, 0),))}
    found = Symmetry(axes | {"d": ((Factor(9, 0),), (Factor(2, None),))}, (9,))
    for seed in range(10):
        first = {name: draw(*shape, seed=seed + 10 * i) for i, (name, shape) in enumerate(sizes.items())}
        first["b"] = 10 * first["b"]
        second = permuted(first, found, random_permutations(found, generator(seed)))
        matching = match(first, second, found, assign, generator=generator())
        back = permuted(second, found, matching.permutations)
        assert all(torch.equal(back[name], first[name]) for name in first)
