"""Options of the panels: which surfaces through weight space a landscape shows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lla_func.errors import positive_int
from lla_func.options._family import Family, option
from lla_func.options._kinds import Axes, Flag, Frozen, Kind, Positive, Whole, Word

# ruff: noqa: RUF009  a field made by option() is a field

PLANES = 10_000
"""The most planes of one call."""

POINTS = 10**8
"""The most points of a surface; their coordinates alone take gigabytes."""


@dataclass(frozen=True, kw_only=True)
class Panels(Family):
    """Which surfaces are shown: how their directions are made, and how far they go."""

    # fmt: off
    axes: Any = option("random", Axes("random", "adam", "hessian"), "-ax", "--axes", help=
        'directions: random, adam (moments of the optimizer) or hessian (its eigenvectors). ``"adam"`` takes the '
        'first and second moments of an Adam-like optimizer, bias-corrected, ``"hessian"`` the top two eigenvectors. '
        "Directions of your own come as [2, P] (or [1, P] with ``dim=1``): a tensor or array, or a list of two "
        "vectors, named tensors or other models, towards which they point (:func:`lla_func.facades.directions_from`).")
    normalization: str | None = option(None, Word(None, "weight", "layer", "model", "filter"), "-nm", "--norm", help=
        "scaling of the directions to the weights: None, weight, layer, model or filter (recommended). See "
        ":func:`lla_func.geometry.normalize`.")
    order: int = option(2, Word(1, 2), "-od", "--order", help="norm for the normalization, L1 or L2.")
    dist: float = option(1, Positive(), "--dist", help=
        "extent of the surface in all, in units of the directions.")
    steps: int = option(40, Whole(2), "--steps", help="points along each axis. At least 2.")
    num_plots: int = option(4, Whole(), "-np", "--num_plots", help=
        'random planes in a figure. For ``axes="random"`` only.')
    num_per_plot: int = option(2, Whole(), "-npp", "--num_per_plot", help=
        "how many of them stand side by side.")
    mode: str = option("add", Word("add", "adameq"), "-md", "--mode", help=
        "add (origin + a d1 + b d2), or adameq: Adam's update rule, with axes adam only. It takes scaled moments "
        "(:func:`lla_func.geometry.adameq`).")
    b_sqrt: bool = option(True, Flag(), help=
        "whether ``adameq`` takes the square root of its second coordinate.")
    viz_dev: bool = option(False, Flag(), "--all_modes", help=
        "draw all kinds of landscape in one figure. These are several normalizations of the random axes, and of the "
        "Hessian's or Adam's with ``axes=\"hessian\"`` or ``\"adam\"``; num_plots, normalization, order and mode do "
        "not count then.")
    freeze: int | str | Iterable[str] | None = option(None, Frozen(), "--freeze", help=
        "parameters that do not move: from the Nth tensor on (7), before it (-7), or by name ('features.*'). See "
        ":func:`lla_func.geometry.freeze`.")
    raa: int | None = option(None, Kind(), help="the original's name for an integer ``freeze``.")
    ignore: str | None = option(None, Word("bias_norm", unsaid=(None,), metavar="bias_norm"), "--ignore", help=
        "keep biases and normalization layers where they are (bias_norm).")
    distribution: str = option("normal", Word("normal", "uniform"), "--distribution", help=
        "of random directions: normal or uniform.")
    dim: int = option(2, Word(1, 2), "--dim", help="2 for planes, 1 for lines with their profile.")
    adam_lr: float | None = option(None, Positive(), help=
        "the learning rate in ``adameq``, by default the optimizer's own. The original takes 1.")
    seed: int | None = option(None, Whole(0, 2**64 - 1), help=
        "seed of the random directions; by default a fresh one, which the result names.")
    # fmt: on

    def __post_init__(self) -> None:
        if isinstance(self.mode, str) and self.mode == "moment":  # the original's name for it
            self._set("mode", "adameq")
        super().__post_init__()

    def agree(self) -> None:
        if self.mode == "adameq" and not self.along("adam"):
            raise ValueError("mode='adameq' needs axes='adam': Adam's update rule is made of its moments")
        positive_int("steps", self.steps, least=2, most=int(POINTS ** (1 / self.dim)))
        positive_int("num_plots", self.num_plots, most=PLANES)
        if isinstance(self.raa, str):
            raise TypeError(f"raa={self.raa!r} is not a whole number; name patterns are for freeze")
        if self.raa is not None and self.freeze is not None:
            raise ValueError(
                f"raa={self.raa!r} and freeze={self.freeze!r} are two names of one option; pass only freeze"
            )

    @property
    def frozen(self) -> int | str | Iterable[str] | None:
        """What does not move, by whichever name it was given."""
        return self.freeze if self.raa is None else self.raa

    def along(self, kind: str) -> bool:
        """Whether the axes are those of this name."""
        return isinstance(self.axes, str) and self.axes == kind
