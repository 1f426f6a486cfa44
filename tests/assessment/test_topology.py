"""Topology of landscapes: known wells, the bound that belief rests on, loops, and what cannot be analyzed."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from lla_func import Landscape, chart, topology
from lla_func.assessment import Loop, merge_tree
from lla_func.assessment._loops import loops
from lla_func.assessment._surface_error import bootstrapped, pointwise

AXIS = torch.arange(-10, 11, dtype=torch.float64) / 5
COORDS = chart.mesh(AXIS, AXIS)


def landscape(values, coords=COORDS, **more):
    return Landscape(coords, values, {}, more.pop("diagnostics", {}), **more)


def wells(tilt=0.3):
    """Two wells at (-1, 0) and (1, 0), and a saddle of height 1 at the origin between them."""
    x, y = COORDS.T
    return (x**2 - 1) ** 2 + y**2 + tilt / 4 * x


def test_a_double_well_has_two_minima_and_the_saddle_between_them():
    found = topology(landscape(wells()))
    assert [COORDS[p.minimum].tolist() for p in found.pairs] == [[-1.0, 0.0], [1.0, 0.0]]
    assert COORDS[found.saddles].tolist() == [[0.0, 0.0]]
    assert found.minima.tolist() == [p.minimum for p in found.pairs]
    assert found.pairs[1].persistence == pytest.approx(1 - 0.3 / 4)
    assert found.smad == pytest.approx(1.0)  # (1 + 0.075 + 1 - 0.075) / 2
    assert found.smad_relative == pytest.approx(1 / float(wells().max() - wells().min()))
    assert (found.basins(0.5), found.basins(0.95), found.basins()) == (2, 1, 2)


def test_without_known_errors_all_is_believed_and_that_is_said():
    found = topology(landscape(wells()))
    assert (found.bound.value, len(found.believed)) == (0.0, 2)
    assert "no error of the surface is known" in repr(found)


def samples_of(values, *, count, size, shared=0.0, seed=0):
    """Losses of samples [N, n] around values, with an error of their own at each point and one that all share."""
    generator = torch.Generator().manual_seed(seed)
    own = torch.randn(len(values), count, generator=generator, dtype=torch.float64)
    common = torch.randn(1, count, generator=generator, dtype=torch.float64)
    return values[:, None] + size * own + shared * common


def test_a_basin_is_believed_only_above_twice_the_bound():
    values = wells()
    for size, expected in ((0.1, 2), (3.0, 1)):
        sampled = samples_of(values, count=50, size=size)
        found = topology(landscape(sampled.mean(1)), per_sample=sampled)
        assert found.threshold == 2 * found.bound.data > 0
        assert len(found.believed) == expected
        assert all(p.persistence > found.threshold for p in found.believed)


def test_a_shift_that_all_points_share_does_not_count():
    values = wells()
    for shared in (0.0, 100.0):
        sampled = samples_of(values, count=50, size=0.1, shared=shared)
        found = topology(landscape(sampled.mean(1)), per_sample=sampled)
        assert len(found.believed) == 2
        assert found.bound.data < 0.1


def test_the_bound_holds_at_all_points_at_once_as_often_as_it_says():
    truth, held = torch.zeros(60, dtype=torch.float64), 0
    for seed in range(100):
        sampled = samples_of(truth, count=40, size=1.0, shared=3.0, seed=seed)
        deviation = sampled.mean(1)
        half = float(deviation.max() - deviation.min()) / 2
        held += half <= bootstrapped(sampled, confidence=0.95, draws=200, seed=seed)
    assert 85 <= held <= 100  # below 85 of 100 at 95 % in less than one of ten thousand


def test_noise_alone_makes_no_basin_that_is_believed():
    truth, false = torch.zeros(len(COORDS), dtype=torch.float64), 0
    for seed in range(20):
        sampled = samples_of(truth, count=30, size=1.0, seed=seed)
        found = topology(landscape(sampled.mean(1)), per_sample=sampled, draws=100)
        false += len(found.believed) > 1
        assert len(found.pairs) > 10
    assert false <= 3


def test_a_confidence_that_is_higher_gives_a_bound_that_is_larger():
    sampled = samples_of(wells(), count=30, size=1.0)
    bounds = [
        topology(landscape(sampled.mean(1)), per_sample=sampled, confidence=c).bound.value
        for c in (0.5, 0.95, 0.99)
    ]
    assert bounds == sorted(bounds)
    assert len(set(bounds)) == 3


def test_standard_errors_of_points_give_a_wider_bound_than_samples_do():
    sampled = samples_of(wells(), count=50, size=1.0)
    errors = {"loss": sampled.std(1) / math.sqrt(50)}
    by_points = topology(landscape(sampled.mean(1), errors=errors))
    by_samples = topology(landscape(sampled.mean(1), errors=errors), per_sample=sampled)
    assert by_points.bound.data == pytest.approx(pointwise(errors["loss"], confidence=0.95))
    assert 0 < by_samples.bound.data < by_points.bound.data


def test_the_error_of_interpolation_is_part_of_the_bound():
    sampling = {"evaluations": 100, "error": 0.01, "degree": 8, "reason": None}
    found = topology(landscape(wells(), diagnostics={"sampling": sampling}))
    assert found.bound.value == pytest.approx(0.01 * float(wells().max() - wells().min()))
    assert "interpolation" in found.bound.source
    assert topology(landscape(wells(), diagnostics={"sampling": None})).bound.value == 0


def test_further_values_have_a_topology_too():
    made = landscape(
        torch.zeros(len(COORDS)).double(), metrics={"error": wells()}, errors={"error": 0.01 * wells().abs()}
    )
    found = topology(made, value="error")
    assert (found.name, len(found.pairs)) == ("error", 2)
    assert found.bound.data > 0


def test_holes_are_counted_and_part_of_no_basin():
    values = wells()
    values[COORDS[:, 0].abs() < 0.1] = math.nan
    found = topology(landscape(values))
    assert found.holes == 21
    assert [p.saddle for p in found.pairs] == [None, None]
    assert "21 values are NaN or infinite: holes" in repr(found)
    sampled = samples_of(values, count=5, size=0.01)
    assert topology(landscape(sampled.mean(1)), per_sample=sampled).bound.data > 0
    nothing = topology(landscape(torch.full_like(values, math.inf)))
    assert (nothing.pairs, nothing.smad, nothing.holes) == ((), 0.0, len(values))


def test_profiles_and_volumes_have_a_topology():
    line = torch.tensor([0.0, 2.0, 1.0], dtype=torch.float64)
    found = topology(Landscape(torch.arange(3.0).double()[:, None], line, {}, {}))
    assert [(p.minimum, p.saddle) for p in found.pairs] == [(0, None), (2, 1)]
    axis = torch.linspace(-1, 1, 5).double()
    coords = chart.mesh(axis, axis, axis)
    found = topology(Landscape(coords, coords.square().sum(1), {}, {}), connectivity=26)
    assert [coords[i].tolist() for i in found.minima] == [[0.0, 0.0, 0.0]]


def test_the_same_seed_gives_the_same_bound():
    sampled = samples_of(wells(), count=30, size=1.0)
    one, two, other = (
        topology(landscape(sampled.mean(1)), per_sample=sampled, seed=s).bound for s in (1, 1, 2)
    )
    assert one == two != other


def test_loops_without_gudhi_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "gudhi", None)
    with pytest.raises(ImportError, match=r"pip install 'lla-func\[topology\]'"):
        topology(landscape(wells()), with_loops=True)


@pytest.mark.parametrize("connectivity", [4, 8])
def test_a_ring_valley_is_a_loop_from_its_bottom_to_the_hill_inside(connectivity):
    pytest.importorskip("gudhi")
    radius = COORDS.norm(dim=1)
    values = (radius**2 - 1.5) ** 2
    found = topology(landscape(values), connectivity=connectivity, with_loops=True)
    best = found.loops[0]
    assert best.death == pytest.approx(1.5**2)
    assert best.birth < 0.5
    assert len(found.believed_loops) == len(found.loops)


def test_loops_close_over_corners_with_eight_neighbors_only():
    pytest.importorskip("gudhi")
    values = np.array([[9.0, 0.0, 9.0], [0.0, 9.0, 0.0], [9.0, 0.0, 9.0]])
    assert loops(values, 8) == (Loop(0.0, 9.0),)
    assert loops(values, 4) == ()


@pytest.mark.parametrize("connectivity", [4, 8])
def test_basins_are_those_of_gudhi(connectivity):
    gudhi = pytest.importorskip("gudhi")
    generator = np.random.default_rng(0)
    for _ in range(20):
        values = generator.integers(0, 30, size=(12, 9)).astype(float)
        values[generator.random(values.shape) < 0.05] = np.nan
        heights = np.where(np.isfinite(values), values, np.inf)
        where = "vertices" if connectivity == 4 else "top_dimensional_cells"
        complex_ = gudhi.CubicalComplex(**{where: heights})
        complex_.compute_persistence()
        theirs = sorted(map(tuple, complex_.persistence_intervals_in_dimension(0).tolist()))
        ours = sorted((p.birth, p.death) for p in merge_tree(values, connectivity).pairs)
        assert ours == [pair for pair in theirs if pair[0] < pair[1]]
        assert all(loop.persistence > 0 for loop in loops(values, connectivity))


SCATTERED = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("made", "options", "said"),
    [
        (None, {}, "landscape is of type NoneType; pass a Landscape"),
        (landscape(torch.zeros(3).double(), SCATTERED), {}, "mesh"),
        (landscape(wells()), {"value": "accuracy"}, "value='accuracy' is not one of 'loss'"),
        (landscape(wells()), {"connectivity": 6}, "connectivity=6 is not allowed.*pass 4 or 8"),
        (landscape(wells()), {"connectivity": "8"}, "connectivity='8' is not a whole number"),
        (
            landscape(wells()),
            {"confidence": 1.0},
            "confidence=1 is not allowed; pass a number between 0 and 1",
        ),
        (landscape(wells()), {"draws": 5}, "draws=5 is too small"),
        (landscape(wells()), {"seed": -1}, "seed=-1 is too small"),
        (landscape(wells()), {"with_loops": "yes"}, "with_loops='yes' is neither True nor False"),
        (
            landscape(wells()),
            {"per_sample": torch.zeros(5, 441)},
            r"per_sample has shape \[5, 441\]; pass \[441, n\]",
        ),
        (landscape(wells()), {"per_sample": torch.zeros(441, 1)}, "at least two samples"),
        (landscape(wells()), {"per_sample": torch.full((441, 4), math.nan)}, "per_sample has NaN"),
        (
            landscape(wells()),
            {"per_sample": torch.full((441, 4), 1e6)},
            "means of per_sample.*are off the values",
        ),
        (landscape(wells(), metrics={"all": torch.zeros(441, 3)}), {"value": "all"}, r"shape \[441, 3\]"),
    ],
)
def test_what_cannot_be_analyzed_is_refused(made, options, said):
    with pytest.raises((ValueError, TypeError), match=said):
        topology(made, **options)
    with pytest.raises(ValueError, match="threshold=-1 is not allowed"):
        topology(landscape(wells())).basins(-1)
