"""Claim: two torchrun ranks of one thread each do a grid at 1.7 times the rate of one.

The bundled LeNet on all 1,797 digits, through ``lla eval --store``, engine hoisted. The rate is taken from the first to
the last chunk on disk, so that starting Python and drawing don't count; the whole time is beside it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import report

COMMAND = ["-m", "bridges", "eval", "--loader", "lenet", "--batch_size", "1797", "-np", "1", "--steps", "40"]


def run(ranks: int) -> tuple[float, float]:
    """Points a second from the first to the last chunk, and the seconds of the whole command."""
    launcher = [sys.executable]
    if ranks > 1:
        launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path.cwd())}
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            [*launcher, *COMMAND, "--engine", "hoisted", "--store", "job"],
            cwd=folder,
            env=environment,
            check=True,
            capture_output=True,
        )
        seconds = time.perf_counter() - start
        chunks = sorted(path.stat().st_mtime for path in Path(folder).glob("job/*/chunks/*.npz"))
    # the chunks after the first one of each rank, over the time since these were finished
    begun = chunks[ranks - 1]
    return 1600 / len(chunks) * (len(chunks) - ranks) / (chunks[-1] - begun), seconds


def main(rounds: int = 3) -> None:
    results: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    for _ in range(rounds):
        for ranks in results:
            results[ranks].append(run(ranks))
    rows = []
    for ranks, found in results.items():
        rate = statistics.median(rate for rate, _ in found)
        rows.append(
            {
                "ranks": ranks,
                "points a second": rate,
                "ratio": rate / statistics.median(rate for rate, _ in results[1]),
                "seconds in all": statistics.median(seconds for _, seconds in found),
            }
        )
    report("processes", rows)


if __name__ == "__main__":
    main()
