"""The picture of a spectrum shows all of it, at every size."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lla_func import plots


def spectrum(nodes, weights, width):
    nodes, weights = np.asarray(nodes, dtype=float), np.asarray(weights, dtype=float)
    grid = np.linspace(nodes.min() - 5 * width, nodes.max() + 5 * width, 801)
    bumps = np.exp(-0.5 * ((grid[:, None, None] - nodes) / width) ** 2) / width
    return grid, (bumps * weights).sum(axis=2).mean(axis=1), nodes, weights


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_density_shows_a_small_outlier_far_from_the_bulk_at_every_size(size):
    nodes, weights = np.array([[-0.1, 0.0, 0.2, 30.0]]) * size, [[0.3, 0.5, 0.2 - 1e-6, 1e-6]]
    grid, density, *_ = arrays = spectrum(nodes, weights, 0.1 * size)
    ax = plots.density(*arrays, {"r_e": 0.25, "K_hn": None, "class": "mixed"})
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] < density[np.abs(grid - 30 * size).argmin()] < density.max() < ax.get_ylim()[1]
    assert ax.get_xlim()[0] < grid[0] < grid[-1] < ax.get_xlim()[1]
    ticks = [c for c in ax.collections if c.get_label().endswith("Ritz values")]
    ends = {c.get_label(): sorted({round(s[0, 0] / size, 6) for s in c.get_segments()}) for c in ticks}
    assert ends == {"negative Ritz values": [-0.1], "positive Ritz values": [0.0, 0.2, 30.0]}
    (box,) = ax.artists
    assert box.txt.get_text() == "r_e = 0.25\nK_hn = undefined\nclass = mixed"
    ax.figure.draw_without_rendering()


@pytest.mark.parametrize(("sign", "corner"), [(1, "upper right"), (-1, "upper left")])
def test_criteria_are_written_where_the_density_is_not(sign, corner):
    nodes = sign * np.array([[0.0, 0.1, 9.0]])
    box = plots.density(*spectrum(nodes, [[0.5, 0.4, 0.1]], 0.05), {"r_e": 1.0}).artists[0]
    assert box.loc == {"upper right": 1, "upper left": 2}[corner]


def test_probes_with_fewer_nodes_are_padded_with_nan():
    grid, density, *_ = spectrum([[1.0, 2.0]], [[0.5, 0.5]], 0.1)
    ax = plots.density(grid, density, [[1.0, 2.0], [1.5, math.nan]], [[0.5, 0.5], [1.0, 0.5]])
    (ticks,) = [c for c in ax.collections if c.get_label().endswith("Ritz values")]
    assert sorted(segment[0, 0] for segment in ticks.get_segments()) == [1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plots.density([0, 1], [1], [[0]], [[1]]), "not two vectors"),
        (lambda: plots.density([0, 1], [1, 1], [[0]], [[1, 2]]), "differ in shape"),
        (lambda: plots.density([0, 1], [0, 0], [[0]], [[1]]), "nowhere positive"),
    ],
)
def test_what_can_not_be_drawn_is_refused_in_words(call, words):
    with pytest.raises(ValueError, match=words):
        call()
