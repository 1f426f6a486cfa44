"""`lla path`: the loss between trained networks."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from bridges import loaders, metrics
from bridges.command import _connection as connection
from bridges.command import _options as options
from bridges.command._pipeline import announce, device_of, first_batch, metric_of, model_of
from bridges.command._processes import joined, launched
from bridges.command._resume import remember
from bridges.command._tracking import follow
from lla_func import viz_path
from lla_func.facades import check_path
from lla_func.files import file_name
from lla_func.landscape import describe
from lla_func.options import VIZ_PATH


def run(arguments: Namespace) -> None:
    """Draws the loss between models, and prints their losses, the barriers and what was written."""
    if arguments.trajectory is not None:
        if arguments.metrics is not None:
            raise ValueError("--metrics is for models; leave it out for a trajectory")
        follow(arguments)
        return
    if len(arguments.models) < 2:
        raise ValueError(
            "it takes two or more models: weights files, None for random ones, -1 for the loader's own"
        )
    file_name("--name", arguments.name)
    connection.check(arguments)
    device, loader = device_of(arguments), loaders.find(arguments.loader)
    if arguments.store is None and launched().size > 1:
        raise ValueError("several processes share the points through a folder; give it with --store DIR")
    size = arguments.batch_size or getattr(loader, "EVALUATION_BATCH", None)
    splits = {"loss": "train", "test": "test"} if arguments.test else {"loss": None}
    with joined(device) as team:
        chosen = [Namespace(**{**vars(arguments), "weights": weights}) for weights in arguments.models]
        models = [model_of(loader, given, device) for given in chosen]
        batches = {
            name: first_batch(loader, arguments, batch_size=size, split=split)
            for name, split in splits.items()
        }
        also = {
            name: metric_of(loader, arguments, inputs, target, device)
            for name, (inputs, target) in batches.items()
        }
        metric = also.pop("loss")
        if arguments.align:
            models = connection.aligned(models, batches["loss"][0])
        announce(models[0], batches["loss"], device, team)
        asked: dict[str, Any] = options.given(arguments, *VIZ_PATH) | {
            "also": also or None,
            "metrics": {name: getattr(metrics, name) for name in arguments.metrics or ()} or None,
            "names": _names(arguments.models),
            "cur_name": arguments.name,
            "sampling": "grid" if arguments.tol is None else "chebyshev",
            "progress": sys.stderr.isatty() and launched().rank == 0,
            "group": team.group,
        }
        if arguments.store is not None:
            check_path(models, metric, **asked)  # only what can run is worth going on with
            remember(arguments)
        curve = connection.connected(models, metric, arguments) if arguments.connect else None
        result = viz_path(models if curve is None else curve, metric, **asked)
    if curve is not None:
        print(curve)
    print(result)
    for path in result.paths.values():
        print(f"wrote {path}")
    if arguments.plan:
        for name, landscape in result.landscapes.items():
            print(f"{name}: {describe(landscape.diagnostics)}")


def _names(weights: list[str]) -> list[str]:
    """What the models are called: the names of their files, whole where these are not enough."""
    plain = {"None": "random", "-1": "loader's own"}
    for found in (
        [plain.get(each, Path(each).stem) for each in weights],
        [plain.get(each, each) for each in weights],
    ):
        if len(set(found)) == len(found):
            return found
    return [f"{name} ({number})" for number, name in enumerate(found, start=1)]
