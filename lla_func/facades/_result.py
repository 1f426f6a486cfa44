"""What viz_lla and viz_esd found: all of it as attributes, the numbers as a short table, losses as plain arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lla_func.facades._common import files_line
from lla_func.landscape import Curvature, Landscape, surface
from lla_func.spectrum import Analysis, Criteria, OverData

SHOWN = 10
"""Eigenvalues that a result shows of itself."""


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
            f"  loss at the center {self.center_loss:.6g}, seed {self.seed}",
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


@dataclass(frozen=True)
class SpectrumResult:
    """What :func:`lla_func.viz_esd` found.

    It unpacks into eigenvalues, eigenvectors, trace, re, Khn, as the original's list
    does, and is indexed like it.

    Attributes:
        eigenvalues: [k] float64, or None.
        eigenvectors: orthonormal rows [k, P] in the order of theta, or None.
        trace: or None.
        re: the criterion r_e, mean over the probes, or None.
        Khn: the criterion K_hn as LLA defines it, mean over the starts, or None. One start is one draw
            (``criteria.note``), and ``criteria.k_hn.spread`` says how far it varies with ``n_v`` of 3 and more.
        analysis: everything else: nodes, weights, residuals, standard errors, criteria with their spread.
        products: matrix-vector products spent in all.
        seed: the seed of the probes.
        settings: all that is needed to repeat the run, as saved in JSON.
        seconds: how long the analysis took.
        paths: the files written, by what they hold; empty with ``to_save=False``.
        over_data: standard errors over data, that is of fresh samples at this theta: ``eigenvalues`` [k], ``trace``,
            ``re``, ``Khn``; None where there is none, with the reason in ``note``.
    """

    eigenvalues: Tensor | None
    eigenvectors: Tensor | None
    trace: float | None
    re: float | None
    Khn: float | None
    analysis: Analysis
    products: int
    seed: int
    settings: Mapping[str, Any]
    seconds: float
    paths: Mapping[str, Path]
    over_data: OverData

    @property
    def trace_method(self) -> str | None:
        """How the trace was found: "exact", "ggn+hutchinson", "hutchinson", or as ``spectrum.trace`` says."""
        return None if self.analysis.trace is None else self.analysis.trace.method

    def __iter__(self) -> Iterator[Any]:
        """The five that the original returns."""
        return iter((self.eigenvalues, self.eigenvectors, self.trace, self.re, self.Khn))

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: Any) -> Any:
        """One of the five, or a slice of them."""
        return tuple(self)[index]

    def __repr__(self) -> str:
        """The numbers as a short table, for a notebook; arrays are in the attributes."""
        rows = [
            f"SpectrumResult of {self.analysis.operator}: {self.products} products in {self.seconds:.1f} s"
        ]
        if (pairs := self.analysis.eigenpairs) is not None:
            found = zip(pairs.values.tolist()[:SHOWN], pairs.residuals.tolist(), strict=False)
            rows += [
                f"  eigenvalue {i}  {value:.6g} ± {r:.1g}" for i, (value, r) in enumerate(found, start=1)
            ]
            if len(pairs.values) > SHOWN:
                rows.append(f"  ... {len(pairs.values) - SHOWN} more in .eigenvalues")
        if (estimate := self.analysis.trace) is not None:
            known_to = "exact" if estimate.method == "exact" else f"± {estimate.standard_error:.1g}"
            others = "" if estimate.data_error is None else f", ± {estimate.data_error:.1g} over data"
            rows.append(f"  trace         {estimate.value:.6g} {known_to}{others}")
        if (criteria := self.analysis.criteria) is not None:
            trusted = f"({criteria.note})" if criteria.note else f"(spread {criteria.k_hn.spread:.1g})"
            rows += [
                f"  r_e           {criteria.r_e.value:.4g}",
                f"  K_hn          {criteria.k_hn.value:.4g} {trusted}",
            ]
        if self.nodes is not None:
            rows.append(f"  density       {self.nodes.shape[0]} runs of {self.nodes.shape[1]} Lanczos steps")
        return "\n".join([*rows, f"  seed          {self.seed}", *files_line(self.paths)])

    @property
    def residuals(self) -> Tensor | None:
        """The residual norm of each eigenpair, [k]: an eigenvalue lies within it."""
        return None if self.analysis.eigenpairs is None else self.analysis.eigenpairs.residuals

    @property
    def trace_error(self) -> float | None:
        """The standard error of the trace as an estimate for these data: 0 where it is exact."""
        return None if self.analysis.trace is None else self.analysis.trace.standard_error

    @property
    def nodes(self) -> Tensor | None:
        """The nodes of the spectral density, [B, M]."""
        return None if self.analysis.quadrature is None else self.analysis.quadrature.nodes

    @property
    def weights(self) -> Tensor | None:
        """Their weights, [B, M]."""
        return None if self.analysis.quadrature is None else self.analysis.quadrature.weights

    @property
    def criteria(self) -> Criteria | None:
        """All criteria, with their spread over the probes."""
        return self.analysis.criteria


def arrays(result: LandscapeResult, cap: float | None, *, columns: int) -> np.ndarray | dict[str, np.ndarray]:
    """The losses as the original returns them: one array, or a dict by row and column, clipped at the cap."""
    highest = float("inf") if cap is None else cap
    arrays = [surface(landscape).clamp(max=highest).numpy() for landscape in result.landscapes]
    if len(arrays) == 1:
        return arrays[0]
    digits = len(str(columns - 1))  # more than one with more than ten columns, so that "111" has one reading
    return {f"{i // columns}{i % columns:0{digits}d}": array for i, array in enumerate(arrays)}
