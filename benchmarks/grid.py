"""Claim: exact landscapes 4 to 10 times faster than the peer's loop for small networks, and faster for large ones.

Each row is a whole job: from the model to all losses, tracing and tuning included, against ``random_plane`` of
loss-landscapes (PyPI) with the same number of points. Interleaved, the median of three. Memory is the highest resident
size of a process of its own that does nothing else.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from functools import partial
from typing import Any

from benchmarks.jobs import job, ours, peers
from benchmarks.measure import interleaved, peak, report

ROWS = (
    ("lenet", 2048, 40, 4.0),
    ("mlp", 2048, 40, 5.0),
    ("lenet", 64, 20, 2.0),
    ("resnet", 64, 12, 1.2),
    ("encoder", 64, 20, 1.2),
)

LENET_FLOPS = 2 * (28 * 28 * 6 * 25 + 100 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10)
"""Of one sample at one point; the first convolution counts, although it is hoisted."""


def memory(contender: str, kind: str, batch: int, steps: int) -> float:
    """The peak resident size in MB of a process that does the job once."""
    command = [sys.executable, "-m", "benchmarks.grid", contender, kind, str(batch), str(min(steps, 12))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main(rows: Any = ROWS, rounds: int = 3) -> None:
    rate = peak()
    measured = []
    for kind, batch, steps, target in rows:
        task = job(kind, batch, steps)
        times = interleaved({"ours": partial(ours, task), "peer": partial(peers, task)}, rounds)
        told = ours(task).diagnostics
        mine, theirs = times["ours"], times["peer"]
        row = {
            "job": task.name,
            "peer s": theirs.median,
            "ours s": mine.median,
            "spread": f"{mine.low:.2f} to {mine.high:.2f}",
            "ratio": theirs.median / mine.median,
            "target": target,
            "engine": told["engine"],
            "peer MB": memory("peer", kind, batch, steps),
            "ours MB": memory("ours", kind, batch, steps),
        }
        if kind == "lenet":
            row["of peak"] = LENET_FLOPS * batch * steps**2 / mine.median / 1e9 / rate
        else:
            row["of peak"] = "-"
        measured.append(row)
    report("grid", measured, gflops_peak=rate)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        contender, kind, batch, steps = sys.argv[1:]
        task = job(kind, int(batch), int(steps))
        {"ours": ours, "peer": peers}[contender](task)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        main()
