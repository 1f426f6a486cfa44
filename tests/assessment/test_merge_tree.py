"""Merge trees against the definition of persistence, ties and holes among them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lla_func.assessment import merge_tree, smad
from lla_func.assessment._merge_tree import connectivity_of, neighbors
from tests.assessment.grids import pairs_by_definition

LEVELS = st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, math.nan, math.inf])


def found(values, connectivity):
    pairs = merge_tree(values, connectivity).pairs
    return sorted(((pair.minimum, pair.saddle) for pair in pairs), key=repr)


def grids(*sides):
    return arrays.arrays(np.float64, st.tuples(*(st.integers(1, side) for side in sides)), elements=LEVELS)


@settings(max_examples=150, deadline=None)
@given(grids(5, 5), st.sampled_from([4, 8]))
def test_pairs_of_a_plane_with_ties_and_holes_are_those_of_the_definition(values, connectivity):
    assert found(values, connectivity) == pairs_by_definition(values, connectivity)


@settings(max_examples=80, deadline=None)
@given(grids(14))
def test_pairs_of_a_profile_are_those_of_the_definition(values):
    assert found(values, 2) == pairs_by_definition(values, 2)


@settings(max_examples=30, deadline=None)
@given(grids(3, 3, 3), st.sampled_from([6, 26]))
def test_pairs_of_a_volume_are_those_of_the_definition(values, connectivity):
    assert found(values, connectivity) == pairs_by_definition(values, connectivity)


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(np.float64, (4, 4), elements=st.floats(-1, 1, width=32)), st.floats(0.0, 0.5))
def test_a_basin_deeper_than_twice_the_largest_change_outlives_it(values, size):
    noise = np.random.default_rng(0).uniform(-size, size, values.shape)
    before, after = (merge_tree(v).pairs for v in (values, values + noise))
    assert len(after) >= sum(pair.persistence > 2 * size + 1e-9 for pair in before)


@settings(max_examples=60, deadline=None)
@given(grids(5, 5), st.sampled_from([4, 8]))
def test_the_tree_has_a_leaf_for_each_basin_and_a_root_for_each_part(values, connectivity):
    tree = merge_tree(values, connectivity)
    flat = values.ravel()
    assert set(tree.minima) <= set(tree.parents)
    assert set(tree.parents) == set(tree.minima) | set(tree.saddles)
    assert sum(up is None for up in tree.parents.values()) == sum(p.saddle is None for p in tree.pairs)
    children = dict.fromkeys(tree.parents, 0)
    for node, up in tree.parents.items():
        if up is not None:
            assert flat[node] <= flat[up]
            children[up] += 1
    assert all(children[leaf] == 0 for leaf in tree.minima)
    assert all(children[saddle] >= 2 for saddle in tree.saddles)


def test_four_neighbors_part_basins_that_eight_join():
    values = np.array([[0.0, 9.0], [9.0, 1.0]])
    assert [pair.persistence for pair in merge_tree(values, 4).pairs] == [math.inf, 8.0]
    assert [pair.persistence for pair in merge_tree(values, 8).pairs] == [math.inf]
    assert merge_tree(values).pairs == merge_tree(values, 4).pairs


def test_three_basins_that_meet_in_one_point_have_one_saddle_and_two_pairs():
    values = np.array([[9.0, 0.0, 9.0], [1.0, 5.0, 9.0], [9.0, 2.0, 9.0]])
    tree = merge_tree(values)
    assert tree.saddles == (4,)
    assert [(p.minimum, p.saddle, p.persistence) for p in tree.pairs] == [
        (1, None, math.inf),
        (3, 4, 4.0),
        (7, 4, 3.0),
    ]


def test_a_plateau_is_one_minimum_named_by_its_first_point():
    values = np.array([[3.0, 1.0, 3.0], [1.0, 1.0, 1.0], [3.0, 1.0, 3.0]])
    assert [pair.minimum for pair in merge_tree(values).pairs] == [1]


def test_equally_deep_basins_go_on_in_the_order_of_their_points():
    assert [(p.minimum, p.saddle) for p in merge_tree(np.array([1.0, 2.0, 1.0])).pairs] == [(0, None), (2, 1)]


def test_a_wall_of_holes_parts_the_surface_and_each_part_has_its_own_root():
    values = np.array([[0.0, math.nan, 2.0], [1.0, math.inf, 3.0]])
    tree = merge_tree(values)
    assert [(p.minimum, p.saddle) for p in tree.pairs] == [(0, None), (2, None)]
    assert merge_tree(np.full((2, 2), math.nan)).pairs == ()


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e8])
def test_persistence_scales_with_the_values(scale):
    values = np.random.default_rng(1).normal(size=(9, 8))
    plain, scaled = (merge_tree(v, 8) for v in (values, scale * values))
    assert [p.minimum for p in plain.pairs] == [p.minimum for p in scaled.pairs]
    finite = [(p.persistence, q.persistence) for p, q in zip(plain.pairs, scaled.pairs, strict=True)][1:]
    assert all(q == pytest.approx(scale * p, rel=1e-12) for p, q in finite)


def test_smad_is_the_mean_height_from_minima_to_their_first_saddles():
    values = np.array([0.0, 4.0, 1.0, 3.0, 2.0, 9.0])  # first saddles: 4 above 0, 3 above 1, 3 above 2
    assert smad(merge_tree(values), values) == pytest.approx((4 + 2 + 1) / 3)
    assert smad(merge_tree(values[:2]), values[:2]) == 0.0


def test_neighbors_are_those_one_step_away():
    assert sorted(neighbors((3, 3), 4)[4].tolist()) == [1, 3, 5, 7]
    assert sorted(neighbors((3, 3), 8)[4].tolist()) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert sorted(neighbors((3, 3), 4)[2].tolist()) == [-1, -1, 1, 5]
    assert sorted(neighbors((2, 2, 2), 26)[0].tolist()) == [-1] * 19 + [1, 2, 3, 4, 5, 6, 7]


def test_a_connectivity_that_a_grid_does_not_have_is_refused():
    with pytest.raises(
        ValueError, match="connectivity=6 is not allowed on a grid of 2 coordinates; pass 4 or 8"
    ):
        connectivity_of(2, 6)
    with pytest.raises(ValueError, match="on a grid of 1 coordinate; pass 2"):
        connectivity_of(1, 4)
