"""The merge tree of sublevel sets on a grid: where basins begin, where they meet, and how deep each is till then."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np

from lla_func.errors import positive_int


class Pair(NamedTuple):
    """A basin: it begins at a minimum and ends at the saddle where it meets a deeper one.

    Attributes:
        minimum: the point where it begins, an index into the points of the grid.
        saddle: the point where it ends; None for a basin that never meets a deeper one.
        birth: the value at the minimum.
        death: the value at the saddle; infinite where there is none.
    """

    minimum: int
    saddle: int | None
    birth: float
    death: float

    @property
    def persistence(self) -> float:
        """The depth of the basin, death less birth."""
        return self.death - self.birth


class MergeTree(NamedTuple):
    """How basins join as the level rises.

    Attributes:
        pairs: the basins, the most persistent first; those of equal persistence by the index of their minimum.
        parents: for each node, a minimum or a saddle by its index, the saddle above it; None for a root.
    """

    pairs: tuple[Pair, ...]
    parents: dict[int, int | None]

    @property
    def minima(self) -> tuple[int, ...]:
        """The leaves, by their index, in the order of the pairs."""
        return tuple(pair.minimum for pair in self.pairs)

    @property
    def saddles(self) -> tuple[int, ...]:
        """The inner nodes, by their index; from several basins that meet in one point comes one saddle."""
        return tuple(sorted({node for node in self.parents.values() if node is not None}))


def connectivity_of(dim: int, connectivity: int | None) -> int:
    """How many neighbors a point of a grid has, checked: 2 C across faces (the default), or all 3^C - 1.

    Example:
        >>> connectivity_of(2, None), connectivity_of(2, 8), connectivity_of(1, None)
        (4, 8, 2)
    """
    if connectivity is None:
        return 2 * dim
    allowed = sorted({2 * dim, 3**dim - 1})
    if positive_int("connectivity", connectivity) not in allowed:
        raise ValueError(
            f"connectivity={connectivity} is not allowed on a grid of {dim} coordinate{'s' * (dim > 1)}; pass "
            f"{' or '.join(map(str, allowed))}"
        )
    return connectivity


def merge_tree(values: np.ndarray, connectivity: int | None = None) -> MergeTree:
    """Builds the tree by union-find, the points in the order of their values.

    Ties are broken by index: of two points with the same value the one with the smaller index (in the order of
    ``values.ravel()``) comes first, so a plateau is one minimum, named by its first point, and of two basins that are
    equally deep the one with the smaller index goes on where they meet. Pairs of no persistence, which only that rule
    makes, are left out. Values that are not finite are holes: no point of the grid, with no neighbors.

    Args:
        values: on a grid, [n_1, ..., n_C].
        connectivity: 2 C neighbors across faces (4 in a plane), the default, or all 3^C - 1 around (8).

    Source: Edelsbrunner and Harer 2010, Computational Topology, sections VI.2 and VII.1 (the elder rule).

    Example:
        >>> tree = merge_tree(np.array([0.0, 3.0, 1.0, 5.0, 2.0]))
        >>> [(pair.minimum, pair.saddle, pair.persistence) for pair in tree.pairs]
        [(0, None, inf), (4, 3, 3.0), (2, 1, 2.0)]
    """
    flat = np.ascontiguousarray(values, dtype=np.float64).ravel()
    around = neighbors(values.shape, connectivity_of(values.ndim, connectivity)).tolist()
    order = np.argsort(flat, kind="stable")
    order = order[np.isfinite(flat[order])].tolist()
    height = flat.tolist()
    rank = {point: number for number, point in enumerate(order)}
    leader = list(range(len(height)))
    entered = bytearray(len(height))
    least = list(range(len(height)))  # by leader: the point where the basin began
    top: dict[int, int] = {}  # by leader: the node of the tree that the basin has come to
    parents: dict[int, int | None] = {}
    pairs: list[Pair] = []

    def find(point: int) -> int:
        while leader[point] != point:
            leader[point] = leader[leader[point]]
            point = leader[point]
        return point

    for point in order:
        entered[point] = 1
        met = {find(other) for other in around[point] if other >= 0 and entered[other]}
        if not met:
            top[point] = point
            continue
        eldest, *younger = sorted(met, key=lambda basin: rank[least[basin]])
        ending = [basin for basin in younger if height[least[basin]] < height[point]]
        for basin in ending:
            birth = least[basin]
            pairs.append(Pair(birth, point, height[birth], height[point]))
        if ending:
            parents.update({top[basin]: point for basin in (eldest, *ending)})
            top[eldest] = point
        for other in (*younger, point):
            leader[other] = eldest
    for root in sorted({find(point) for point in order}):  # one for each connected part
        birth = least[root]
        pairs.append(Pair(birth, None, height[birth], math.inf))
        parents[top[root]] = None
    pairs.sort(key=lambda pair: (-pair.persistence, pair.minimum))
    return MergeTree(tuple(pairs), parents)


def neighbors(shape: tuple[int, ...], connectivity: int) -> np.ndarray:
    """The indices of each point's neighbors on a grid, [N, connectivity], -1 where there is none."""
    steps = [step for step in itertools.product((-1, 0, 1), repeat=len(shape)) if any(step)]
    if connectivity == 2 * len(shape):
        steps = [step for step in steps if sum(map(abs, step)) == 1]
    places = np.indices(shape).reshape(len(shape), -1)
    found = []
    for step in steps:
        moved = places + np.array(step)[:, None]
        inside = ((moved >= 0) & (moved < np.array(shape)[:, None])).all(0)
        found.append(np.where(inside, np.ravel_multi_index(tuple(moved), shape, mode="clip"), -1))
    return np.stack(found, axis=1)


def smad(tree: MergeTree, values: np.ndarray) -> float:
    """The saddle-minimum average distance: the mean height of the tree's leaves, 0 for a single basin.

    For each minimum the difference between the first saddle above it, where its basin meets any other, and itself; the
    deepest minimum counts, too. So it is not the mean persistence, for which a basin goes on until it meets a deeper
    one.

    Source: the package Landscaper of the authors of arXiv 2602.07135 (Chen, Hadler et al. 2026), whose function
    ``smad`` averages these gaps over the edges between minima and saddles of the tree of sublevel sets (its release
    1.3.1 takes the contour tree instead); of the paper only the abstract was at hand. Theirs connects points by the
    Gabriel graph, which on a square grid is that of 4 neighbors; there the numbers agree.

    Example:
        >>> profile = np.array([0.0, 3.0, 1.0, 5.0, 2.0])
        >>> round(smad(merge_tree(profile), profile), 3)  # (3 - 0), (3 - 1) and (5 - 2)
        2.667
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    gaps = [flat[up] - flat[leaf] for leaf in tree.minima if (up := tree.parents[leaf]) is not None]
    return float(np.mean(gaps)) if gaps else 0.0
