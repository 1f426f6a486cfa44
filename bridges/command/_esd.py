"""`lla esd`: the Hessian at random and at trained weights, side by side."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping

from bridges import loaders
from bridges.command import _options as options
from bridges.command._pipeline import announce, device_of, evaluated_batch, metric_of, model_of
from bridges.command._processes import joined
from lla_func import SpectrumResult, layerwise, viz_esd
from lla_func.files import file_name
from lla_func.hessian import table
from lla_func.options import VIZ_ESD


def run(arguments: Namespace) -> None:
    """Analyzes the Hessian at random and at trained weights, and prints the comparison."""
    options.say_ignored(arguments, *options.TRAINING, *options.LANDSCAPE, by="lla eval and lla train")
    device, loader = device_of(arguments), loaders.find(arguments.loader)
    inputs, target = evaluated_batch(loader, arguments)
    chosen = {"init": Namespace(**{**vars(arguments), "weights": "None"})}
    if arguments.weights != "None":
        chosen["pretrained"] = arguments
    names = {stage: file_name("--name", f"esd_{stage}_{arguments.name}") for stage in chosen}
    models = {stage: model_of(loader, given, device) for stage, given in chosen.items()}
    results: dict[str, SpectrumResult] = {}
    always = {"eigs": True, "trace": True, "calc_crit": True, "seed": arguments.seed}
    asked = options.given(arguments, *VIZ_ESD) | always
    with joined(device) as team:
        for stage, model in models.items():
            metric = metric_of(loader, arguments, inputs, target, device)
            if not results:
                announce(model, (inputs, target), device, team)
            results[stage] = viz_esd(model, metric, **asked, exp_name=names[stage], group=team.group)
    print(_comparison(results))
    for result in results.values():
        for path in result.paths.values():
            print(f"wrote {path}")
    if arguments.layers:
        precision = {} if arguments.dtype is None else {"dtype": arguments.dtype}
        objective = metric.objective(model, batchnorm=arguments.batchnorm, **precision)
        print(table(layerwise(objective, seed=arguments.seed)))


def _comparison(results: Mapping[str, SpectrumResult]) -> str:
    """The spectra side by side, one column each."""
    rows: dict[str, list[str]] = {}
    notes = [result.criteria.note for result in results.values() if result.criteria is not None]
    for result in results.values():
        pairs, trace, criteria = result.analysis.eigenpairs, result.analysis.trace, result.analysis.criteria
        assert pairs is not None
        assert trace is not None
        assert criteria is not None
        spread = "" if criteria.note else f" (spread {criteria.k_hn.spread:.1g})"
        cells = {
            f"eigenvalue {i}": f"{value:.5g} ({residual:.0e})"
            for i, (value, residual) in enumerate(
                zip(pairs.values.tolist(), pairs.residuals.tolist(), strict=True), start=1
            )
        }
        cells |= {
            "trace": f"{trace.value:.5g} ({trace.standard_error:.0e})",
            "r_e": f"{criteria.r_e.value:.5g}",
            f"K_h{criteria.n:g}": f"{criteria.k_hn.value:.5g}{spread}",
            "spectrum": criteria.spectrum,
            "products": str(result.products),
            "seconds": f"{result.seconds:.1f}",
        }
        for label, cell in cells.items():
            rows.setdefault(label, []).append(cell)
    heads = {"init": "random weights", "pretrained": "trained weights"}
    lines = [["", *(heads[stage] for stage in results)], *([label, *cells] for label, cells in rows.items())]
    text = "\n".join("".join(f"{cell:<24}" for cell in line).rstrip() for line in lines)
    return "\n".join([text, *dict.fromkeys(filter(None, notes))])
