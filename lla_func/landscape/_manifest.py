"""The manifest of a store: which job its folder holds, and along which plan."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lla_func.files import fingerprint
from lla_func.geometry import Chart
from lla_func.landscape.engines import ENGINES, checked, tolerance
from lla_func.objective import Objective, risk, separate, weigh

FORMAT = 2
READABLE = (1, 2)
"""Format 1 has no checksums."""

MANIFEST = "manifest.json"

TURNED = 0.03
"""How much a metric at the center may differ from machine to machine, relative to its size."""


def identity(
    objective: Objective, chart: Chart, coords: Tensor, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What makes a job this one and no other, in JSON's types.

    Data that are streamed are known by their first batch only. A changed criterion or model shows in the loss at
    the point under study.
    """
    return {
        "theta": fingerprint(objective.theta),
        "directions": fingerprint((chart.origin, chart.basis)),
        "points": fingerprint((coords, chart.coefficients(coords))),
        **_data(objective),
        "loss": float(risk(objective)),
        "notes": dict(objective.notes),
        "settings": dict(settings),
    }


def _data(objective: Objective) -> dict[str, Any]:
    batches = objective.batches
    streamed = not isinstance(batches, Sequence)
    known = [next(iter(batches))] if streamed else list(batches)
    data = fingerprint(known[0] if streamed else known)
    weights = None if objective.weight is None else [weigh(objective, batch) for batch in known]
    return {"data": f"{data}, first batch" if streamed else data, "weights": weights}


def metrics_at(objective: Objective) -> dict[str, list[float]]:
    """The metrics of a measured objective at the point under study, by which a change of one of them shows."""
    found = {name: risk(other).reshape(-1).tolist() for name, other in separate(objective).items()}
    if objective.measures is not None:
        values = objective.measures.split(risk(objective)).metrics
        found |= {name: value.reshape(-1).tolist() for name, value in values.items()}
    return found


def data_of_metrics(objective: Objective) -> dict[str, Any]:
    """The data of metrics that are objectives of their own, and what these measure themselves."""
    return {
        name: _data(other) | {"notes": dict(other.notes), "metrics": list(other.metrics)}
        for name, other in separate(objective).items()
    }


def read(folder: Path) -> dict[str, Any]:
    """What a folder's manifest says, if all of it can be believed; its ``checksum`` is None in format 1.

    Raises:
        ValueError: it cannot; the file, the reason and the ways out are named.
    """
    path = folder / MANIFEST
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(known, dict) or type(known.get("format")) is not int:
            raise ValueError("it has no format")
        if known["format"] in READABLE:
            _believe(known)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise ValueError(
            f"{str(path)!r} is damaged ({reason}). Put back a copy of it, or delete its folder and begin anew: without "
            "it the chunks cannot be told from those of another job"
        ) from error
    if known["format"] not in READABLE:
        raise ValueError(
            f"{str(path)!r} was written by another version of lla_func (format {known['format']}, this one reads "
            f"{' and '.join(map(str, READABLE))}); choose another folder, or go on with that version"
        )
    return known


def _believe(known: dict[str, Any]) -> None:
    """Raises one of the errors of :func:`read` unless the manifest is whole; notes that format 1 has no checksum."""
    if known.setdefault("checksum", None) != (checksum(known) if known["format"] > 1 else None):
        raise ValueError("its checksum is another")
    job, rates = known["job"], known["rates"]
    checked(known["plan"], ENGINES)
    float(job["loss"])
    if not all(isinstance(group, dict) for group in (job["settings"], job["notes"], *rates)):
        raise ValueError("settings, notes or rates are no mappings")


def checksum(manifest: Mapping[str, Any]) -> str:
    """Of a manifest, in JSON's types."""
    content = {key: value for key, value in manifest.items() if key != "checksum"}
    return fingerprint(json.dumps(content, sort_keys=True))


def check_same(folder: Path, known: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    """Raises a ValueError that names what differs if the folder holds another job."""
    before, now = known["job"], json.loads(json.dumps(job))
    differ = [
        key
        for key in now
        if key not in ("loss", "settings", "notes", "metrics") and before.get(key) != now[key]
    ]
    for group in ("settings", "notes"):
        keys = {**before[group], **now[group]}
        differ += [
            f"{key} ({before[group].get(key)!r} there, {now[group].get(key)!r} now)"
            for key in keys
            if before[group].get(key) != now[group].get(key)
        ]
    bound = tolerance(torch.float32)  # the loss at the center may differ by rounding, from machine to machine
    there, here = float(before["loss"]), float(now["loss"])
    same = math.isclose(there, here, rel_tol=bound) or (math.isnan(there) and math.isnan(here))
    if not same and not differ:
        differ.append(f"the loss at the center ({before['loss']!r} there, {now['loss']!r} now)")
    for name, values in now.get("metrics", {}).items():
        others = before.get("metrics", {}).get(name, values)  # decisions about samples may turn by rounding
        if not np.allclose(others, values, rtol=TURNED, atol=TURNED * max(map(abs, values)), equal_nan=True):
            differ.append(f"the metric {name!r} at the center ({others} there, {values} now)")
    if differ:
        raise ValueError(
            f"store={str(folder)!r} holds another job; what differs: {', '.join(differ)}. Choose another folder for "
            "this one, or repeat the call that began the other"
        )
