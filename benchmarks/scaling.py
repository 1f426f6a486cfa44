"""Claim: the time per point is the same within 15 % from 10 x 10 to 200 x 200 points (MLP, batch 2048)."""

from __future__ import annotations

from functools import partial

from benchmarks.jobs import job, ours
from benchmarks.measure import interleaved, report


def main(rounds: int = 3) -> None:
    rows = []
    for steps in (10, 20, 40, 100, 200):
        task = job("mlp", 2048, steps)
        landscape = ours(task)
        time = interleaved({"ours": partial(ours, task)}, rounds)["ours"]
        per_point = 1e3 * time.median / steps**2
        plan = landscape.diagnostics["plan"]
        rows.append(
            {"job": task.name, "s": time.median, "ms per point": per_point, "estimated bytes": plan["bytes"]}
        )
    report("scaling", rows)


if __name__ == "__main__":
    main()
