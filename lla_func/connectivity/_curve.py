"""Curve: what was fitted between two points, the barrier on it, and that on the straight line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lla_func.errors import finite_tensor, numbers_of
from lla_func.files import PathLike, check_head, json_types, load_arrays, read_head, save_arrays
from lla_func.geometry import CURVES, Chart, CurvePlane, chart, plane_of
from lla_func.spectrum import Estimate

FORMAT, VERSION = "curve", 1


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve between two points in weight space (:func:`lla_func.connect`).

    Attributes:
        points: the control points, or the pivots of a chain, [K, P]; the first and the last are the ends.
        kind: ``"bezier"``, ``"chain"`` or ``"band"`` (a chain that was fitted as an elastic band).
        barrier: how far the loss on the curve rises above the straight line between the losses of its ends; at least 0.
        straight_barrier: the same on the straight line between the ends.
        history: the loss that each step of the fit has seen, [S] float64: of one mini-batch at one place of the curve;
            of a band at its highest pivot.
        settings: all that is needed to repeat the fit.
        like: the first model, where models were connected, for :func:`lla_func.viz_path`; a file does not keep it.
    """

    points: Tensor
    kind: str
    barrier: Estimate
    straight_barrier: Estimate
    history: Tensor
    settings: Mapping[str, Any] = field(default_factory=dict)
    like: Any = None

    @property
    def chart(self) -> Chart:
        """The curve as a chart with the coordinate t in [0, 1], for :func:`lla_func.evaluate`."""
        return chart_of(self.points, self.kind)

    def theta(self, t: Any) -> Tensor:
        """The parameters [P] at a number t in [0, 1], or [N, P] at several [N]; at 0 and 1 the ends, bit for bit."""
        places = numbers_of("t", t)
        if places.ndim > 1:
            raise ValueError(f"t has shape {list(places.shape)}; pass a number in [0, 1], or several [N]")
        finite_tensor("t", places, floating=False)
        if places.numel() and not (float(places.min()) >= 0 and float(places.max()) <= 1):
            raise ValueError(f"t={t!r} leaves the curve; pass numbers in [0, 1]")
        found = chart.point(self.chart, places.to("cpu", torch.float64).reshape(-1, 1))
        return found if places.ndim else found[0]

    def plane(self, steps: int = 101) -> CurvePlane:
        """The plane through both ends and the control point, or as near to several as can be, with the curve on it."""
        return plane_of(self.chart, torch.linspace(0, 1, steps, dtype=torch.float64))

    def save(self, path: PathLike) -> Path:
        """Writes the curve to an npz file; :meth:`load` reads it."""
        numbers = {name: _plain(getattr(self, name)) for name in ("barrier", "straight_barrier")}
        head = {"format": FORMAT, "version": VERSION, "kind": self.kind, "dtype": str(self.points.dtype)}
        head |= {"settings": dict(self.settings)} | numbers
        text = json.dumps(json_types(head, "curve"))
        return save_arrays(path, points=self.points, history=self.history, head=np.array(text))

    @classmethod
    def load(cls, path: PathLike) -> Curve:
        """The curve in a file; so does :func:`lla_func.load`.

        Raises:
            ValueError: the file holds no curve, or one of another version.
            OSError: the file cannot be read.
        """
        arrays = load_arrays(path)
        head = read_head(path, arrays, "holds no curve that Curve.save has written")
        check_head(path, head, FORMAT, VERSION)
        try:
            return cls(
                points=torch.from_numpy(arrays["points"]).to(
                    getattr(torch, head["dtype"].removeprefix("torch."))
                ),
                kind=head["kind"],
                barrier=Estimate(**head["barrier"]),
                straight_barrier=Estimate(**head["straight_barrier"]),
                history=torch.from_numpy(arrays["history"]),
                settings=head["settings"],
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"{str(path)!r} is damaged: its curve cannot be read ({error})") from error

    def __repr__(self) -> str:
        """The barriers in a few lines, for a notebook."""
        lines = [
            f"Curve: {self.kind} with {len(self.points) - 2} bends between two points of {self.points.shape[1]}"
        ]
        for name, found in (("on the curve", self.barrier), ("on the straight line", self.straight_barrier)):
            spread = "" if found.data_error is None else f" +- {found.data_error:.2g} over data"
            lines.append(f"  barrier {name:<21}{found.value:.6g}{spread}")
        if self.straight_barrier.value > 0 and math.isfinite(self.straight_barrier.value):
            lines.append(f"  ratio {self.barrier.value / self.straight_barrier.value:.3g}")
        return "\n".join(lines)


def chart_of(points: Tensor, kind: str) -> Chart:
    """The chart of a curve; a band is a chain."""
    return CURVES["chain" if kind == "band" else kind](points)


def _plain(estimate: Estimate) -> dict[str, Any]:
    """An estimate without its samples, of which a barrier has none."""
    return {name: value for name, value in estimate._asdict().items() if name != "samples"}
