"""viz_lla: what the loss looks like around a point."""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lla_func import hessian as products
from lla_func import plots
from lla_func.facades._caveats import warn_of_flat_surfaces, why_flat
from lla_func.facades._common import metric_of, provenance
from lla_func.facades._request import Request, along, checked
from lla_func.facades._result import LandscapeResult, arrays
from lla_func.facades._spectrum import draw as draw_spectrum
from lla_func.facades._spectrum import save as save_spectrum
from lla_func.geometry import Moments, free_parameters, panels
from lla_func.hessian import is_first, shared
from lla_func.landscape import Curvature, Landscape, directions_of, evaluate, measured_curvature
from lla_func.landscape import store as files
from lla_func.objective import risk
from lla_func.spectrum import Eigenpairs, analyse

__all__ = ["Curvature", "LandscapeResult", "check_request", "viz_lla"]


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
    seed: int | None = None,
    n_v: int = 1,
    freeze: int | str | Iterable[str] | None = None,
    ignore: str | None = None,
    distribution: str = "normal",
    dim: int = 2,
    log: bool = False,
    adam_lr: float | None = None,
    hessian_pair: str = "top",
    quadratic: bool = False,
    batchnorm: str = "eval",
    dropout_seed: int | None = None,
    dtype: Any = None,
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
    store: str | Path | None = None,
    group: Any = None,
    progress: bool = False,
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
        device: where to evaluate; it must be the metric's device, which is the default.
        dist: how far the surface extends in all, in units of the directions.
        steps: points along each axis, at least 2.
        num_plots: how many random planes to draw (``axes="random"`` only).
        num_per_plot: how many of them stand side by side.
        axes: ``"random"``, ``"adam"`` (the optimiser's first and second moments, bias-corrected), ``"hessian"`` (its
            top two eigenvectors), or directions of your own, [2, P] (or [1, P] with ``dim=1``): a tensor or array, or
            a list of two vectors, named tensors or other models, towards which they point
            (:func:`lla_func.facades.directions_from`).
        normalization: None, ``"weight"``, ``"layer"``, ``"model"`` or ``"filter"``
            (:func:`lla_func.geometry.normalize`).
        order: 1 or 2, the norm that normalisation uses.
        cur_name: a name for the run, and for its files.
        mode: ``"add"`` (origin + a d1 + b d2), or ``"adameq"`` (Adam's update with scaled moments, ``axes="adam"``
            only; :func:`lla_func.geometry.adameq`).
        b_sqrt: whether ``adameq`` takes the square root of its second coordinate.
        viz_dev: draw all modes: several normalisations of the random axes, and of the Hessian's or Adam's with
            ``axes="hessian"`` or ``"adam"``. Ignores num_plots, normalization, order and mode.
        cap_loss: draw losses above this as capped. The saved losses are the true ones.
        raa: the original's name for an integer ``freeze``.
        viz_dir: where pictures go, by default ``./viz_results``.
        eval_hessian: also compute the Hessian's spectral density.
        optimizer: the Adam-like optimiser that trained the model, for ``axes="adam"``.
        to_viz: show the picture.
        to_save: write the pictures, the numbers (npz) and the settings (JSON).
        return_loss: return the losses as in the original instead of the result: an array [steps, steps], or with
            several panels a dict of arrays by row and column of the figure, ``"00"``, ``"01"``, ``"10"``, ... They are
            clipped at ``cap_loss`` as there.
        res_dir: where numbers and settings go, by default ``./analysis_results``.
        calc_crit: also compute the Hessian criteria (needs ``eval_hessian``).
        n_kh: the power in the criterion K_hn.
        seed: seed of the random directions; by default a fresh one, which the result names.
        n_v: the number of runs of the spectral density, each from its own random vector (needs ``eval_hessian``); with
            3 and more K_hn comes with its spread.
        freeze: parameters that do not move: an integer rule or name patterns (:func:`lla_func.geometry.freeze`).
        ignore: ``"bias_norm"`` keeps biases and normalisation layers where they are.
        distribution: of random directions, ``"normal"`` or ``"uniform"``.
        dim: 2 for planes, 1 for lines.
        log: draw on a logarithmic scale.
        adam_lr: the learning rate in ``adameq``, by default the optimiser's own. The original takes 1.
        hessian_pair: the eigenvectors of ``axes="hessian"``: ``"top"``, the two of largest magnitude, or
            ``"extremes"``, that of the largest eigenvalue and that of the smallest, which shows saddles.
        quadratic: overlay contours of what the eigenvalues predict, 1/2 (l1 a^2 + l2 b^2), on unscaled Hessian axes.
        batchnorm: ``"eval"``, ``"batch"`` or ``"recalibrate"`` (without Hessian analysis).
        dropout_seed: evaluate with dropout active, the same mask at every point; by default it is off.
        dtype: ``torch.float32`` or ``torch.float64`` to evaluate a copy of the model and of the data in this precision.
            Models in bfloat16 or float16 need it: with 8 or 11 bits a surface has a few distinct losses only.
        engine: how points are computed, ``"auto"``, ``"loop"``, ``"vmap"``, ``"hoisted"`` or ``"compiled"``
            (:func:`lla_func.evaluate`, also for the options up to ``tf32``).
        points_per_pass, samples_per_tile: how many points and samples an engine takes at once.
        channels_last: whether images have their channels innermost in memory.
        plan: a plan to follow, such as the ``diagnostics["plan"]`` of an earlier landscape, which repeats its bits.
        memory_budget: bytes that it may take beyond the data and the directions.
        sampling: ``"grid"``, or ``"chebyshev"`` to evaluate fewer points and interpolate within ``tol``.
        tol, log_tol: the estimated error allowed then, as a part of the range of the losses (and of the log-losses). A
            needle narrower than the spacing of the points evaluated, about a sixth of the extent, can be missed.
        tf32: allow TensorFloat-32 on a GPU, for a quick preview.
        store: a folder that keeps finished points, one subfolder for each panel. The same call goes on where it was
            interrupted, and several processes that make it share the work. Needs ``seed``.
        group: a ``torch.distributed`` process group, all of whose processes make this call with the same arguments.
            They share the points through ``store``, which it needs, and the data of Hessian products; rank 0 alone
            writes and draws.
        progress: show progress bars.

    Returns:
        a :class:`LandscapeResult`; with ``return_loss`` only the losses.

    Raises:
        ValueError, TypeError: an argument is wrong, or a directory cannot be written; the message names it, its value
            and what is allowed. Found out before the work starts.
    """
    metric = metric_of(metric)
    arguments = dict(locals())
    asked = checked(**arguments)
    objective, seed, name, folders, kept = asked.objective, asked.seed, asked.name, asked.folders, asked.store
    settings = {k: v for k, v in arguments.items() if k not in ("model", "metric", "optimizer", "group")}
    axes = asked.axes
    settings |= {"seed": seed, "axes": axes if isinstance(axes, str) else "given", **provenance(objective)}
    to_save, to_viz = to_save and is_first(group), to_viz and is_first(group)
    landscapes: list[Landscape] = []
    titles: list[str] = []
    reasons: dict[str, str | None] = {}
    free = free_parameters(objective, asked.options)
    paths: dict[str, Path] = {}
    start = time.perf_counter()
    moments = metric.moments(model, optimizer) if along(axes, "adam") else None
    center = float(risk(objective))
    analysis = None
    if eval_hessian or along(axes, "hessian"):
        analysis = analyse(
            shared(products.hessian, objective, group=group),
            density_steps=ESD_STEPS if eval_hessian else 0,
            probes=n_v,
            top_n=min(2, len(objective.theta)) if along(axes, "hessian") else 0,
            which="both" if hessian_pair == "extremes" else "magnitude",
            criteria=calc_crit,
            n_kh=asked.n_kh,
            seed=seed,
        )
        if folders is not None:
            paths |= save_spectrum(analysis, cur_name, folders[1], settings=settings)
    pairs = None if analysis is None else analysis.eigenpairs
    if pairs is not None and kept is not None:
        pairs = pairs._replace(vectors=directions_of(kept, pairs.vectors))
    fixed = _fixed_directions(axes, pairs, moments)
    for number, panel in enumerate(
        panels(
            objective,
            asked.options,
            axes=axes,
            mode=asked.mode,
            every_mode=viz_dev,
            count=asked.planes,
            generator=torch.Generator().manual_seed(seed),
            moments=moments,
            eigenvectors=None if pairs is None else pairs.vectors,
            eigenvalues=() if pairs is None else pairs.values.tolist(),
        ),
        start=1,
    ):
        landscape = evaluate(
            objective,
            panel.chart,
            panel.coords,
            **asked.evaluation.asdict()
            | {"store": None if kept is None else kept / f"{number:02d}_{_slug(panel.title)}"},
        )
        landscapes.append(landscape._replace(center=center))
        reasons[panel.title] = why_flat(objective, panel.chart, landscapes[-1], free)
        titles.append(panel.title)
        if folders is not None:  # after every panel, so that an interruption loses only the panel in work
            paths["losses"] = files.save_landscapes(folders[1] / f"{name}.npz", landscapes, titles)
    warn_of_flat_surfaces(reasons)
    result = LandscapeResult(
        landscapes=tuple(landscapes),
        titles=tuple(titles),
        center_loss=center,
        nonfinite=sum(landscape.diagnostics["nonfinite"] for landscape in landscapes),
        seed=seed,
        directions=fixed,
        settings=settings,
        seconds=time.perf_counter() - start,
        paths=paths,
        hessian=analysis,
        curvature=None if pairs is None else measured_curvature(objective, pairs),
    )
    if folders is not None:
        if fixed is not None:
            paths["directions"] = files.save_arrays(folders[1] / f"{name}_directions.npz", directions=fixed)
        record = {**settings, "center_loss": center}
        if result.curvature is not None:
            record["curvature"] = result.curvature._asdict()
        paths["settings"] = files.save_json(folders[1] / f"{name}.json", record)
    if analysis is not None and eval_hessian and (to_save or to_viz):
        paths |= draw_spectrum(analysis, cur_name, None if folders is None else folders[0], show=to_viz)
    if to_save or to_viz:
        figures = _draw(
            result, columns=2 if viz_dev else asked.columns, shared=not viz_dev, cap=asked.cap, log=log
        )
        if quadratic:
            _overlay(figures["contour"], result, cap=asked.cap, log=log)
        for what, figure in figures.items():
            if folders is not None:
                suffix = "_contour" if what == "contour" else ""
                paths[what] = plots.save(figure, folders[0] / f"{name}{suffix}.png")
            if to_viz:
                plots.show(figure)
    return arrays(result, asked.cap, columns=2 if viz_dev else asked.columns) if return_loss else result


def check_request(*operands: Any, **options: Any) -> Request:
    """Checks everything that a call of :func:`viz_lla` with these arguments asks for, and evaluates nothing.

    For those who do other work before they make the call: what is wrong is found here, not after that work. Only the
    moments of ``optimizer``, which training has yet to make, are left to the call.

    Raises:
        ValueError, TypeError: as :func:`viz_lla`.
    """
    call = inspect.signature(viz_lla).bind(*operands, **options)
    call.apply_defaults()
    return checked(**call.arguments)


def _slug(title: str) -> str:
    """A panel's title as the name of a folder."""
    return "_".join(re.findall(r"\w+", title))


def _fixed_directions(axes: str | Tensor, pairs: Eigenpairs | None, moments: Moments | None) -> Tensor | None:
    """The directions that are not drawn from the seed, before scaling."""
    if moments is not None:
        return torch.stack([moments.first, moments.second])
    if pairs is not None:
        return pairs.vectors
    return axes if isinstance(axes, Tensor) else None


def _draw(
    result: LandscapeResult, *, columns: int, shared: bool, cap: float | None, log: bool
) -> dict[str, Any]:
    """The figures of a result: profiles of lines; surfaces and contours of planes."""
    lines = result.landscapes[0].coords.shape[1] == 1
    styles = {"profile": "profile"} if lines else {"surface": "surface3d", "contour": "contour"}
    return {
        what: plots.panel(
            result.landscapes, result.titles, columns=columns, style=style, shared=shared, cap=cap, log=log
        )
        for what, style in styles.items()
    }


def _overlay(figure: Any, result: LandscapeResult, *, cap: float | None, log: bool) -> None:
    """Draws the quadratic prediction on the panel whose axes are the eigenvectors themselves."""
    assert result.curvature is not None
    for landscape, title in zip(result.landscapes, result.titles, strict=True):
        if title in ("hessian axes", "hessian axes, no norm"):
            axes = next(ax for ax in figure.axes if ax.get_title() == title)
            plots.quadratic_overlay(axes, landscape, result.curvature.eigenvalues, cap=cap, log=log)
