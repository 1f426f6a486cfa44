"""What viz_path found of trainings, with its table, and to and from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lla_func.facades._common import files_line
from lla_func.files import check_head, json_types
from lla_func.landscape import Landscape, store

FORMAT, VERSION = "trajectory", 1

ALONG = ("coordinates", "distances", "losses", "plane_losses", "steps")
"""What is known of each checkpoint."""


@dataclass(frozen=True)
class TrajectoryResult:
    """What :func:`lla_func.viz_path` found of one or several trainings, by checkpoint: all runs one after another.

    Attributes:
        landscape: the loss on the plane; its chart's summary has what the plane is.
        explained: the share of the checkpoints' squared distances from the plane's origin along each axis, [2].
        coordinates: of the checkpoints' projections onto the plane, [T, 2].
        distances: of the checkpoints from the plane, [T]: what the picture does not show of the path.
        losses: the true loss at each checkpoint, [T].
        plane_losses: the loss at its projection, [T].
        steps: of training, [T].
        lengths: how many checkpoints each run has; ``result.losses.split(result.lengths)`` has the runs apart.
        names: of the runs.
        settings: all that is needed to repeat the run, as saved in JSON.
        seconds: how long the evaluation took.
        paths: the files written, by what they hold; empty with ``to_save=False``.
    """

    landscape: Landscape
    explained: Tensor
    coordinates: Tensor
    distances: Tensor
    losses: Tensor
    plane_losses: Tensor
    steps: Tensor
    lengths: tuple[int, ...]
    names: tuple[str, ...]
    settings: Mapping[str, Any]
    seconds: float
    paths: Mapping[str, Path] = field(default_factory=dict)

    def __repr__(self) -> str:
        """The runs as a short table, for a notebook; arrays are in the attributes."""
        first, second = (100 * float(share) for share in self.explained)
        kind = self.landscape.chart["plane"]
        rows = [
            f"TrajectoryResult: {len(self.losses)} checkpoints and {len(self.landscape.losses)} points in "
            f"{self.seconds:.1f} s",
            f"  plane by {kind}: its axes explain {first:.3g} % and {second:.3g} % of the path",
            f"  {'run':<20}{'checkpoints':<13}{'first loss':<13}{'last loss':<13}{'on the plane':<14}distance",
        ]
        parts = zip(
            *(self.names, self.lengths, self.losses.split(self.lengths)),
            *(self.plane_losses.split(self.lengths), self.distances.split(self.lengths)),
            strict=True,
        )
        for name, count, losses, shown, distances in parts:
            begun, ended, over = float(losses[0]), float(losses[-1]), float(shown[-1])
            rows.append(
                f"  {name:<20}{count:<13}{begun:<13.5g}{ended:<13.5g}{over:<14.5g}{float(distances[-1]):.3g}"
            )
        return "\n".join([*rows, *files_line(self.paths)])

    def save(self, path: str | Path) -> Path:
        """Writes all of it to one npz file, which :func:`lla_func.load` reads."""
        head = {
            "format": FORMAT,
            "version": VERSION,
            "names": self.names,
            "lengths": self.lengths,
            "settings": self.settings,
            "seconds": self.seconds,
        }
        arrays = {name: getattr(self, name) for name in ("explained", *ALONG)}
        arrays["head"] = np.array(json.dumps(json_types(head, "trajectory")))
        return store.save_landscapes(path, [self.landscape], ["loss"], **arrays)


def read_trajectory(
    path: str | Path, arrays: Mapping[str, np.ndarray], head: Mapping[str, Any]
) -> TrajectoryResult:
    """The result in a file whose arrays and head are known.

    Raises:
        ValueError: it is of a version that this one does not know, or damaged.
    """
    check_head(path, head, FORMAT, VERSION)
    try:
        (landscape,), _ = store.load_landscapes(path)
        along: Any = {name: torch.from_numpy(arrays[name]) for name in ("explained", *ALONG)}
        return TrajectoryResult(
            landscape=landscape,
            lengths=tuple(head["lengths"]),
            names=tuple(head["names"]),
            settings=head["settings"],
            seconds=head["seconds"],
            **along,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error})") from error
