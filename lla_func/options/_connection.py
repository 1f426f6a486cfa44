"""Options of a connection: the curve between two points, and how it is fitted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lla_func.options._family import Family, option
from lla_func.options._kinds import Dtype, Flag, Kind, Positive, Whole, Word

# ruff: noqa: RUF009  a field made by option() is a field


@dataclass(frozen=True, kw_only=True)
class Connection(Family):
    """The curve between two points and how it is fitted: the options of :func:`lla_func.connect`."""

    # fmt: off
    kind: str = option("bezier", Word("bezier", "chain", "band"), help=
        'the curve: a Bezier curve, a polygonal chain, or a nudged elastic band. ``"bezier"`` and ``"chain"`` lower '
        'the mean loss over the curve (Garipov et al. 2018); ``"band"`` is a chain, too, each of whose pivots goes '
        "down across it only, while springs keep them apart, so that it follows a path of least loss over a saddle "
        "(Henkelman and Jonsson 2000); its cost grows with the pivots.")
    bends: int = option(1, Whole(), help=
        "how many control points, or pivots, there are between the ends.")
    epochs: int = option(20, Whole(), help=
        "passes over the data.")
    lr: float = option(0.01, Positive(), help=
        "the learning rate. It is kept for half of the steps and then falls to a hundredth.")
    optimizer: Any = option(None, Kind(), help=
        "makes the optimizer of the control points, as ``optimizer([points], lr=lr)`` (default: torch.optim.Adam "
        "with eps=1e-16, for losses of any size). A class of torch.optim, or a function for further settings, such as "
        "``functools.partial(torch.optim.SGD, momentum=0.9)``.")
    batch_size: int | None = option(None, Whole(), help=
        "samples of a step (default: the batches of the metric as they come, and 128 where it holds its data in one). "
        "Samples are shuffled within the batches that are cut, and batches that are not streamed among each other.")
    spring: float = option(1.0, Positive(), help=
        "the stiffness of the springs of a band. The unit is the mean length of its gradients over that of its pieces.")
    climbing: bool = option(False, Flag(), help=
        "whether the highest pivot of a band climbs to the saddle (Henkelman, Uberuaga and Jonsson 2000). For losses "
        "without mini-batches, whose noise would send another one up in every step.")
    steps: int = option(41, Whole(least=3), help=
        "points at which the barriers are looked for, before the highest place is refined.")
    seed: int = option(0, Whole(least=0), help=
        "seed of the places along the curve and of the shuffling.")
    store: str | Path | None = option(None, Kind("DIR"), help=
        "keep the fit in a folder after every step: the same call goes on where it stopped, with the same bits as a "
        "run that was not interrupted, and gives the finished curve at once.")
    dtype: Any = option(None, Dtype("float32", "float64"), help=
        "float32 or float64 to fit copies of the models, and of the data, in this precision. Models in bfloat16 or "
        "float16 need it: their weights do not notice small steps.")
    progress: bool = option(False, Flag(), help="whether to show a progress bar.")
    # fmt: on

    def agree(self) -> None:
        if self.kind != "band" and (self.climbing or self.spring != 1.0):
            name = "climbing" if self.climbing else "spring"
            raise ValueError(
                f"{name}={getattr(self, name)!r} is for kind='band'; kind={self.kind!r} has no springs"
            )
