"""How everything here is measured: interleaved rounds, medians with their spread, a table, and JSON beside it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

__all__ = ["Timing", "interleaved", "machine", "peak", "report", "table"]

RESULTS = Path(__file__).parent / "results"


class Timing(NamedTuple):
    """Seconds of several runs of one contender."""

    median: float
    low: float
    high: float


def interleaved(contenders: Mapping[str, Callable[[], Any]], rounds: int = 3) -> dict[str, Timing]:
    """Runs all contenders in turn, several times, so that what else the machine does hits them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: Timing(statistics.median(s), min(s), max(s)) for name, s in seconds.items()}


def peak(rounds: int = 5, size: int = 2048) -> float:
    """The machine's rate of float32 matrix products with all threads, in GFLOP/s: the best of a few."""
    a = torch.randn(size, size)
    best = min(interleaved({"product": lambda: a @ a}, 1)["product"].median for _ in range(rounds + 1))
    return 2 * size**3 / best / 1e9


def machine() -> dict[str, Any]:
    """What the numbers depend on: cores and their kind, threads, versions, and how busy the machine was."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {
        "cpu": model,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_before": [round(x, 2) for x in os.getloadavg()],
    }


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as a Markdown table, their keys as its head."""
    head = list(rows[0])
    text = [
        [f"{row[key]:.3g}" if isinstance(row[key], float) else str(row[key]) for key in head] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(head, *text, strict=True)]
    lines = [head, ["-" * width for width in widths], *text]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def report(name: str, rows: Sequence[Mapping[str, Any]], **more: Any) -> None:
    """Prints the table and writes it, with the machine, to ``results/NAME.json``."""
    print(table(rows), flush=True)
    RESULTS.mkdir(exist_ok=True)
    content = {"machine": machine(), "rows": list(rows), **more}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1, default=str) + "\n")
