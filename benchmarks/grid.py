"""Claim: whole exact landscapes take a seventh to two fifths of the peer's time for small networks, as much for large.

Each row is a whole job: from the model to all losses, tracing, checking and the trial included, against
``random_plane`` of loss-landscapes (PyPI) with the same number of points. Interleaved, the median of three. Memory is
the highest resident size of a process of its own that does nothing else.

``of peak`` is the part of the machine's rate of float32 matrix products that a job reaches if every operation of the
plain forward pass counts, although some are hoisted; ``bound`` is what the ratio would be at that rate.
"""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.flop_counter import FlopCounterMode

from benchmarks.jobs import Job, job, ours, peers
from benchmarks.measure import interleaved, peak, report

ROWS = (
    ("lenet", 2048, 40, 4.0),
    ("mlp", 2048, 40, 5.0),
    ("lenet", 64, 20, 2.0),
    ("resnet", 64, 12, 1.2),
    ("encoder", 64, 20, 1.2),
)


def gigaflops(task: Job) -> float:
    """Of a plain forward pass on the whole batch."""
    with FlopCounterMode(display=False) as counter:
        task.model(task.inputs)
    return counter.get_total_flops() / 1e9


def memory(contender: str, kind: str, batch: int, steps: int) -> float:
    """The peak resident size in MB of a process that does the job once."""
    command = [sys.executable, "-m", "benchmarks.grid", contender, kind, str(batch), str(steps)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def high_water() -> float:
    """The peak resident size of this process in MB; getrusage would count that of the process it came from."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def main(rows: Any = ROWS, rounds: int = 3) -> None:
    rate = peak()
    measured = []
    for kind, batch, steps, target in rows:
        task = job(kind, batch, steps)
        times = interleaved({"ours": partial(ours, task), "peer": partial(peers, task)}, rounds)
        told = ours(task).diagnostics
        mine, theirs = times["ours"], times["peer"]
        at_peak = gigaflops(task) * steps**2 / rate
        measured.append(
            {
                "job": task.name,
                "peer s": theirs.median,
                "peer spread": f"{theirs.low:.2f} to {theirs.high:.2f}",
                "ours s": mine.median,
                "ours spread": f"{mine.low:.2f} to {mine.high:.2f}",
                "ratio": theirs.median / mine.median,
                "target": target,
                "of peak": at_peak / mine.median,
                "bound": theirs.median / at_peak,
                "engine": told["engine"],
                "tile": told["plan"]["samples_per_tile"],
                "peer MB": memory("peer", kind, batch, min(steps, 12)),
                "ours MB": memory("ours", kind, batch, min(steps, 12)),
            }
        )
        print(measured[-1], flush=True)
    report("grid", measured, gflops_peak=rate)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        contender, kind, batch, steps = sys.argv[1:]
        task = job(kind, int(batch), int(steps))
        {"ours": ours, "peer": peers}[contender](task)
        print(high_water())
    else:
        main()
