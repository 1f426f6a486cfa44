"""Options of a path: which line, chain, plane or volume through models is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lla_func.errors import positive_int
from lla_func.options._family import Family, option
from lla_func.options._kinds import Fraction, Texts, Whole, Word
from lla_func.options._panels import POINTS


@dataclass(frozen=True, kw_only=True)
class Interpolation(Family):
    """What is shown between and around models, and how densely."""

    # fmt: off
    steps: int = option(41, Whole(2), "--steps", help=
        "points along each axis; of a chain, along each of its pieces.")
    kind: str = option("auto", Word("auto", "chain", "plane", "volume"), "--kind", help=
        "what goes through the models: auto, chain (straight pieces), plane (of three) or volume (of four). "
        '``"auto"`` is the line through two models, the plane through three and the chain of four and more.')
    margin: float | None = option(None, Fraction(), "--margin", help=
        "how far to go beyond the models, as a part of their extent (default: 0 on lines, 0.2 on planes and in "
        "volumes, 0.15 around trajectories).")
    slices: int = option(4, Whole(), "--slices", help="planes of a volume that are drawn.")
    names: Sequence[str] | None = option(None, Texts(), help=
        "a name for each model; by default a, b, ...")
    # fmt: on

    def dim(self, models: int) -> int:
        """How many coordinates there are with so many models."""
        return {"auto": 2 if models == 3 else 1, "chain": 1, "plane": 2, "volume": 3}[self.kind]

    def agree(self) -> None:
        if self.kind in ("plane", "volume"):
            dim = self.dim(0)
            positive_int("steps", self.steps, least=2, most=int(POINTS ** (1 / dim)))
