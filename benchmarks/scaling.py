"""Claim: time per point and memory stay the same from 10 x 10 to 200 x 200 points (MLP, batch 2048).

All sizes follow one plan. The time per point leaves out what a job costs however small it is: it is (t - t_0) / (N - 4)
with t_0 the time of 2 x 2 points. Memory is that of a process of its own.
"""

from __future__ import annotations

from functools import partial

from benchmarks.grid import memory
from benchmarks.jobs import job, ours
from benchmarks.measure import interleaved, report


def main(rounds: int = 5) -> None:
    tasks = {steps: job("mlp", 2048, steps) for steps in (2, 10, 20, 40, 100, 200)}
    plan = ours(tasks[40]).diagnostics["plan"]
    contenders = {str(steps): partial(ours, task, plan=plan) for steps, task in tasks.items()}
    times = interleaved(contenders, rounds)
    fixed = times["2"].median
    rows = []
    for steps, task in tasks.items():
        if steps > 2:
            seconds = times[str(steps)].median
            rows.append(
                {
                    "job": task.name,
                    "s": seconds,
                    "ms per point": 1e3 * (seconds - fixed) / (steps**2 - 4),
                    "with the fixed cost": 1e3 * seconds / steps**2,
                    "MB": memory("ours", "mlp", 2048, steps),
                }
            )
    report("scaling", rows, fixed_seconds=fixed)


if __name__ == "__main__":
    main()
