"""Options of an evaluation: how the points of a landscape are computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lla_func.options._family import Family, option
from lla_func.options._kinds import Bytes, Flag, Kind, Positive, Whole, Word

# ruff: noqa: RUF009  a field made by option() is a field


@dataclass(frozen=True, kw_only=True)
class Evaluation(Family):
    """How the points of a landscape are computed: the options of :func:`lla_func.evaluate`."""

    # fmt: off
    engine: str = option("auto", Word("auto", "loop", "vmap", "hoisted", "compiled"), "--engine", help=
        'how the points are computed: auto (by autotuning), loop, vmap, hoisted or compiled. ``"loop"`` goes point by '
        'point and takes any objective, ``"vmap"`` takes blocks of points, ``"hoisted"`` computes once what all '
        'points share (:mod:`lla_func.landscape.engines`), ``"compiled"`` does the same through ``torch.compile``, '
        "for long jobs. ``\"auto\"`` takes what autotuning on the first points finds fastest, or, in jobs of less than "
        "about a second, the one that a count of operations suggests. Every engine but the loop is checked against "
        "the loop on two points; one that cannot run the objective, or fails the check, gives way to the loop with an "
        ':class:`EngineFallbackWarning` (``"auto"`` takes the loop quietly where the objective cannot be recorded).')
    points_per_pass: int | None = option(None, Whole(), help=
        "how many points share each operation. Halved when memory runs out.")
    samples_per_tile: int | None = option(None, Whole(), help=
        "how many samples are computed together, where batches may be cut.")
    channels_last: bool | None = option(None, Flag(), help=
        "whether images have their channels innermost in memory.")
    plan: Any = option(None, Kind(), help=
        'a plan to follow, such as the ``diagnostics["plan"]`` of an earlier landscape, instead of engine and the '
        "three options before. All engines and plans give the same losses to rounding; the same plan gives the same "
        "bits, while autotuning, which goes by the clock, may end with another plan in another run.")
    memory_budget: int | None = option(None, Bytes(), "--memory", help=
        "bytes for everything beyond the data and the directions (default: a quarter of what is free). The hoisted "
        "engine estimates its need from it before it allocates.")
    sampling: str = option("grid", Word("grid", "chebyshev"), help=
        '``"grid"`` evaluates every point. ``"chebyshev"`` evaluates Chebyshev nodes, more until the estimated error '
        "of a polynomial through them is within ``tol``, and interpolates; the points have to be a mesh. A surface "
        'that is not smooth enough is evaluated at every point. What was done is in ``diagnostics["sampling"]``.')
    tol: float | None = option(None, Positive(), "--tol", help=
        "evaluate fewer points and interpolate with an estimated error of so much of the range of the losses (0.01 is "
        "one percent); a needle narrower than the spacing of the points, about a sixth of the extent, can be missed. "
        'For ``sampling="chebyshev"``, which needs it.')
    log_tol: bool = option(False, Flag(), help=
        "whether the log-loss has to be within ``tol`` of its range as well.")
    tf32: bool = option(False, Flag(), "--tf32", help=
        "let a GPU compute a quick preview with TensorFloat-32. Faster, with ten bits of mantissa and errors of about "
        "1e-3; an engine's check against the loop then compares two such results.")
    errors: bool = option(False, Flag(), "--errors", help=
        "also the standard error of each loss over data: what another sample of the same size would change. It is "
        "found in the same pass, for criteria whose losses of single samples are known; with metrics it is found "
        "anyway.")
    store: str | Path | None = option(None, Kind("DIR"), "--store", help=
        "keep finished points in a folder: the same call goes on where it stopped, and several processes that make it "
        "share the work. It goes on along the same plan, so that the losses are bit for bit those of an unbroken run; "
        "each process returns the whole landscape. :func:`lla_func.landscape.load_landscape` reads a finished folder, "
        "and so does the same call.")
    progress: bool = option(False, Flag(), help="whether to show a progress bar.")
    # fmt: on

    def agree(self) -> None:
        if self.sampling == "chebyshev" and self.tol is None:
            raise ValueError(
                "sampling='chebyshev' needs tol, the estimated error allowed as a part of the surface's range"
            )
        if self.sampling == "grid" and self.tol is not None:
            raise ValueError(f"tol={self.tol!r} is for sampling='chebyshev'; a grid has no error")

    @property
    def cut(self) -> Mapping[str, Any]:
        """How an engine is asked to cut the work."""
        names = ("points_per_pass", "samples_per_tile", "memory_budget", "channels_last")
        return {name: getattr(self, name) for name in names}
