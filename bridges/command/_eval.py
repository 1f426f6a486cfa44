"""`lla eval`: the landscape around trained weights."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bridges import loaders, metrics
from bridges.command import _options as options
from bridges.command._pipeline import announce, device_of, evaluated_batch, metric_of, model_of
from bridges.command._processes import joined, launched
from bridges.command._resume import remember
from lla_func import LandscapeResult, viz_lla
from lla_func.facades import check_request
from lla_func.files import file_name
from lla_func.landscape import describe
from lla_func.options import VIZ_LLA


def run(arguments: Namespace) -> None:
    """Draws the landscape around trained weights and prints what was written and the loss at the center."""
    if arguments.axes == "adam" or arguments.mode == "adameq":
        raise ValueError("--axes adam and --mode adameq need the optimizer's state; use them with lla train")
    options.say_ignored(arguments, *options.TRAINING, by="lla train")
    file_name("--name", arguments.name)
    device, loader = device_of(arguments), loaders.find(arguments.loader)
    if arguments.store is None and launched().size > 1:
        raise ValueError("several processes share the points through a folder; give it with --store DIR")
    with joined(device) as team:
        model = model_of(loader, arguments, device)
        inputs, target = evaluated_batch(loader, arguments)
        announce(model, (inputs, target), device, team)
        metric = metric_of(loader, arguments, inputs, target, device)
        asked = asked_of(arguments, f"eval_{arguments.name}", group=team.group)
        if arguments.store is not None:
            check_request(model, metric, device, **asked)  # only what can run is worth going on with
            remember(arguments)
        result = draw(model, metric, device, asked, plan=arguments.plan)
    print(f"loss at the center: {result.center_loss:.6g}")


def asked_of(arguments: Namespace, name: str, **more: Any) -> dict[str, Any]:
    """The options of viz_lla that the command's options ask for."""
    given = options.given(arguments, *VIZ_LLA)
    return given | {
        "cur_name": name,
        "seed": arguments.seed,
        "eval_hessian": given["eval_hessian"] or given["calc_crit"],
        "sampling": "grid" if given["tol"] is None else "chebyshev",
        "metrics": {name: getattr(metrics, name) for name in arguments.metrics or ()} or None,
        "progress": sys.stderr.isatty() and launched().rank == 0,
        **more,
    }


def draw(
    model: nn.Module, metric: Any, device: torch.device, asked: Mapping[str, Any], *, plan: bool
) -> LandscapeResult:
    """Calls viz_lla and prints what it wrote, and its plans if asked for."""
    result = viz_lla(model, metric, device, **asked)
    points = sum(len(landscape.losses) for landscape in result.landscapes)
    print(f"{points} points in {result.seconds:.1f} s")
    for landscape, title in zip(result.landscapes, result.titles, strict=True):
        if (sampled := landscape.diagnostics["sampling"]) is not None:
            if sampled["reason"]:
                end = f" ({sampled['reason']})"
            else:
                end = f", within {sampled['error']:.2g} of the range"
            print(f"{title}: {sampled['evaluations']} of {len(landscape.losses)} points evaluated{end}")
    if result.nonfinite:
        print(f"{result.nonfinite} losses are NaN or infinite; they are holes in the pictures")
    for path in result.paths.values():
        print(f"wrote {path}")
    if plan:
        for landscape, title in zip(result.landscapes, result.titles, strict=True):
            print(f"{title}: {describe(landscape.diagnostics)}")
    return result
