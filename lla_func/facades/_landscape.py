"""viz_lla: what the loss looks like around a point."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import torch

from lla_func._torch import noticed
from lla_func.assessment import curvature_map
from lla_func.facades._caveats import warn_of_flat_surfaces, why_flat
from lla_func.facades._common import operator_of, provenance
from lla_func.facades._request import MEASURABLE, Families, Request, checked
from lla_func.facades._result import LandscapeResult, arrays
from lla_func.facades._writing import save_losses, save_spectrum, write_landscape
from lla_func.geometry import free_parameters
from lla_func.geometry import panels as panels_of
from lla_func.landscape import Landscape, directions_of, evaluate, measured_curvature
from lla_func.objective import risk, values
from lla_func.options import VIZ_LLA, Drawing, Evaluation, Hessian, Output, Panels, Setup
from lla_func.spectrum import Analysis, Eigenpairs, analyse

ESD_STEPS = 100
"""Lanczos steps of the spectral density, as in the original."""


def viz_lla(
    model: Any,
    metric: Any = None,
    device: Any = None,
    dist: float = 1,
    steps: int = 40,
    num_plots: int = 4,
    num_per_plot: int = 2,
    axes: Any = "random",
    normalization: str | None = None,
    order: int = 2,
    cur_name: str = "default",
    mode: str = "add",
    b_sqrt: bool = True,
    viz_dev: bool = False,
    cap_loss: float | None = None,
    raa: int | None = None,
    viz_dir: str | Path | None = None,
    eval_hessian: bool = False,
    optimizer: Any = None,
    to_viz: bool = False,
    to_save: bool = True,
    return_loss: bool = False,
    res_dir: str | Path | None = None,
    calc_crit: bool = False,
    n_kh: float = 0.5,
    *,
    group: Any = None,
    metrics: Mapping[str, Any] | None = None,
    freeze: int | str | Iterable[str] | None = None,
    ignore: str | None = None,
    distribution: str = "normal",
    dim: int = 2,
    adam_lr: float | None = None,
    seed: int | None = None,
    engine: str = "auto",
    points_per_pass: int | None = None,
    samples_per_tile: int | None = None,
    channels_last: bool | None = None,
    plan: Any = None,
    memory_budget: int | None = None,
    sampling: str = "grid",
    tol: float | None = None,
    log_tol: bool = False,
    tf32: bool = False,
    errors: bool = False,
    store: str | Path | None = None,
    progress: bool = False,
    n_v: int = 1,
    curvature: str = "hessian",
    kernel: str = "auto",
    parameters: str | Iterable[str] | None = None,
    hessian_pair: str = "top",
    curvature_map: int | None = None,
    batchnorm: str = "eval",
    dropout_seed: int | None = None,
    dtype: Any = None,
    log: bool = False,
    quadratic: bool = False,
) -> Any:
    """Evaluates and draws the loss landscape around a trained network.

    The surface spans ``dist * [-0.5, 0.5]`` along each direction, symmetric about the trained point, whose loss is
    evaluated besides and marked. The arguments up to ``n_kh`` have the names and the order of the original; unlike
    there, models are evaluated in eval mode unless ``batchnorm`` and ``dropout_seed`` say otherwise, frozen parameters
    stay exactly where they were, losses are never clipped except on the plot, and wrong values are errors instead of
    being replaced by defaults.

    Args:
        model: an ``nn.Module``, or an :class:`~lla_func.Objective` (then without metric).
        metric: what the loss is, such as ``bridges.metrics.Loss(criterion, inputs, targets)``; anything that has
            ``objective(model, batchnorm=..., dropout_seed=...)``, or a function of the model alone.
        device: where to compute; it must be the metric's device, which is the default.
        dist: extent of the surface in all, in units of the directions.
        steps: points along each axis. At least 2.
        num_plots: random planes in a figure. For ``axes="random"`` only.
        num_per_plot: how many of them stand side by side.
        axes: directions: random, adam (moments of the optimizer) or hessian (its eigenvectors). ``"adam"`` takes the
            first and second moments of an Adam-like optimizer, bias-corrected, ``"hessian"`` the top two eigenvectors.
            Directions of your own come as [2, P] (or [1, P] with ``dim=1``): a tensor or array, or a list of two
            vectors, named tensors or other models, towards which they point (:func:`lla_func.facades.directions_from`).
        normalization: scaling of the directions to the weights: None, weight, layer, model or filter (recommended). See
            :func:`lla_func.geometry.normalize`.
        order: norm for the normalization, L1 or L2.
        cur_name: a name for the run, and for its files.
        mode: add (origin + a d1 + b d2), or adameq: Adam's update rule, with axes adam only. It takes scaled moments
            (:func:`lla_func.geometry.adameq`).
        b_sqrt: whether ``adameq`` takes the square root of its second coordinate.
        viz_dev: draw all kinds of landscape in one figure. These are several normalizations of the random axes, and of
            the Hessian's or Adam's with ``axes="hessian"`` or ``"adam"``; num_plots, normalization, order and mode do
            not count then.
        cap_loss: draw losses above this as capped. The saved losses are the true ones.
        raa: the original's name for an integer ``freeze``.
        viz_dir: folder for pictures (default: viz_results).
        eval_hessian: also compute the Hessian's spectral density.
        optimizer: the Adam-like optimizer that trained the model, for ``axes="adam"``.
        to_viz: show the picture.
        to_save: write the pictures, the numbers (npz) and the settings (JSON).
        return_loss: return the losses as in the original instead of the result: an array [steps, steps], or with
            several panels a dict of arrays by row and column of the figure, ``"00"``, ``"01"``, ``"10"``, ... They are
            clipped at ``cap_loss`` as there.
        res_dir: folder for numbers and settings (default: analysis_results).
        calc_crit: also compute the Hessian criteria. They are r_e and K_hn, of the spectral density, which they need.
        n_kh: power in the criterion K_hn.
        group: a ``torch.distributed`` process group, all of whose processes make this call with the same arguments.
            They share the points through ``store``, which it needs, and the data of Hessian products; rank 0 alone
            writes and draws.
        metrics: further values at each point by name, such as ``{"accuracy": bridges.metrics.accuracy}``, found in the
            same pass with their errors over data and drawn each in a figure of its own: functions of (predictions,
            targets) that return [B], [B, K] or a number, metrics of torchmetrics, or anything with
            ``objective(model)``. With an Objective, what :class:`~lla_func.Objective` takes as metrics.
        freeze: parameters that do not move: from the Nth tensor on (7), before it (-7), or by name ('features.*'). See
            :func:`lla_func.geometry.freeze`.
        ignore: keep biases and normalization layers where they are (bias_norm).
        distribution: of random directions: normal or uniform.
        dim: 2 for planes, 1 for lines with their profile.
        adam_lr: the learning rate in ``adameq``, by default the optimizer's own. The original takes 1.
        seed: seed of the random directions; by default a fresh one, which the result names.
        engine: how the points are computed: auto (by autotuning), loop, vmap, hoisted or compiled.
        points_per_pass: how many points share each operation.
        samples_per_tile: how many samples are computed together, where batches may be cut.
        channels_last: whether images have their channels innermost in memory.
        plan: a plan to follow, such as the ``diagnostics["plan"]`` of an earlier landscape, instead of engine and the
            three options before.
        memory_budget: bytes for everything beyond the data and the directions (default: a quarter of what is free).
        sampling: ``"grid"`` evaluates every point.
        tol: evaluate fewer points and interpolate with an estimated error of so much of the range of the losses (0.01
            is one percent); a needle narrower than the spacing of the points, about a sixth of the extent, can be
            missed.
        log_tol: whether the log-loss has to be within ``tol`` of its range as well.
        tf32: let a GPU compute a quick preview with TensorFloat-32.
        errors: also the standard error of each loss over data: what another sample of the same size would change.
        store: keep finished points in a folder: the same call goes on where it stopped, and several processes that make
            it share the work.
        progress: whether to show a progress bar.
        n_v: runs of the density, each from its own random vector. With 3 and more K_hn comes with its spread.
        curvature: which matrix: hessian, ggn, fisher or, as a last resort, finite_difference.
        kernel: how Hessian products are formed: auto, timed, vjp, linearize or recompute. See
            :func:`lla_func.hessian.hessian`.
        parameters: restrict the Hessian to parameters by name ('fc1.*').
        hessian_pair: eigenvectors of axes hessian: top (the two of largest magnitude) or extremes (largest and
            smallest). The latter show saddles.
        curvature_map: also map the largest and smallest eigenvalue and their ratio r_e over each surface, by
            polynomials of this degree (8 is usual). That takes Hessian products at (degree + 1)^2 points, each
            warm-started from its neighbor (:func:`lla_func.assessment.curvature_map`).
        batchnorm: statistics of BatchNorm: eval (stored), batch (of the data) or recalibrate (anew at each point,
            without Hessians).
        dropout_seed: evaluate with dropout active, the same mask at every point; by default it is off.
        dtype: float32 or float64 to evaluate a copy of the model and of the data in this precision. Models in bfloat16
            or float16 need it: with 8 or 11 bits a surface has a few distinct losses only.
        log: draw on a logarithmic scale.
        quadratic: overlay contours of what the eigenvalues predict, 1/2 (l1 a^2 + l2 b^2), on unscaled Hessian axes.

    Returns:
        a :class:`LandscapeResult`; with ``return_loss`` only the losses.

    Raises:
        ValueError, TypeError: an argument is wrong, or a directory cannot be written; the message names it, its value
            and what is allowed. Found out before the work starts.
    """
    # The options, gathered by `make signatures`.
    # fmt: off
    panels = Panels(axes=axes, normalization=normalization, order=order, dist=dist, steps=steps,
        num_plots=num_plots, num_per_plot=num_per_plot, mode=mode, b_sqrt=b_sqrt, viz_dev=viz_dev,
        freeze=freeze, raa=raa, ignore=ignore, distribution=distribution, dim=dim, adam_lr=adam_lr, seed=seed)
    evaluation = Evaluation(engine=engine, points_per_pass=points_per_pass, samples_per_tile=samples_per_tile,
        channels_last=channels_last, plan=plan, memory_budget=memory_budget, sampling=sampling, tol=tol,
        log_tol=log_tol, tf32=tf32, errors=errors, store=store, progress=progress)
    hessian = Hessian(calc_crit=calc_crit, n_kh=n_kh, n_v=n_v, curvature=curvature, kernel=kernel,
        parameters=parameters, eval_hessian=eval_hessian, hessian_pair=hessian_pair,
        curvature_map=curvature_map)
    setup = Setup(device=device, batchnorm=batchnorm, dropout_seed=dropout_seed, dtype=dtype)
    drawing = Drawing(cap_loss=cap_loss, log=log, cur_name=cur_name, quadratic=quadratic,
        return_loss=return_loss)
    output = Output(to_save=to_save, to_viz=to_viz, viz_dir=viz_dir, res_dir=res_dir)
    # fmt: on
    with noticed():
        families = (panels, evaluation, hessian, setup, drawing, output)
        asked = checked(model, metric, optimizer, group, metrics, families)
        result = _computed(asked)
        result = replace(result, paths={**result.paths, **write_landscape(asked, result)})
    return arrays(result, drawing.cap_loss, columns=asked.columns) if drawing.return_loss else result


def check_request(*operands: Any, **options: Any) -> Request:
    """Checks everything that a call of :func:`viz_lla` with these arguments asks for, and evaluates nothing.

    For those who do other work before they make the call: what is wrong is found here, not after that work. Only the
    moments of ``optimizer``, which training has yet to make, are left to the call.

    Raises:
        ValueError, TypeError: as :func:`viz_lla`.
    """
    call = inspect.signature(viz_lla).bind(*operands, **options)
    call.apply_defaults()
    given = call.arguments
    families = (family(**{each.name: given[each.name] for each in fields(family)}) for family in VIZ_LLA)
    names = ("model", "metric", "optimizer", "group", "metrics")
    model, metric, optimizer, group, metrics = (given[name] for name in names)
    return checked(model, metric, optimizer, group, metrics, cast(Families, tuple(families)))


def _computed(asked: Request) -> LandscapeResult:
    """The Hessian where it is asked for, then the panels one after another; each is written as soon as it is there."""
    start = time.perf_counter()
    objective, panels = asked.objective, asked.panels
    settings = {
        name: value
        for family in (panels, asked.evaluation, asked.hessian, asked.setup, asked.drawing, asked.output)
        for name, value in family.asdict().items()
    }
    directions = None if isinstance(asked.axes, str) else asked.axes  # those that are not drawn from the seed
    axes = asked.axes if directions is None else "given"
    settings |= {"seed": asked.seed, "axes": axes, **provenance(objective)}
    moments = None
    if panels.along("adam"):
        moments = asked.metric.moments(asked.model, asked.optimizer)
        directions = moments.directions
    measuring = objective.metrics or asked.evaluation.errors
    measured = values(objective, errors=asked.evaluation.errors) if measuring else None
    center = float(risk(objective) if measured is None else measured.loss)
    analysis = _analysis(asked)
    paths: dict[str, Path] = {}
    if analysis is not None and asked.folders is not None:
        paths |= save_spectrum(analysis, asked.drawing.cur_name, asked.folders[1], settings=settings)
    if (pairs := _eigenpairs(asked, analysis)) is not None:
        directions = pairs.vectors
    landscapes: list[Landscape] = []
    titles: list[str] = []
    reasons: dict[str, str | None] = {}
    free = free_parameters(objective, panels)
    surfaces = panels_of(
        objective,
        panels,
        axes=asked.axes,
        generator=torch.Generator().manual_seed(asked.seed),
        moments=moments,
        eigenvectors=None if pairs is None else pairs.vectors,
        curvature=asked.hessian.curvature,
        eigenvalues=() if pairs is None else pairs.values.tolist(),
    )
    for number, panel in enumerate(surfaces, start=1):
        slug = "_".join(re.findall(r"\w+", panel.title))
        folder = None if asked.store is None else asked.store / f"{number:02d}_{slug}"
        options = asked.evaluation.asdict() | {"store": folder}
        landscape = evaluate(objective, panel.chart, panel.coords, **options)._replace(center=center)
        if measured is not None and measured.metrics:
            found = {name: value.tolist() for name, value in measured.metrics.items()}
            landscape = landscape._replace(diagnostics={**landscape.diagnostics, "center_metrics": found})
        hessian = asked.hessian
        if hessian.curvature_map is not None:
            landscape = curvature_map(
                *(objective, panel.chart, landscape),
                degree=hessian.curvature_map,
                curvature=hessian.curvature,
                kernel=hessian.kernel,
                parameters=hessian.parameters,
                seed=asked.seed,
                progress=asked.evaluation.progress,
            )
        landscapes.append(landscape)
        titles.append(panel.title)
        reasons[panel.title] = why_flat(objective, panel.chart, landscape, free)
        paths |= save_losses(asked, landscapes, titles)
    warn_of_flat_surfaces(reasons)
    seen = pairs is not None and asked.hessian.curvature in MEASURABLE
    return LandscapeResult(
        landscapes=tuple(landscapes),
        titles=tuple(titles),
        center_loss=center,
        nonfinite=sum(landscape.diagnostics["nonfinite"] for landscape in landscapes),
        seed=asked.seed,
        directions=directions,
        settings=settings,
        seconds=time.perf_counter() - start,
        paths=paths,
        hessian=analysis,
        curvature=measured_curvature(objective, pairs) if pairs is not None and seen else None,
    )


def _analysis(asked: Request) -> Analysis | None:
    """Of the Hessian: its eigenpairs for axes along them, its density and its criteria; None if none is asked for."""
    hessian, axes = asked.hessian, asked.panels.along("hessian")
    if not (axes or hessian.eval_hessian):
        return None
    operator = operator_of(asked.objective, hessian, asked.group)
    return analyse(
        operator,
        density_steps=ESD_STEPS if hessian.eval_hessian else 0,
        probes=hessian.n_v,
        top_n=min(2, operator.dim) if axes else 0,
        which="both" if hessian.hessian_pair == "extremes" else "magnitude",
        criteria=hessian.calc_crit,
        n_kh=hessian.n_kh,
        seed=asked.seed,
    )


def _eigenpairs(asked: Request, analysis: Analysis | None) -> Eigenpairs | None:
    """Those found, as directions [K, P] of all parameters; those that a store was begun with, where there is one."""
    pairs = None if analysis is None else analysis.eigenpairs
    if pairs is not None and asked.within is not None:
        whole = pairs.vectors.new_zeros(len(pairs.vectors), len(asked.within))
        whole[:, asked.within.to(whole.device)] = pairs.vectors
        pairs = pairs._replace(vectors=whole)
    if pairs is not None and asked.store is not None:
        pairs = pairs._replace(vectors=directions_of(asked.store, pairs.vectors))
    return pairs
