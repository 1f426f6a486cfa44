"""Claim: no job, however small, takes more than 5 % longer than the peer's loop."""

from __future__ import annotations

from functools import partial

from benchmarks.jobs import job, ours, peers
from benchmarks.measure import interleaved, report


def main(rounds: int = 3) -> None:
    rows = []
    for kind in ("mlp", "lenet", "encoder", "resnet"):
        for batch in (1, 64, 1024) if kind in ("mlp", "lenet") else (1, 16):
            for line in (True, False):
                task = job(kind, batch, 40 if line else 8, line=line)
                ours(task)
                times = interleaved({"ours": partial(ours, task), "peer": partial(peers, task)}, rounds)
                rows.append(
                    {
                        "job": task.name,
                        "peer s": times["peer"].median,
                        "ours s": times["ours"].median,
                        "ratio": times["peer"].median / times["ours"].median,
                        "engine": ours(task).diagnostics["engine"],
                    }
                )
    report("never_slower", rows)


if __name__ == "__main__":
    main()
