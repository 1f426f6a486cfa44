"""What viz_lla found: the panels and all that belongs to them, as attributes, as a short table, as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lla_func.analysis import Analysis
from lla_func.facades.common import files_line
from lla_func.facades.curvature import Curvature
from lla_func.grid import Landscape, surface

__all__ = ["LandscapeResult", "arrays"]


@dataclass(frozen=True)
class LandscapeResult:
    """What :func:`lla_func.viz_lla` found.

    Attributes:
        landscapes: one for each panel: coordinates, losses, angle and norms of the axes, diagnostics.
        titles: the panels' titles.
        center_loss: the loss at the trained point.
        nonfinite: how many losses are NaN or infinite, over all panels.
        seed: the seed of the random directions.
        directions: the fixed ones before scaling, [2, P] (given, eigenvectors or moments); None for random ones.
        settings: all that is needed to repeat the run, as saved in JSON.
        seconds: how long the evaluation took.
        paths: the files written, by what they hold; empty with ``to_save=False``.
        hessian: eigenpairs, density and criteria, where Hessian axes or ``eval_hessian`` asked for them.
        curvature: with Hessian axes, the loss's curvature along them as measured beside the eigenvalues.
    """

    landscapes: tuple[Landscape, ...]
    titles: tuple[str, ...]
    center_loss: float
    nonfinite: int
    seed: int
    directions: Tensor | None
    settings: Mapping[str, Any]
    seconds: float
    paths: Mapping[str, Path]
    hessian: Analysis | None = None
    curvature: Curvature | None = None

    def __repr__(self) -> str:
        """The panels as a short table, for a notebook; arrays are in the attributes."""
        points = sum(len(landscape.losses) for landscape in self.landscapes)
        rows = [
            f"LandscapeResult: {points} points in {self.seconds:.1f} s",
            f"  loss at the centre {self.center_loss:.6g}, seed {self.seed}",
            f"  {'panel':<34}{'points':<12}{'smallest loss':<16}largest loss",
        ]
        for landscape, title in zip(self.landscapes, self.titles, strict=True):
            dim = landscape.coords.shape[1]
            shape = " x ".join([str(round(len(landscape.losses) ** (1 / dim)))] * dim)
            finite = landscape.losses[landscape.losses.isfinite()].tolist() or [float("nan")]
            rows.append(f"  {title:<34}{shape:<12}{min(finite):<16.6g}{max(finite):.6g}")
        if self.nonfinite:
            rows.append(f"  {self.nonfinite} losses are NaN or infinite")
        return "\n".join([*rows, *files_line(self.paths)])


def arrays(result: LandscapeResult, cap: float | None, *, columns: int) -> np.ndarray | dict[str, np.ndarray]:
    """The losses as the original returns them: one array, or a dict by row and column, clipped at the cap."""
    highest = float("inf") if cap is None else cap
    arrays = [surface(landscape).clamp(max=highest).numpy() for landscape in result.landscapes]
    if len(arrays) == 1:
        return arrays[0]
    digits = len(str(columns - 1))  # more than one with more than ten columns, so that "111" has one reading
    return {f"{i // columns}{i % columns:0{digits}d}": array for i, array in enumerate(arrays)}
