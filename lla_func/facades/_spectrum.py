"""viz_esd: what the Hessian of the loss looks like at a point."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from lla_func._torch import free_memory, noticed
from lla_func.facades._caveats import warn_of_what_did_not_converge
from lla_func.facades._common import folders_of, objective_of, operator_of, provenance, seed_of
from lla_func.facades._result import SpectrumResult
from lla_func.facades._writing import draw_spectrum, save_spectrum
from lla_func.files import file_name
from lla_func.hessian import is_first
from lla_func.objective import Objective
from lla_func.options import Output, Setup, Spectrum
from lla_func.spectrum import analyse, over_data, room_for


def viz_esd(
    model: Any,
    metric: Any = None,
    eigs: bool = False,
    top_n: int = 2,
    eigs_n_iter: int = 100,
    eigs_tol: float = 0.001,
    trace: bool = False,
    trace_n_iter: int = 100,
    trace_tol: float = 0.001,
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
    group: Any = None,
    curvature: str = "hessian",
    kernel: str = "auto",
    parameters: str | Iterable[str] | None = None,
    which: str = "magnitude",
    memory_budget: int | None = None,
    seed: int | None = None,
    device: Any = None,
    batchnorm: str = "eval",
    dropout_seed: int | None = None,
    dtype: Any = None,
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
        top_n: eigenvalues to compute.
        eigs_n_iter: the most products for each.
        eigs_tol: the largest residual norm of eigenpairs, relative to the largest eigenvalue.
        trace: compute the trace.
        trace_n_iter: the most products for the trace.
        trace_tol: the standard error of the trace to reach, relative to the mean size of the samples.
        esd: compute the spectral density.
        esd_n_iter: Lanczos steps of each run of the density.
        n_v: runs of the density, each from its own random vector. With 3 and more K_hn comes with its spread.
        max_v: the most Lanczos vectors held (default: all that fit in 1 GB).
        to_save: write the pictures, the numbers (npz) and the settings (JSON).
        to_viz: show the picture.
        exp_name: a name for the run, and for its files.
        viz_dir: folder for pictures (default: viz_results).
        res_dir: folder for numbers and settings (default: analysis_results).
        calc_crit: also compute the Hessian criteria. They are r_e and K_hn, of the spectral density, which they need.
        n_kh: power in the criterion K_hn.
        group: a ``torch.distributed`` process group, all of whose processes make this call with the same arguments
            (a seed included). They share the data (:mod:`lla_func.hessian._sharding`); rank 0 alone writes and draws.
        curvature: which matrix: hessian, ggn, fisher or, as a last resort, finite_difference.
        kernel: how Hessian products are formed: auto, timed, vjp, linearize or recompute. See
            :func:`lla_func.hessian.hessian`.
        parameters: restrict the Hessian to parameters by name ('fc1.*').
        which: the eigenpairs, ``"magnitude"``, ``"largest"``, ``"smallest"`` or ``"both"`` ends.
        memory_budget: bytes to take beyond the model and its data, such as 500M or 8G in the command. Half of them are
            for what products keep between them and half for vectors of the length of all parameters. By default these
            take a gigabyte, and products half of what is free. Enough memory is made sure of before the work starts.
        seed: seed of the random vectors; by default a fresh one, which the result names.
        device: where to compute; it must be the metric's device, which is the default.
        batchnorm: statistics of BatchNorm: eval (stored), batch (of the data) or recalibrate (anew at each point,
            without Hessians).
        dropout_seed: evaluate with dropout active, the same mask at every point; by default it is off.
        dtype: float32 or float64 to evaluate a copy of the model and of the data in this precision. Models in bfloat16
            or float16 need it: with 8 or 11 bits a surface has a few distinct losses only.

    Returns:
        a :class:`SpectrumResult`, which unpacks into (eigenvalues, eigenvectors, trace, re, Khn).

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it, its value and what is allowed.
        MemoryError: more memory would be needed than is free.
    """
    # The options, gathered by `make signatures`.
    # fmt: off
    spectrum = Spectrum(calc_crit=calc_crit, n_kh=n_kh, n_v=n_v, curvature=curvature, kernel=kernel,
        parameters=parameters, eigs=eigs, top_n=top_n, eigs_n_iter=eigs_n_iter, eigs_tol=eigs_tol,
        which=which, trace=trace, trace_n_iter=trace_n_iter, trace_tol=trace_tol, esd=esd,
        esd_n_iter=esd_n_iter, max_v=max_v, memory_budget=memory_budget, exp_name=exp_name, seed=seed)
    setup = Setup(device=device, batchnorm=batchnorm, dropout_seed=dropout_seed, dtype=dtype)
    output = Output(to_save=to_save, to_viz=to_viz, viz_dir=viz_dir, res_dir=res_dir)
    # fmt: on
    with noticed():
        asked = _checked(model, metric, group, spectrum, setup, output)
        return _written(asked, _computed(asked))


class Request(NamedTuple):
    """What a call of :func:`viz_esd` asks for, checked.

    Attributes:
        objective: of the model under the metric.
        spectrum, setup, output: the options.
        seed: of the random vectors.
        name: of the files.
        folders: for pictures and for numbers, None where nothing is written.
        group: the processes that share the work.
    """

    objective: Objective
    spectrum: Spectrum
    setup: Setup
    output: Output
    seed: int
    name: str
    folders: tuple[Path, Path] | None
    group: Any


def _checked(
    model: Any, metric: Any, group: Any, spectrum: Spectrum, setup: Setup, output: Output
) -> Request:
    """The request of a call; what is left to check of options that are right by themselves."""
    if group is not None and spectrum.seed is None:
        raise ValueError("group= needs seed=, the same in all its processes")
    name = file_name("exp_name", spectrum.exp_name)
    folders = folders_of(output, group)
    objective = objective_of(model, metric, setup)
    layout = objective.layout
    if spectrum.parameters is not None:
        layout = layout.only(layout.matching(spectrum.parameters, name="parameters"))
    if spectrum.eigs and spectrum.top_n > layout.numel:
        raise ValueError(f"top_n={spectrum.top_n} is more than there are parameters ({layout.numel})")
    analysis = spectrum.analysis()
    needed = {name: analysis[name] for name in ("density_steps", "top_n", "max_v")}
    limits = {"budget": analysis["memory_budget"], "free": free_memory(objective.theta.device)}
    room_for(layout.numel, objective.theta.dtype.itemsize, **needed, **limits)
    return Request(objective, spectrum, setup, output, seed_of(spectrum.seed), name, folders, group)


def _computed(asked: Request) -> SpectrumResult:
    """The analysis."""
    start = time.perf_counter()
    spectrum, options = asked.spectrum, asked.spectrum.analysis()
    operator = operator_of(asked.objective, spectrum, asked.group, options["memory_budget"])
    analysis = analyse(operator, **options, seed=asked.seed)
    errors = over_data(operator, analysis)
    seconds = time.perf_counter() - start
    warn_of_what_did_not_converge(analysis, operator.dim, spectrum)
    settings = spectrum.asdict() | asked.setup.asdict() | asked.output.asdict()
    settings |= {"seed": asked.seed, "operator": operator.name, **provenance(asked.objective)}
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
        paths={},
        over_data=errors,
    )


def _written(asked: Request, result: SpectrumResult) -> SpectrumResult:
    """The same result with its files, its picture drawn and shown."""
    folders = asked.folders
    paths: dict[str, Path] = {}
    if folders is not None:
        paths |= save_spectrum(result.analysis, asked.name, folders[1], settings=result.settings)
    show = asked.output.to_viz and is_first(asked.group)
    if asked.spectrum.esd and (folders is not None or show):
        paths |= draw_spectrum(result.analysis, asked.name, folders and folders[0], show=show)
    return replace(result, paths=paths)
