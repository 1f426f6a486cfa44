"""Topologies as files: read again as they were, also by later versions, and refused where they are something else."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from lla_func import Landscape, chart, load, topology
from lla_func.assessment import Loop, load_topology, save_topology
from lla_func.files import load_arrays, save_arrays

OLD = Path(__file__).parents[1] / "data" / "topology_v1.npz"


def found():
    axis = torch.arange(-4, 5, dtype=torch.float64) / 2
    coords = chart.mesh(axis, axis)
    x, y = coords.T
    values = (x**2 - 1) ** 2 + y**2 + 0.1 * x
    values[0] = math.nan
    errors = {"loss": torch.full_like(values, 0.01)}
    return topology(Landscape(coords, values, {}, {}, errors=errors))


def same(one, two):
    plain = ("tree", "bound", "smad", "loops", "connectivity", "holes", "name")
    assert [getattr(one, name) for name in plain] == [getattr(two, name) for name in plain]
    torch.testing.assert_close(one.values, two.values, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(one.coords, two.coords)
    assert repr(one) == repr(two)


@pytest.mark.parametrize("loops", [None, (), (Loop(0.5, math.inf), Loop(0.1, 0.2))])
def test_a_topology_is_read_as_it_was_written(loops, tmp_path):
    made = found()
    made = type(made)(**{**vars(made), "loops": loops})
    same(load_topology(save_topology(made, tmp_path / "t.npz")), made)


def test_a_topology_of_holes_is_read_as_it_was_written(tmp_path):
    empty = topology(
        Landscape(torch.arange(3.0).double()[:, None], torch.full((3,), math.nan).double(), {}, {})
    )
    same(load_topology(save_topology(empty, tmp_path / "t.npz")), empty)


def test_files_of_the_first_version_are_read():
    same(load_topology(OLD), found())
    same(load(OLD), found())  # by the door for all results


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"head": np.array('{"format": "topology", "version": 99}')},
            "of version 99; this program reads",
        ),
        ({"head": np.array('{"format": "other", "version": 1}')}, "holds a 'other'"),
        ({"head": np.array("[1]")}, "is no topology"),
        ({"pairs": np.array([[10**6, -1]])}, "is damaged"),
    ],
)
def test_other_files_are_refused(change, said, tmp_path):
    arrays = load_arrays(save_topology(found(), tmp_path / "t.npz"))
    with pytest.raises(ValueError, match=said):
        load_topology(save_arrays(tmp_path / "changed.npz", **{**arrays, **change}))
    with pytest.raises(ValueError, match="is no topology"):
        load_topology(save_arrays(tmp_path / "arrays.npz", values=np.zeros(3)))
    with pytest.raises(TypeError, match="topology is of type int"):
        save_topology(3, tmp_path / "t.npz")
