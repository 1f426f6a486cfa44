"""viz_esd: what the Hessian of the loss looks like at a point."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from lla_func import hessian as products
from lla_func import plots
from lla_func._torch import free_memory
from lla_func.errors import finite_number, flag, names, one_of, positive_int
from lla_func.facades._caveats import warn_of_what_did_not_converge
from lla_func.facades._common import folders_of, objective_of, provenance, seed_of
from lla_func.facades._result import SpectrumResult
from lla_func.hessian import KERNELS, is_first, shared
from lla_func.landscape import store
from lla_func.objective import Objective
from lla_func.spectrum import Analysis, Operator, analyse, room_for

__all__ = ["SpectrumResult", "draw", "save", "viz_esd"]

RUNS = 10_000
"""The most runs of the density in one call."""

OPERATORS: Mapping[str, Callable[..., Operator]] = {
    "hessian": products.hessian,
    "ggn": products.ggn,
    "fisher": products.fisher,
    "finite_difference": products.finite_difference,
}


def viz_esd(
    model: Any,
    metric: Any = None,
    eigs: bool = False,
    top_n: int = 2,
    eigs_n_iter: int = 100,
    eigs_tol: float = 1e-3,
    trace: bool = False,
    trace_n_iter: int = 100,
    trace_tol: float = 1e-3,
    esd: bool = True,
    esd_n_iter: int = 100,
    n_v: int = 1,
    max_v: int | None = None,
    to_save: bool = True,
    to_viz: bool = False,
    exp_name: str = "esd_example",
    viz_dir: str | Path | None = None,
    res_dir: str | Path | None = None,
    calc_crit: bool = False,
    n_kh: float = 0.5,
    *,
    seed: int | None = None,
    which: str = "magnitude",
    curvature: str = "hessian",
    parameters: str | Iterable[str] | None = None,
    kernel: str = "auto",
    memory_budget: int | None = None,
    device: Any = None,
    batchnorm: str = "eval",
    dtype: Any = None,
    group: Any = None,
) -> SpectrumResult:
    """Eigenvalues, trace, spectral density and criteria of the Hessian, sharing one Krylov space.

    Names, order and defaults of the arguments up to ``n_kh`` are the original's, but for ``max_v``: its 10 vectors
    lose orthogonality and draw eigenvalues several times over, so all that fit in a gigabyte (or ``memory_budget``)
    are kept.
    ``to_save`` and ``to_viz`` default to what the original documents. Eigenpairs stop on true residuals; the original
    stops when successive Rayleigh quotients agree, which may happen far from an eigenvalue.

    Args:
        model: an ``nn.Module``, or an :class:`~lla_func.Objective` (then without metric).
        metric: what the loss is: ``bridges.metrics.Loss(criterion, inputs, targets)``, or a function of the model.
        eigs: compute eigenvalues and eigenvectors.
        top_n: how many.
        eigs_n_iter: the most products for each.
        eigs_tol: the largest residual norm, relative to the largest eigenvalue.
        trace: compute the trace.
        trace_n_iter: the most products for it.
        trace_tol: the standard error to reach, relative to the mean size of the samples.
        esd: compute the spectral density.
        esd_n_iter: Lanczos steps of each run.
        n_v: the number of runs, each from its own random vector.
        max_v: the most Lanczos vectors held.
        to_save: write the picture, the numbers (npz), the settings (JSON) and a line of text for each result (log).
        to_viz: show the picture.
        exp_name: a name for the run, and for its files.
        viz_dir: where pictures go, by default ``./viz_results``.
        res_dir: where numbers and settings go, by default ``./analysis_results``.
        calc_crit: compute the criteria r_e and K_hn (needs ``esd``).
        n_kh: the power in K_hn.
        seed: of the random vectors; by default a fresh one, which the result names.
        which: the eigenpairs, ``"magnitude"``, ``"largest"``, ``"smallest"`` or ``"both"`` ends.
        curvature: ``"hessian"``, ``"ggn"``, ``"fisher"`` or, as a last resort, ``"finite_difference"``.
        parameters: name patterns of the parameters to restrict it to, such as ``"fc1.*"``.
        kernel: how Hessian products are formed (:func:`lla_func.hessian.hessian`).
        memory_budget: bytes to take beyond the model and its data, half of them for what products keep between them
            and half for vectors of the length of all parameters. By default these take a gigabyte, and products half
            of what is free. Enough memory is made sure of before the work starts.
        device: where to compute; it must be the metric's device, which is the default.
        batchnorm: ``"eval"`` or ``"batch"``.
        dtype: ``torch.float32`` or ``torch.float64`` to differentiate a copy of the model in this precision.
        group: a ``torch.distributed`` process group, all of whose processes make this call with the same arguments
            (a seed included). They share the data (:mod:`lla_func.hessian._sharding`); rank 0 alone writes and draws.

    Returns:
        a :class:`SpectrumResult`, which unpacks into (eigenvalues, eigenvectors, trace, re, Khn).

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it, its value and what is allowed.
        MemoryError: more memory would be needed than is free.
    """
    arguments = dict(locals())
    asked = _checked(**arguments)
    objective, folders, name = asked.objective, asked.folders, asked.name
    settings = {k: v for k, v in arguments.items() if k not in ("model", "metric", "group")}
    to_save, to_viz = to_save and is_first(group), to_viz and is_first(group)
    start = time.perf_counter()
    options: dict[str, Any] = {"kernel": kernel} if curvature == "hessian" else {}
    if memory_budget is not None and curvature != "finite_difference":
        options["memory"] = asked.analysis["memory_budget"]
    operator = shared(OPERATORS[curvature], objective, group=group, parameters=asked.parameters, **options)
    analysis = analyse(operator, **asked.analysis)
    settings |= {"seed": asked.seed, "operator": operator.name, **provenance(objective)}
    seconds = time.perf_counter() - start
    warn_of_what_did_not_converge(analysis, operator.dim, eigs_tol=eigs_tol, trace_tol=trace_tol)
    paths = {} if folders is None else save(analysis, name, folders[1], settings=settings)
    if esd and (to_save or to_viz):
        paths |= draw(analysis, name, folders[0] if folders else None, show=to_viz)
    pairs, estimate, criteria = analysis.eigenpairs, analysis.trace, analysis.criteria
    return SpectrumResult(
        eigenvalues=None if pairs is None else pairs.values,
        eigenvectors=None if pairs is None else pairs.vectors,
        trace=None if estimate is None else estimate.value,
        re=None if criteria is None else criteria.r_e.value,
        Khn=None if criteria is None else criteria.k_hn.value,
        analysis=analysis,
        products=sum(analysis.products.values()),
        seed=asked.seed,
        settings=settings,
        seconds=seconds,
        paths=paths,
    )


class Request(NamedTuple):
    """What a call of :func:`viz_esd` asks for, checked.

    Attributes:
        objective: of the model under the metric.
        parameters: name patterns of those that it is restricted to, or None.
        analysis: the options of :func:`lla_func.analyse`.
        seed: of the random vectors.
        name: of the files.
        folders: for pictures and for numbers, None where nothing is written.
    """

    objective: Objective
    parameters: tuple[str, ...] | None
    analysis: Mapping[str, Any]
    seed: int
    name: str
    folders: tuple[Path, Path] | None


def _checked(**arguments: Any) -> Request:
    """The whole request, checked before any work: first what words and numbers tell, then what needs the objective."""
    asked = SimpleNamespace(**arguments)
    for option in ("eigs", "trace", "esd", "to_save", "to_viz", "calc_crit"):
        flag(option, arguments[option])
    if asked.group is not None and asked.seed is None:
        raise ValueError("group= needs seed=, the same in all its processes")
    if asked.calc_crit and not asked.esd:
        raise ValueError("calc_crit=True needs esd=True: the criteria are made of the nodes of the density")
    if not (asked.esd or asked.eigs or asked.trace):
        raise ValueError("esd, eigs and trace are all False; ask for at least one of them")
    one_of("curvature", asked.curvature, OPERATORS)
    one_of("kernel", asked.kernel, ("auto", "timed", *KERNELS))
    if asked.curvature != "hessian" and asked.kernel != "auto":
        raise ValueError(
            f"kernel={asked.kernel!r} is for curvature='hessian'; {asked.curvature!r} has only one way"
        )
    one_of("which", asked.which, ("magnitude", "largest", "smallest", "both"))
    top_n, seed = positive_int("top_n", asked.top_n), seed_of(asked.seed)
    analysis: dict[str, Any] = {
        "density_steps": positive_int("esd_n_iter", asked.esd_n_iter) * asked.esd,
        "probes": positive_int("n_v", asked.n_v, most=RUNS),
        "top_n": top_n if asked.eigs else 0,
        "which": asked.which,
        "eigs_tol": finite_number("eigs_tol", asked.eigs_tol, above=0),
        "eigs_products": top_n * positive_int("eigs_n_iter", asked.eigs_n_iter),
        "trace_products": positive_int("trace_n_iter", asked.trace_n_iter) * asked.trace,
        "trace_tol": finite_number("trace_tol", asked.trace_tol, above=0),
        "criteria": asked.calc_crit,
        "n_kh": finite_number("n_kh", asked.n_kh, above=0),
        "max_v": None if asked.max_v is None else positive_int("max_v", asked.max_v, least=2),
        "memory_budget": None
        if asked.memory_budget is None
        else positive_int("memory_budget", asked.memory_budget, least=2) // 2,
        "seed": seed,
    }
    name = store.file_name("exp_name", asked.exp_name)
    writes = asked.to_save and is_first(asked.group)
    folders = folders_of(asked.viz_dir, asked.res_dir) if writes else None

    objective = objective_of(
        asked.model, asked.metric, asked.device, batchnorm=asked.batchnorm, dtype=asked.dtype
    )
    parameters, layout = asked.parameters, objective.layout
    if parameters is not None:
        parameters = names("parameters", parameters, otherwise=", or None for all parameters")
        layout = layout.only(layout.matching(parameters, name="parameters"))
    if asked.eigs and top_n > layout.numel:
        raise ValueError(f"top_n={top_n} is more than there are parameters ({layout.numel})")
    room_for(
        layout.numel,
        objective.theta.dtype.itemsize,
        density_steps=analysis["density_steps"],
        top_n=analysis["top_n"],
        max_v=analysis["max_v"],
        budget=analysis["memory_budget"],
        free=free_memory(objective.theta.device),
    )
    return Request(objective, parameters, analysis, seed, name, folders)


def draw(analysis: Analysis, name: str, folder: Path | None, *, show: bool) -> dict[str, Path]:
    """Draws the density with its criteria; saves it to ``folder`` unless that is None."""
    assert analysis.curve is not None
    assert analysis.quadrature is not None
    criteria = analysis.criteria
    corner = None
    if criteria is not None:
        corner = {"$r_e$": criteria.r_e.value, f"$K_{{h{criteria.n:g}}}$": criteria.k_hn.value}
        if criteria.note is None:
            corner["its spread"] = criteria.k_hn.spread
    rules = analysis.quadrature
    curve = analysis.curve
    figure: Any = plots.density(
        curve.grid, curve.values, rules.nodes, rules.weights, corner, title=name
    ).figure
    paths = {} if folder is None else {"esd": plots.save(figure, folder / f"{name}_esd.png")}
    if show:
        plots.show(figure)
    return paths


def save(analysis: Analysis, name: str, folder: Path, *, settings: Mapping[str, Any]) -> dict[str, Path]:
    """Writes an analysis: arrays as npz, a summary as JSON, and one line for each result as the original's logs."""
    summary = summarise(analysis)
    paths = {
        "spectrum": store.save_arrays(folder / f"esd_{name}.npz", **_arrays(analysis)),
        "summary": store.save_json(
            folder / f"esd_{name}.json", {"results": summary, "settings": dict(settings)}
        ),
    }
    lines: dict[str, str] = {}
    if "eigenvalues" in summary:
        lines["eigenvalues"] = str(summary["eigenvalues"])
    if "trace" in summary:
        lines["trace"] = f"{summary['trace']} +- {summary['trace_standard_error']}"
    if analysis.criteria is not None:
        c = analysis.criteria
        known_to = f"spread of Kh{c.n}: {c.k_hn.spread}" if c.note is None else c.note
        lines["hessian_criteria"] = (
            f"re: {c.r_e.value}, Kh{c.n}: {c.k_hn.value}, spectrum: {c.spectrum} ({known_to})"
        )
    for what, line in lines.items():
        paths[what] = store.append_line(folder / f"{what}_{name}.log", line)
    return paths


def summarise(analysis: Analysis) -> dict[str, Any]:
    """The numbers of an analysis without its arrays."""
    summary: dict[str, Any] = {"operator": analysis.operator, "products": dict(analysis.products)}
    if (pairs := analysis.eigenpairs) is not None:
        summary |= {
            "eigenvalues": pairs.values.tolist(),
            "residuals": pairs.residuals.tolist(),
            "eigenpairs_converged": pairs.converged,
        }
    if (estimate := analysis.trace) is not None:
        summary |= {
            "trace": estimate.value,
            "trace_standard_error": estimate.standard_error,
            "trace_samples": len(estimate.samples),
            "trace_converged": estimate.converged,
        }
    if analysis.quadrature is not None and analysis.curve is not None:
        summary |= {
            "bandwidth": analysis.curve.bandwidth,
            "orthogonality_loss": analysis.quadrature.orthogonality_loss,
        }
    if (c := analysis.criteria) is not None:
        for label, criterion in (("re", c.r_e), ("Khn", c.k_hn)):
            summary |= {label: criterion.value, f"{label}_spread": criterion.spread}
        summary |= {"spectrum": c.spectrum, "n_kh": c.n, "note": c.note}
    return summary


def _arrays(analysis: Analysis) -> dict[str, Any]:
    """The arrays of an analysis by name."""
    arrays: dict[str, Any] = {}
    if (rules := analysis.quadrature) is not None and (curve := analysis.curve) is not None:
        arrays |= {"nodes": rules.nodes, "weights": rules.weights}
        arrays |= {
            "grid": curve.grid,
            "density": curve.values,
            "density_standard_error": curve.standard_error,
        }
    if (pairs := analysis.eigenpairs) is not None:
        arrays |= {"eigenvalues": pairs.values, "eigenvectors": pairs.vectors, "residuals": pairs.residuals}
    if (estimate := analysis.trace) is not None:
        arrays |= {"trace_samples": estimate.samples}
    return arrays
