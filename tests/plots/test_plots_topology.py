"""Pictures of a topology: what is drawn of basins, loops and the bound."""

from __future__ import annotations

import math

import pytest
import torch

from lla_func import Landscape, plots, topology
from lla_func.assessment import Loop
from lla_func.plots._topology import MOST


def profile(values, **more):
    values = torch.tensor(values, dtype=torch.float64)
    coords = torch.arange(len(values), dtype=torch.float64)[:, None]
    return topology(Landscape(coords, values, {}, {}, **more))


def with_bound(values, size):
    return profile(values, errors={"loss": torch.full((len(values),), size, dtype=torch.float64)})


WELLS = [5.0, 0.0, 3.0, 1.0, 4.0, 3.9, 6.0]


def test_each_basin_is_a_bar_from_birth_to_death_the_most_persistent_below():
    ax = plots.barcode(profile(WELLS))
    bars = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2]
    assert [tuple(bar) for bar in bars[1:]] == [(1.0, 3.0), (3.9, 4.0)]
    assert bars[0][0] == 0.0
    assert ax.lines[1].get_marker() == ">"
    assert not ax.patches


def test_the_bound_is_a_band_and_what_does_not_reach_beyond_is_pale():
    found = with_bound(WELLS, 0.1)
    ax = plots.barcode(found, title="wells")
    assert [patch.get_width() for patch in ax.patches] == pytest.approx([found.threshold] * 3)
    assert [patch.get_x() for patch in ax.patches] == [0.0, 1.0, 3.9]
    bars = [line for line in ax.lines if len(line.get_xdata()) == 2]
    assert [bar.get_alpha() for bar in bars] == [1.0, 1.0, 0.35]
    assert ax.get_title() == "wells"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "basins",
        "within twice the error bound",
    ]


def test_a_diagram_has_points_at_birth_and_death_and_the_band_above_the_diagonal():
    found = with_bound(WELLS, 0.1)
    ax = plots.diagram(found)
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines[1:]]
    assert points[1:] == [(1.0, 3.0), (3.9, 4.0)]
    assert ax.lines[1].get_marker() == "^"
    assert [line.get_markerfacecolor() == "none" for line in ax.lines[1:]] == [False, False, True]
    (band,) = ax.collections
    heights = band.get_paths()[0].vertices
    assert float((heights[:, 1] - heights[:, 0]).max()) == pytest.approx(found.threshold)


def test_loops_are_drawn_in_a_color_of_their_own():
    found = profile(WELLS)
    looped = type(found)(**{**vars(found), "loops": (Loop(1.0, 2.5), Loop(2.0, math.inf))})
    for draw in (plots.barcode, plots.diagram):
        ax = draw(looped)
        assert len({line.get_color() for line in ax.lines}) >= 2
        assert "loops" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_of_very_many_basins_the_most_persistent_are_drawn_and_the_rest_counted():
    ax = plots.barcode(profile([0.0, 1.0] * 60))
    assert sum(len(line.get_xdata()) == 2 for line in ax.lines) == MOST
    assert [text.get_text() for text in ax.texts] == ["20 more"]


def test_a_surface_of_holes_gives_empty_pictures():
    found = profile([math.nan, math.nan])
    for draw in (plots.barcode, plots.diagram):
        draw(found, legend=False)


def test_pictures_are_written(tmp_path):
    for draw in (plots.barcode, plots.diagram):
        assert plots.save(draw(with_bound(WELLS, 0.1)).figure, tmp_path / draw.__name__).stat().st_size > 1000


def test_what_is_no_topology_is_refused():
    with pytest.raises(TypeError, match="topology is of type list; pass what topology"):
        plots.barcode([])
