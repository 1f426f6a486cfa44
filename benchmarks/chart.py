"""Draws ``results/*.json`` as ``chart.png``: how many times as fast as the peer jobs are, and what was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS

__all__ = ["draw"]


PICTURE = Path(__file__).with_name("chart.png")


def draw(path: Path = PICTURE) -> Path:
    """One bar for each job of ``grid``, one dot for each of ``never_slower``; 1 is the peer."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def rows(name: str) -> list[dict[str, Any]]:
        return json.loads((RESULTS / f"{name}.json").read_text())["rows"]

    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 3.6), layout="constrained", width_ratios=(1, 1.15)
    )
    grid = rows("grid")[::-1]
    left.barh([row["job"] for row in grid], [row["ratio"] for row in grid], color="#3b6ea8")
    for place, row in enumerate(grid):
        left.plot([row["target"]] * 2, [place - 0.4, place + 0.4], color="#c23b22", lw=2)
        end = max(row["ratio"], row["target"])
        left.annotate(f"{row['ratio']:.2f}", (end, place), (4, 0), textcoords="offset points", va="center")
    left.plot([], [], color="#c23b22", lw=2, label="asked for")
    left.axvline(1, color="black", lw=0.8)
    left.legend(frameon=False, loc="lower right")
    left.margins(x=0.15)
    left.set_xlabel("times as fast as loss-landscapes, whole job")

    kinds = list(dict.fromkeys(row["job"].split(",")[0] for row in rows("never_slower")))
    for row in rows("never_slower"):
        kind = row["job"].split(",")[0]
        line = "x" not in row["job"].rsplit(",", 1)[1]
        right.plot(
            row["peer s"], row["ratio"], "o" if line else "s", color=f"C{kinds.index(kind)}", alpha=0.8, ms=5
        )
    for number, kind in enumerate(kinds):
        right.plot([], [], lw=4, color=f"C{number}", label=kind)
    for marker, shape in (("o", "line"), ("s", "plane")):
        right.plot([], [], marker, color="gray", ms=5, label=shape)
    right.axhline(1, color="black", lw=0.8)
    right.set(xscale="log", yscale="log", xlabel="seconds the peer takes", ylabel="times as fast")
    right.set_yticks([0.5, 1, 2, 5, 10], ["0.5", "1", "2", "5", "10"])
    right.minorticks_off()
    right.legend(frameon=False, ncols=2, fontsize="small", loc="upper left")
    figure.savefig(path, dpi=110)
    return path


if __name__ == "__main__":
    print(draw())
