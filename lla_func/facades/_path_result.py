"""What viz_path found, with its table, and to and from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lla_func.assessment import Topology, load_topology
from lla_func.connectivity import Curve
from lla_func.facades import _trajectory_result as trajectories
from lla_func.facades._common import files_line
from lla_func.facades._models import MAIN
from lla_func.facades._trajectory_result import TrajectoryResult
from lla_func.files import check_head, json_types, load_arrays, read_head
from lla_func.geometry import Trajectory
from lla_func.landscape import Landscape, store
from lla_func.spectrum import Estimate

FORMAT, VERSION = "path", 1


class PairBarrier(NamedTuple):
    """The barrier on the way between two models.

    Attributes:
        metric: the name of the loss.
        between: the names of the two models.
        estimate: max over t of L(t) - ((1 - t) L(a) + t L(b)), at least 0.
        at: where it is, as the share of the way from the first to the second.
        ends: the losses of the two.
    """

    metric: str
    between: tuple[str, str]
    estimate: Estimate
    at: float
    ends: tuple[float, float]


@dataclass(frozen=True)
class PathResult:
    """What :func:`lla_func.viz_path` found.

    Attributes:
        landscapes: by the name of the metric; the first one is ``"loss"``.
        names: of the models, or of the marked points, [n].
        coordinates: theirs on the chart, [n, C].
        losses: the first metric at each of them, as a point of the path, [n].
        own_losses: the same with the statistics of BatchNorm that each model has stored, [n]; equal to ``losses``
            where there are none.
        barriers: of each metric on each piece: along a line or chain from each model to the next, in a plane or a
            volume between each two.
        settings: all that is needed to repeat the run, as saved in JSON.
        seconds: how long the evaluation took.
        paths: the files written, by what they hold; empty with ``to_save=False``.
        more: further arrays by name; those of a trajectory are ``explained``, ``distances``, ``plane_losses`` and
            ``steps``, which are attributes, too.
    """

    landscapes: Mapping[str, Landscape]
    names: tuple[str, ...]
    coordinates: Tensor
    losses: Tensor
    own_losses: Tensor
    barriers: tuple[PairBarrier, ...]
    settings: Mapping[str, Any]
    seconds: float
    paths: Mapping[str, Path] = field(default_factory=dict)
    more: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def landscape(self) -> Landscape:
        """The landscape of the first metric."""
        return self.landscapes[MAIN]

    @property
    def barrier(self) -> Estimate:
        """The barrier of the first metric; where there are several pieces, the highest."""
        found = [each.estimate for each in self.barriers if each.metric == MAIN]
        if not found:
            raise ValueError("there is no barrier here: it is a number between two models")
        unknown = [each for each in found if each.value != each.value]
        return unknown[0] if unknown else max(found, key=lambda each: each.value)

    def __getattr__(self, name: str) -> Any:
        more = self.__dict__.get("more", {})
        if name in more:
            return more[name]
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def __repr__(self) -> str:
        """The losses and barriers as a short table, for a notebook; arrays are in the attributes."""
        points = sum(len(landscape.losses) for landscape in self.landscapes.values())
        rows = [f"PathResult: {points} points in {self.seconds:.1f} s, {self.landscape.chart['kind']}"]
        cells = [
            (name, f"loss {loss:.6g}") for name, loss in zip(self.names, self.losses.tolist(), strict=True)
        ]
        for each in self.barriers:
            metric = "" if each.metric == MAIN else f", {each.metric}"
            label = f"barrier {each.between[0]} to {each.between[1]}{metric}"
            cells.append((label, f"{said(each.estimate)} ({each.estimate.note})"))
        width = max(len(label) for label, _ in cells) + 2
        rows += [f"  {label:<{width}}{text}" for label, text in cells]
        return "\n".join([*rows, *files_line(self.paths)])

    def save(self, path: str | Path) -> Path:
        """Writes all of it to one npz file, which :func:`lla_func.load` reads."""
        barriers = [
            {
                **each._asdict(),
                "estimate": {k: v for k, v in each.estimate._asdict().items() if k != "samples"},
            }
            for each in self.barriers
        ]
        head = {
            "format": FORMAT,
            "version": VERSION,
            "names": self.names,
            "barriers": barriers,
            "settings": self.settings,
            "seconds": self.seconds,
            "more": list(self.more),
        }
        arrays = {
            "coordinates": self.coordinates,
            "losses": self.losses,
            "own_losses": self.own_losses,
            **{f"more_{name}": tensor for name, tensor in self.more.items()},
            "head": np.array(json.dumps(json_types(head, "path"))),
        }
        landscapes = list(self.landscapes.values())
        return store.save_landscapes(path, landscapes, list(self.landscapes), **arrays)


def said(estimate: Estimate) -> str:
    """A number with its errors."""
    text = f"{estimate.value:.4g} ± {estimate.error:.1g}"
    return text if estimate.data_error is None else f"{text}, ± {estimate.data_error:.1g} over data"


def load(path: str | Path) -> PathResult | TrajectoryResult | Curve | Topology | Trajectory:
    """Reads a result that :func:`lla_func.viz_path` wrote, a curve of :func:`lla_func.connect`, a topology that
    :func:`lla_func.assessment.save_topology` wrote, or the trajectory in a folder.

    Raises:
        ValueError: the file is none, or is of a version that this one does not know.
        OSError: the file cannot be read.
    """
    if Path(path).expanduser().is_dir():
        return Trajectory.open(path)
    arrays = load_arrays(path)
    way = "; lla_func.landscape.store.load_landscapes reads those of viz_lla" * ("losses_0" in arrays)
    head = read_head(path, arrays, f"is no result of viz_path or connect{way}")
    kind = head["format"]
    if kind == "curve":
        return Curve.load(path)
    if kind == "topology":
        return load_topology(path)
    if kind == trajectories.FORMAT:
        return trajectories.read_trajectory(path, arrays, head)
    check_head(path, head, FORMAT, VERSION)
    try:
        landscapes, titles = store.load_landscapes(path)
        barriers = tuple(
            PairBarrier(
                each["metric"],
                tuple(each["between"]),
                Estimate(**each["estimate"]),
                each["at"],
                tuple(each["ends"]),
            )
            for each in head["barriers"]
        )
        return PathResult(
            landscapes=dict(zip(titles, landscapes, strict=True)),
            names=tuple(head["names"]),
            coordinates=torch.from_numpy(arrays["coordinates"]),
            losses=torch.from_numpy(arrays["losses"]),
            own_losses=torch.from_numpy(arrays["own_losses"]),
            barriers=barriers,
            settings=head["settings"],
            seconds=head["seconds"],
            more={name: torch.from_numpy(arrays[f"more_{name}"]) for name in head["more"]},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{str(path)!r} is damaged ({error})") from error
