"""What the front doors draw and write: pictures, arrays, settings, and a line for each number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lla_func import plots
from lla_func.facades._request import Request
from lla_func.facades._result import LandscapeResult
from lla_func.files import append_line, save_arrays, save_json
from lla_func.hessian import is_first
from lla_func.landscape import Landscape, store
from lla_func.spectrum import Analysis

MOST_DRAWN = 10
"""Of a metric with more values than this at each point no figures are drawn by themselves."""

# ---- landscapes ----------------------------------------------------------------------------------------------------


def save_losses(asked: Request, landscapes: Sequence[Landscape], titles: Sequence[str]) -> dict[str, Path]:
    """Writes the panels that are there; after each, so that an interruption loses no more than one."""
    if asked.folders is None:
        return {}
    return {"losses": store.save_landscapes(asked.folders[1] / f"{asked.name}.npz", landscapes, titles)}


def write_landscape(asked: Request, result: LandscapeResult) -> dict[str, Path]:
    """Writes, draws and shows a result, as far as that is asked for; the files by what they hold."""
    paths: dict[str, Path] = {}
    pictures, numbers = asked.folders or (None, None)
    if numbers is not None:
        if result.directions is not None:
            path = numbers / f"{asked.name}_directions.npz"
            paths["directions"] = save_arrays(path, directions=result.directions)
        record = {**result.settings, "center_loss": result.center_loss}
        if result.curvature is not None:
            record["curvature"] = result.curvature._asdict()
        paths["settings"] = save_json(numbers / f"{asked.name}.json", record)
    show = asked.output.to_viz and is_first(asked.group)
    if pictures is None and not show:
        return paths
    if result.hessian is not None and asked.hessian.eval_hessian:
        paths |= draw_spectrum(result.hessian, asked.drawing.cur_name, pictures, show=show)
    for what, figure in _figures(asked, result).items():
        if pictures is not None:
            kind, _, label = what.partition(" of ")
            suffix = f"_{store.file_name('metrics', label.replace(' ', '_'))}" if label else ""
            suffix += "_contour" if kind == "contour" else ""
            paths[what] = plots.save(figure, pictures / f"{asked.name}{suffix}.png")
        if show:
            plots.show(figure)
    return paths


def drawn_values(landscape: Landscape) -> dict[str, str | tuple[str, int]]:
    """What has figures beside the loss: each metric, or each of its K values; errors of the loss of a plane."""
    found: dict[str, str | tuple[str, int]] = {}
    for name, value in landscape.metrics.items():
        if value.ndim == 1:
            found[name] = name
        elif value.shape[1] <= MOST_DRAWN:
            found |= {f"{name} {k}": (name, k) for k in range(value.shape[1])}
    if "loss" in landscape.errors and landscape.coords.shape[1] > 1:
        found["error of loss"] = "error of loss"
    return found


def _figures(asked: Request, result: LandscapeResult) -> dict[str, Any]:
    """The figures of a result: profiles of lines; surfaces and contours of planes."""
    cap, log = asked.drawing.cap_loss, asked.drawing.log
    lines = result.landscapes[0].coords.shape[1] == 1
    styles = {"profile": "profile"} if lines else {"surface": "surface3d", "contour": "contour"}
    panels, shared = (result.landscapes, result.titles), not asked.panels.viz_dev
    looks: dict[str, Any] = {"columns": asked.columns, "shared": shared, "cap": cap, "log": log}
    figures = {what: plots.panel(*panels, style=style, **looks) for what, style in styles.items()}
    for label, metric in drawn_values(result.landscapes[0]).items():
        looks = {"columns": asked.columns, "shared": not asked.panels.viz_dev, "metric": metric}
        for what, style in styles.items():
            figures[f"{what} of {label}"] = plots.panel(*panels, style=style, **looks)
    if asked.drawing.quadratic:
        assert result.curvature is not None
        for landscape, title in zip(*panels, strict=True):
            if title.removesuffix(", no norm") == f"{asked.hessian.curvature} axes":
                axes = next(ax for ax in figures["contour"].axes if ax.get_title() == title)
                plots.quadratic_overlay(axes, landscape, result.curvature.eigenvalues, cap=cap, log=log)
    return figures


# ---- spectra -------------------------------------------------------------------------------------------------------


def draw_spectrum(analysis: Analysis, name: str, folder: Path | None, *, show: bool) -> dict[str, Path]:
    """Draws the density with its criteria; saves it to ``folder`` unless that is None."""
    rules, curve, corner = analysis.quadrature, analysis.curve, None
    assert rules is not None
    assert curve is not None
    if (criteria := analysis.criteria) is not None:
        corner = {"$r_e$": criteria.r_e.value, f"$K_{{h{criteria.n:g}}}$": criteria.k_hn.value}
        if criteria.note is None:
            corner["its spread"] = criteria.k_hn.spread
    ax = plots.density(curve.grid, curve.values, rules.nodes, rules.weights, corner, title=name)
    figure: Any = ax.figure
    paths = {} if folder is None else {"esd": plots.save(figure, folder / f"{name}_esd.png")}
    if show:
        plots.show(figure)
    return paths


def save_spectrum(
    analysis: Analysis, name: str, folder: Path, *, settings: Mapping[str, Any]
) -> dict[str, Path]:
    """Writes an analysis: arrays as npz, a summary as JSON, and one line for each result as the original's logs."""
    summary = _summary(analysis)
    paths = {
        "spectrum": save_arrays(folder / f"esd_{name}.npz", **_arrays(analysis)),
        "summary": save_json(folder / f"esd_{name}.json", {"results": summary, "settings": dict(settings)}),
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
        paths[what] = append_line(folder / f"{what}_{name}.log", line)
    return paths


def _summary(analysis: Analysis) -> dict[str, Any]:
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
            "trace_method": estimate.method,
            "trace_data_error": estimate.data_error,
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
        arrays |= {"nodes": rules.nodes, "weights": rules.weights, "grid": curve.grid}
        arrays |= {"density": curve.values, "density_standard_error": curve.standard_error}
    if (pairs := analysis.eigenpairs) is not None:
        arrays |= {"eigenvalues": pairs.values, "eigenvectors": pairs.vectors, "residuals": pairs.residuals}
    if analysis.trace is not None:
        arrays["trace_samples"] = analysis.trace.samples
    return arrays
