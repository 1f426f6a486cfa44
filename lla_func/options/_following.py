"""Options of a trajectory: which plane through a training is shown, and whether it is animated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lla_func.options._family import Family, option
from lla_func.options._kinds import Axes, Kind

# ruff: noqa: RUF009  a field made by option() is a field


@dataclass(frozen=True, kw_only=True)
class Following(Family):
    """How trainings are shown."""

    # fmt: off
    axes: Any = option("pca", Axes("pca", "ends"), "-ax", "--axes", help=
        "plane of a trajectory: pca (principal components) or ends (through start and end). ``\"ends\"`` has the "
        "direction across in which the checkpoints lie farthest; directions of your own come as a tensor [2, P]. See "
        ":func:`lla_func.geometry.trajectory_plane`.")
    animation: str | Path | None = option(None, Kind("FILE"), "--animation", help=
        "also write a trajectory as an animation, a .gif, or an .mp4 by ffmpeg.")
    # fmt: on
