"""`lla sharpness`: how sharp the minimum at trained weights is, in several ways."""

from __future__ import annotations

import math
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridges import loaders
from bridges.command import _options as options
from bridges.command._pipeline import described, device_of, evaluated_batch, metric_of, model_of
from bridges.command._processes import launched
from bridges.command._sharpness_options import KINDS
from lla_func import sharpness
from lla_func.assessment import options_of
from lla_func.files import file_name, save_json, writable_directory
from lla_func.objective import samples
from lla_func.options import Setup
from lla_func.spectrum import Estimate

OF_KINDS = ("rho", "eta", "rise", "draws", "relative")
"""Options of the command that some kinds take and others do not."""


def run(arguments: Namespace) -> None:
    """Measures each kind asked for, prints them as a table, and writes them as JSON."""
    if launched().size > 1:
        raise ValueError("lla sharpness runs in one process; leave torchrun out")
    asked = _asked(arguments)
    path = _path(arguments)
    device, loader = device_of(arguments), loaders.find(arguments.loader)
    model = model_of(loader, arguments, device)
    inputs, target = evaluated_batch(loader, arguments)
    metric = metric_of(loader, arguments, inputs, target, device)
    print(f"{described(model)}, {samples((inputs, target))} samples, {device}")
    setup = options.given(arguments, Setup)
    found: dict[str, Estimate] = {}
    failed: dict[str, str] = {}
    start = time.perf_counter()
    print(_line("kind", "value", "error", "over data", "passes", "note"), flush=True)
    for kind, chosen in asked.items():
        try:
            found[kind] = sharpness(model, metric, kind=kind, **setup, **chosen)
            print(_row(kind, found[kind]), flush=True)
        except ValueError as error:  # such as a vanishing gradient, which other kinds can do without
            if len(asked) == 1:
                raise
            failed[kind] = str(error)
            print(_line(kind, "-", "-", "-", "-", failed[kind]), flush=True)
        save_json(path, _written(arguments, asked, found, failed, time.perf_counter() - start))
    if not found:
        raise ValueError(next(iter(failed.values())))
    print(f"wrote {path}")


def _asked(arguments: Namespace) -> dict[str, dict[str, Any]]:
    """The options of each kind, those of the command where the kind takes them and its own otherwise."""
    given = {
        name: getattr(arguments, name) for name in OF_KINDS if getattr(arguments, name) not in (None, False)
    }
    kinds = tuple(dict.fromkeys(arguments.kind or KINDS))
    for name in given:
        if not any(name in options_of(kind) for kind in kinds):
            raise ValueError(f"--{name} is for none of the kinds asked for ({', '.join(kinds)})")
    asked = {}
    for kind in kinds:
        known = options_of(kind)
        asked[kind] = {name: value for name, value in given.items() if name in known}
        if "seed" in known:
            asked[kind]["seed"] = arguments.seed
    return asked


def _path(arguments: Namespace) -> Path:
    """Where the numbers go, proven writable."""
    name = file_name("--name", f"sharpness_{arguments.name}")
    folder = "analysis_results" if arguments.res_dir is None else arguments.res_dir
    return writable_directory("res_dir", folder) / f"{name}.json"


def _written(
    arguments: Namespace,
    asked: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, Estimate],
    failed: Mapping[str, str],
    seconds: float,
) -> dict[str, Any]:
    """What is written, after each kind anew, so that an interruption leaves those before it."""
    results = {
        kind: {**each._asdict(), "samples": each.samples.tolist(), "options": asked[kind]}
        for kind, each in found.items()
    }
    settings = {name: value for name, value in vars(arguments).items() if name != "argv"}
    return {"sharpness": results, "failed": failed, "settings": settings, "seconds": seconds}


def _row(kind: str, each: Estimate) -> str:
    """An estimate as a line of the table."""
    over = "-" if each.data_error is None else f"{each.data_error:.1g}"
    doubt = "" if each.converged else "not converged; "
    error = "-" if math.isinf(each.error) else f"{each.error:.1g}"
    return _line(kind, f"{each.value:.5g}", error, over, str(each.products), doubt + (each.note or ""))


def _line(*cells: str) -> str:
    """A line of the table."""
    widths = (13, 12, 10, 11, 8, 0)
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()
