"""A topology as a file: arrays of its points and basins, and the rest as JSON text beside them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from lla_func.assessment._loops import Loop
from lla_func.assessment._merge_tree import MergeTree, Pair
from lla_func.assessment._surface_error import Bound
from lla_func.assessment._topology import Topology
from lla_func.errors import instance
from lla_func.files import PathLike, check_head, load_arrays, read_head, save_arrays

FORMAT = "topology"
VERSION = 1


def save_topology(topology: Topology, path: PathLike) -> Path:
    """Writes a topology to an npz file; :func:`load_topology` is the exact inverse.

    Raises:
        TypeError: it is no Topology.
        OSError: the file cannot be written.

    Example:
        >>> import os, tempfile
        >>> from lla_func import Landscape, topology
        >>> coords = torch.arange(3.0, dtype=torch.float64)[:, None]
        >>> found = topology(Landscape(coords, torch.tensor([0.0, 2.0, 1.0]).double(), {}, {}))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again = load_topology(save_topology(found, os.path.join(folder, "wells.npz")))
        >>> again.pairs == found.pairs, again.bound == found.bound
        (True, True)
    """
    instance("topology", topology, Topology, "what topology(landscape) returns")
    head = {
        "format": FORMAT,
        "version": VERSION,
        "bound": topology.bound._asdict(),
        "smad": topology.smad,
        "connectivity": topology.connectivity,
        "holes": topology.holes,
        "name": topology.name,
        "loops": topology.loops is not None,
    }
    none = -1  # where a basin has no saddle, or a node nothing above it
    ends = [(p.minimum, none if p.saddle is None else p.saddle) for p in topology.pairs]
    parents = [(node, none if up is None else up) for node, up in topology.tree.parents.items()]
    return save_arrays(
        path,
        values=topology.values,
        coords=topology.coords,
        pairs=np.array(ends, dtype=np.int64).reshape(-1, 2),
        parents=np.array(parents, dtype=np.int64).reshape(-1, 2),
        loops=np.array(topology.loops or (), dtype=np.float64).reshape(-1, 2),
        head=np.array(json.dumps(head)),
    )


def load_topology(path: PathLike) -> Topology:
    """Reads a topology that :func:`save_topology` wrote.

    Raises:
        ValueError: the file is none, is damaged, or is of a version that this one does not know.
        OSError: the file cannot be read.
    """
    arrays = load_arrays(path)
    head = read_head(path, arrays, "is no topology")
    check_head(path, head, FORMAT, VERSION)
    try:
        values = torch.from_numpy(arrays["values"])
        heights = values.tolist()
        pairs = tuple(
            Pair(m, None if s < 0 else s, heights[m], float("inf") if s < 0 else heights[s])
            for m, s in arrays["pairs"].tolist()
        )
        parents = {node: None if up < 0 else up for node, up in arrays["parents"].tolist()}
        return Topology(
            tree=MergeTree(pairs, parents),
            bound=Bound(**head["bound"]),
            smad=head["smad"],
            loops=tuple(Loop(*ends) for ends in arrays["loops"].tolist()) if head["loops"] else None,
            connectivity=head["connectivity"],
            holes=head["holes"],
            name=head["name"],
            values=values,
            coords=torch.from_numpy(arrays["coords"]),
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error})") from error
