"""Options of a spectrum: whose eigenvalues, which of them, and how far to go for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lla_func.errors import positive_int
from lla_func.options._family import Family, option
from lla_func.options._kinds import Bytes, Flag, Kind, Names, Positive, Whole, Word

RUNS = 10_000
"""The most runs of the density in one call."""


@dataclass(frozen=True, kw_only=True)
class Products(Family):
    """What both front doors ask of the Hessian: which matrix, how its products are formed, and the criteria."""

    # fmt: off
    calc_crit: bool = option(False, Flag(), "-hc", "--calc_crit", help=
        "also compute the Hessian criteria. They are r_e and K_hn, of the spectral density, which they need.")
    n_kh: float = option(0.5, Positive(), "--nkh", help="power in the criterion K_hn.")
    n_v: int = option(1, Whole(), "--n_v", help=
        "runs of the density, each from its own random vector. With 3 and more K_hn comes with its spread.")
    curvature: str = option("hessian", Word("hessian", "ggn", "fisher", "finite_difference"), "--curvature", help=
        "which matrix: hessian, ggn, fisher or, as a last resort, finite_difference.")
    kernel: str = option("auto", Word("auto", "timed", "vjp", "linearize", "recompute"), "--kernel", help=
        "how Hessian products are formed: auto, timed, vjp, linearize or recompute. See "
        ":func:`lla_func.hessian.hessian`.")
    parameters: str | Iterable[str] | None = option(None, Names(), "--parameters", help=
        "restrict the Hessian to parameters by name ('fc1.*').")
    # fmt: on

    def agree(self) -> None:
        positive_int("n_v", self.n_v, most=RUNS)
        if self.curvature != "hessian" and self.kernel != "auto":
            raise ValueError(
                f"kernel={self.kernel!r} is for curvature='hessian'; {self.curvature!r} has only one way"
            )

    def asdict(self) -> dict[str, Any]:
        """The options by name; in settings ``parameters`` is how many a model has."""
        found = super().asdict()
        return found | {"restricted_to": found.pop("parameters")}


@dataclass(frozen=True, kw_only=True)
class Hessian(Products):
    """The Hessian beside a landscape: its density, and axes along its eigenvectors."""

    # fmt: off
    eval_hessian: bool = option(False, Flag(), "-he", "--hessian", help=
        "also compute the Hessian's spectral density.")
    hessian_pair: str = option("top", Word("top", "extremes"), "--hessian_pair", help=
        "eigenvectors of axes hessian: top (the two of largest magnitude) or extremes (largest and smallest). The "
        "latter show saddles.")
    curvature_map: int | None = option(None, Whole(2, 64), "--curvature_map", help=
        "also map the largest and smallest eigenvalue and their ratio r_e over each surface, by polynomials of this "
        "degree (8 is usual). That takes Hessian products at (degree + 1)^2 points, each warm-started from its "
        "neighbor (:func:`lla_func.assessment.curvature_map`).")
    # fmt: on

    def agree(self) -> None:
        super().agree()
        if self.calc_crit and not self.eval_hessian:
            raise ValueError(
                "calc_crit=True needs eval_hessian=True: the criteria are made of the spectral density"
            )
        if self.curvature_map is not None and self.curvature == "finite_difference":
            raise ValueError(
                f"curvature_map={self.curvature_map!r} is for curvature hessian, ggn or fisher, not finite_difference"
            )
        if self.n_v > 1 and not self.eval_hessian:
            raise ValueError(
                f"n_v={self.n_v} needs eval_hessian=True: it is the number of runs of the spectral density"
            )


@dataclass(frozen=True, kw_only=True)
class Spectrum(Products):
    """What of the spectrum is computed, and how exactly."""

    # fmt: off
    eigs: bool = option(False, Flag(), help="compute eigenvalues and eigenvectors.")
    top_n: int = option(2, Whole(), "--top_n", help="eigenvalues to compute.")
    eigs_n_iter: int = option(100, Whole(), "--eigs_n_iter", help="the most products for each.")
    eigs_tol: float = option(1e-3, Positive(), "--eigs_tol", help=
        "the largest residual norm of eigenpairs, relative to the largest eigenvalue.")
    which: str = option("magnitude", Word("magnitude", "largest", "smallest", "both"), help=
        'the eigenpairs, ``"magnitude"``, ``"largest"``, ``"smallest"`` or ``"both"`` ends.')
    trace: bool = option(False, Flag(), help="compute the trace.")
    trace_n_iter: int = option(100, Whole(), "--trace_n_iter", help="the most products for the trace.")
    trace_tol: float = option(1e-3, Positive(), "--trace_tol", help=
        "the standard error of the trace to reach, relative to the mean size of the samples.")
    esd: bool = option(True, Flag(), help="compute the spectral density.")
    esd_n_iter: int = option(100, Whole(), "--esd_n_iter", help="Lanczos steps of each run of the density.")
    max_v: int | None = option(None, Whole(2), "--max_v", help=
        "the most Lanczos vectors held (default: all that fit in 1 GB).")
    memory_budget: int | None = option(None, Bytes(2), "--memory", help=
        "bytes to take beyond the model and its data, such as 500M or 8G in the command. Half of them are for what "
        "products keep between them and half for vectors of the length of all parameters. By default these take a "
        "gigabyte, and products half of what is free. Enough memory is made sure of before the work starts.")
    exp_name: str = option("esd_example", Kind(), help="a name for the run, and for its files.")
    seed: int | None = option(None, Whole(0, 2**64 - 1), help=
        "seed of the random vectors; by default a fresh one, which the result names.")
    # fmt: on

    def agree(self) -> None:
        super().agree()
        if self.calc_crit and not self.esd:
            raise ValueError(
                "calc_crit=True needs esd=True: the criteria are made of the nodes of the density"
            )
        if not (self.esd or self.eigs or self.trace):
            raise ValueError("esd, eigs and trace are all False; ask for at least one of them")

    def analysis(self) -> dict[str, Any]:
        """The same as options of :func:`lla_func.analyse`, but for the seed."""
        return {
            "density_steps": self.esd_n_iter * self.esd,
            "probes": self.n_v,
            "top_n": self.top_n * self.eigs,
            "which": self.which,
            "eigs_tol": self.eigs_tol,
            "eigs_products": self.top_n * self.eigs_n_iter,
            "trace_products": self.trace_n_iter * self.trace,
            "trace_tol": self.trace_tol,
            "criteria": self.calc_crit,
            "n_kh": self.n_kh,
            "max_v": self.max_v,
            "memory_budget": None if self.memory_budget is None else self.memory_budget // 2,
        }
