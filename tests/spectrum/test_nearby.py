"""The trace by a nearby operator of known trace: taken where it is the better way, and its error covers."""

from __future__ import annotations

import pytest
import torch

from lla_func.spectrum import Estimate, from_matrix, trace
from tests.dense import draw

P = 150


def symmetric(seed, size):
    found = draw(P, P, seed=seed)
    return size * (found + found.T)


def with_nearby(matrix, near, error=0.0):
    known = Estimate(float(near.trace()), error)
    return from_matrix(matrix)._replace(nearby=lambda: (from_matrix(near), known))


def test_a_close_operator_is_used_and_the_error_is_that_of_the_difference():
    near = symmetric(0, 1.0)
    operator = with_nearby(near + symmetric(1, 0.01), near)
    found = trace(operator, max_products=40, tol=1e-9)
    plain = trace(operator._replace(nearby=None), max_products=40, tol=1e-9)
    assert found.method == "ggn+hutchinson"
    assert plain.method == "hutchinson"
    assert found.error < 0.1 * plain.error
    assert found.products <= 40


def test_a_distant_operator_is_not_used_and_its_probes_are_not_lost():
    matrix = symmetric(0, 1.0)
    found = trace(with_nearby(matrix, symmetric(1, 1.0)), max_products=40, tol=1e-9)
    assert found.method == "hutchinson"
    assert found.products <= 40
    assert len(found.samples) == found.products - 6  # of the twelve products to find out, six gave samples


def test_an_operator_without_one_after_all_is_sampled_as_ever():
    operator = from_matrix(symmetric(0, 1.0))
    found = trace(operator._replace(nearby=lambda: None), max_products=40, tol=1e-9)
    expected = trace(operator, max_products=40, tol=1e-9)
    assert (found.value, found.error, found.products) == (expected.value, expected.error, expected.products)


def test_its_error_covers_and_holds_that_of_the_known_trace():
    near = symmetric(0, 1.0)
    difference = symmetric(1, 0.1)
    truth = float((near + difference).trace())
    scores = []
    for seed in range(80):
        found = trace(with_nearby(near + difference, near), max_products=40, tol=1e-9, seed=seed)
        scores.append((found.value - truth) / found.error)
    spread = float(torch.tensor(scores).std())
    assert 0.7 < spread < 1.3
    assert trace(with_nearby(near + difference, near, error=100.0), max_products=40).error == pytest.approx(
        100, rel=0.01
    )
