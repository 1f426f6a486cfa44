"""Layer by layer: the blocks are those of the dense Hessian, and their traces add up."""

from __future__ import annotations

import pytest
import torch

from lla_func.hessian._layerwise import layers_of, layerwise, table
from tests.cases import objective as objective_of
from tests.dense import dense


@pytest.fixture(scope="module")
def found():
    objective = objective_of("mlp")
    return objective, dense(objective), layerwise(objective, tol=1e-6, max_products=400)


def test_each_row_is_the_diagonal_block_of_the_dense_hessian(found):
    objective, matrix, rows = found
    assert [row.layer for row in rows] == ["0", "2"]
    start = 0
    for row in rows:
        block = matrix[start : start + row.parameters, start : start + row.parameters]
        exact = torch.linalg.eigvalsh(block)
        assert row.largest == pytest.approx(float(exact[-1]), rel=1e-8)
        assert row.smallest == pytest.approx(float(exact[0]), rel=1e-8, abs=row.residual)
        assert abs(row.trace.value - float(exact.sum())) < 4 * row.trace.standard_error + 1e-9
        start += row.parameters
    assert start == len(objective.theta)


def test_a_module_inside_another_is_a_layer_of_its_own():
    layers = layers_of(objective_of("transformer").layout)
    assert sum(len(names) for names in layers.values()) == len(objective_of("transformer").layout.names)
    assert layers["head"] == ("head.weight", "head.bias")


def test_patterns_choose_the_layers(found):
    rows = layerwise(found[0], ["*.weight", "*.bias"], max_products=10)
    assert [(row.layer, row.parameters) for row in rows] == [("*.weight", 64), ("*.bias", 11)]
    with pytest.raises(ValueError, match="'conv' matches no parameter"):
        layerwise(found[0], ["conv"])


def test_the_table_has_a_row_for_each_layer(found):
    lines = table(found[2]).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| 0 | 48 | ")
