"""Topology of a surface: its basins and saddles, and which of them are more than the surface's errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lla_func.assessment._loops import Loop, loops
from lla_func.assessment._merge_tree import MergeTree, Pair, connectivity_of, merge_tree, smad
from lla_func.assessment._surface_error import Bound, bound_of
from lla_func.errors import finite_number, flag, instance, one_of, positive_int, seed_number
from lla_func.landscape import Landscape, axes

SHOWN = 8
"""Basins that a result shows of itself."""


@dataclass(frozen=True)
class Topology:
    """What :func:`topology` found. Points are indices into those of the landscape.

    Attributes:
        tree: the merge tree: basins as pairs of minimum and saddle, and how they join.
        bound: of the surface's error at all points at once, but for a common shift.
        smad: the mean height from minima to their first saddles.
        loops: those of the sublevel sets; None where they were not asked for.
        connectivity: how many neighbors a point has.
        holes: how many values are not finite.
        name: of the values.
        values: [N] float64.
        coords: of the points, [N, C].
    """

    tree: MergeTree
    bound: Bound
    smad: float
    loops: tuple[Loop, ...] | None
    connectivity: int
    holes: int
    name: str
    values: Tensor
    coords: Tensor

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The basins, the most persistent first."""
        return self.tree.pairs

    @property
    def minima(self) -> Tensor:
        """The points of the minima, [K], in the order of the pairs."""
        return torch.tensor(self.tree.minima, dtype=torch.long)

    @property
    def saddles(self) -> Tensor:
        """The points of the saddles, [S], by index."""
        return torch.tensor(self.tree.saddles, dtype=torch.long)

    @property
    def threshold(self) -> float:
        """The persistence above which a feature is believed: twice the bound."""
        return 2 * self.bound.value

    @property
    def believed(self) -> tuple[Pair, ...]:
        """The basins that are deeper than errors of the surface could make them."""
        return tuple(pair for pair in self.pairs if pair.persistence > self.threshold)

    @property
    def believed_loops(self) -> tuple[Loop, ...]:
        """The loops that are more persistent than errors of the surface could make them."""
        return tuple(loop for loop in self.loops or () if loop.persistence > self.threshold)

    @property
    def smad_relative(self) -> float:
        """The mean height from minima to their first saddles, as a part of the range of the values."""
        seen = self.values[self.values.isfinite()]
        span = float(seen.max() - seen.min()) if len(seen) else 0.0
        return self.smad / span if span else 0.0

    def basins(self, threshold: float | None = None) -> int:
        """How many basins are more persistent than a threshold, by default the one for belief."""
        least = self.threshold if threshold is None else finite_number("threshold", threshold, least=0)
        return sum(pair.persistence > least for pair in self.pairs)

    def __repr__(self) -> str:
        """The basins as a short table, for a notebook."""
        rows = [
            f"Topology of {self.name} at {len(self.values)} points, {self.connectivity} neighbors each",
            f"  {len(self.believed)} of {len(self.pairs)} basins believed: persistence above {self.threshold:.3g}, "
            f"twice the bound ({self.bound.source})",
            f"  {'minimum at':<26}{'value':<12}{'saddle':<12}persistence",
        ]
        for pair in self.pairs[:SHOWN]:
            place = ", ".join(f"{x:.3g}" for x in self.coords[pair.minimum].tolist())
            end = "-" if pair.saddle is None else f"{pair.death:.5g}"
            doubt = "" if pair.persistence > self.threshold else "  not believed"
            rows.append(f"  {place:<26}{pair.birth:<12.5g}{end:<12}{pair.persistence:.4g}{doubt}")
        if len(self.pairs) > SHOWN:
            rows.append(f"  ... {len(self.pairs) - SHOWN} more in .pairs")
        rows.append(f"  SMAD {self.smad:.4g}")
        if self.loops is not None:
            rows.append(f"  {len(self.believed_loops)} of {len(self.loops)} loops believed")
        if self.holes:
            rows.append(f"  {self.holes} values are NaN or infinite: holes")
        return "\n".join(rows)


def topology(
    landscape: Landscape,
    *,
    value: str = "loss",
    per_sample: Any = None,
    connectivity: int | None = None,
    confidence: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
    with_loops: bool = False,
) -> Topology:
    """The minima, saddles and basins of a landscape, and which of them its errors could not have made.

    This is a statement about the surface through the points of the landscape: a plane or a line through weight space,
    as it is between neighbors on the grid. A minimum of it need not be one of the loss in all directions, and what is
    narrower than the grid's spacing is not seen.

    A basin ends where it meets a deeper one; how much higher its saddle is than its minimum is its persistence. If the
    surface is off by at most b everywhere, but for a shift that all points share, persistence is off by at most 2 b,
    so a basin is believed if its persistence is more than twice the bound of the error at all points at once. The
    bound joins what interpolation between evaluated points may be off (``diagnostics["sampling"]``) and the error over
    data: with ``per_sample`` by drawing samples again, the same ones at all points, and otherwise from
    ``landscape.errors``, each point for itself, which is wider. Where nothing is known of the errors the bound is 0
    and every basin is believed; ``bound.source`` says so. Rounding is no part of it.

    Args:
        landscape: on a mesh of any number of coordinates. Values that are not finite are holes.
        value: which of ``landscape.values``.
        per_sample: what each sample adds to it, [N, n], so that the value is the mean over n; for the loss it is
            ``lla_func.assessment.sample_surfaces(objective, chart, coords)``.
        connectivity: neighbors of a point: 2 C across faces (4 in a plane), the default, or all 3^C - 1 around (8).
        confidence: of the bound over data.
        draws: surfaces that are drawn again.
        seed: of these.
        with_loops: whether to find loops as well, by gudhi (the extra ``topology``).

    Returns:
        a :class:`Topology`. Ties of values are broken by the order of the points.

    Raises:
        TypeError, ValueError: the landscape is no mesh, there is no such value, or an option is out of range.
        ImportError: loops are asked for and gudhi is not installed.

    Source: Edelsbrunner and Harer 2010, Computational Topology, chapter VII; Cohen-Steiner et al. 2007 (stability).

    Example:
        >>> coords = torch.linspace(-2, 2, 41, dtype=torch.float64)[:, None]
        >>> double_well = (coords[:, 0] ** 2 - 1) ** 2 + 0.1 * coords[:, 0]
        >>> found = topology(Landscape(coords, double_well, {}, {}))
        >>> [round(float(coords[pair.minimum]), 1) for pair in found.pairs]
        [-1.0, 1.0]
        >>> round(found.pairs[1].persistence, 1), found.basins(threshold=1.0)
        (0.9, 1)
    """
    instance("landscape", landscape, Landscape, "a Landscape, such as result.landscapes[0]")
    one_of("value", value, landscape.values)
    values = landscape.values[value].detach().to("cpu", torch.float64)
    if values.ndim != 1:
        raise ValueError(
            f"value={value!r} has shape {list(values.shape)} at the points; pass one with a single number at each"
        )
    shape = tuple(len(axis) for axis in axes(landscape))
    neighbors = connectivity_of(len(shape), connectivity)
    confidence = finite_number("confidence", confidence, above=0)
    if confidence >= 1:
        raise ValueError(f"confidence={confidence:g} is not allowed; pass a number between 0 and 1")
    draws, seed = positive_int("draws", draws, least=20), seed_number("seed", seed)
    grid = values.reshape(shape).numpy()
    errors = landscape.errors.get(value)
    tree = merge_tree(grid, neighbors)
    return Topology(
        tree=tree,
        bound=bound_of(
            values,
            None if errors is None else errors.detach().to("cpu", torch.float64),
            None if per_sample is None else _checked(per_sample, values),
            landscape.diagnostics.get("sampling"),
            confidence=confidence,
            draws=draws,
            seed=seed,
        ),
        smad=smad(tree, grid),
        loops=loops(grid, neighbors) if flag("with_loops", with_loops) else None,
        connectivity=neighbors,
        holes=int((~values.isfinite()).sum()),
        name=value,
        values=values,
        coords=landscape.coords,
    )


def _checked(per_sample: Any, values: Tensor) -> Tensor:
    """What samples add, [N, n], finite where the values are."""
    given = torch.as_tensor(np.asarray(per_sample) if not isinstance(per_sample, Tensor) else per_sample)
    given = given.detach().to("cpu")
    if given.ndim != 2 or len(given) != len(values) or given.shape[1] < 2:
        raise ValueError(
            f"per_sample has shape {list(given.shape)}; pass [{len(values)}, n], a row for each point with the losses "
            "of at least two samples"
        )
    finite = values.isfinite()
    if not bool(given[finite].isfinite().all()):
        raise ValueError("per_sample has NaN or infinite values at points whose value is finite")
    off = (given[finite].double().mean(1) - values[finite]).abs()
    size = float(values[finite].abs().max()) if bool(finite.any()) else 0.0
    if len(off) and float(off.min()) > 1e-3 * size:
        raise ValueError(
            f"the means of per_sample over samples are off the values by {float(off.min()):.3g} and more; pass what "
            "the values are means of"
        )
    return given
