"""Claim: a plane's losses, its minima and their SMAD are those of the peer at the same points, in less time.

The peer is Landscaper (PyPI): its ``LossLandscape.compute``, the tree of sublevel sets, and the Morse-Smale complex,
which says what nodes are minima and how persistent. Its points are i - S // 2 steps from the model, i = 0 to S - 1, so
with an even number S they are half a step off the coordinates that it reports; ours are evaluated where it evaluates.
It adds noise to the largest loss, which is left out of the comparison. Its SMAD is by its own pairing on the tree of
sublevel sets, as in its sources; release 1.3.1 takes the contour tree, whose value is written beside it. LeNet on 64
of the bundled digits along random directions: with the bundled weights a plane has one basin, with random ones many.
Each row is a whole job, from the model to losses and SMAD, interleaved, the median of three, and the topology alone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.measure import interleaved, report
from bridges import metrics
from bridges.loaders import digits, lenet
from lla_func import Landscape, chart, evaluate, topology

SAMPLES, DISTANCE = 64, 4.0
"""Images, and how far the plane reaches, in norms of theta."""

ROWS = ((True, 20), (False, 20))
"""Whether the weights are the bundled ones, and steps along each direction."""


def directions(model: nn.Module, seed: int) -> list[list[Tensor]]:
    """Two random directions as the peer takes them, [2] lists of the parameters' shapes."""
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(p.shape, generator=generator) for p in model.parameters()] for _ in range(2)]


def normalized(model: nn.Module, given: list[list[Tensor]], steps: int) -> list[Tensor]:
    """The peer's steps as vectors [P]: each parameter's part as long as the root of its size, the whole scaled."""
    size = torch.cat([p.detach().flatten() for p in model.parameters()]).norm()
    found = []
    for parts in given:
        flat = torch.cat([d.flatten() * (d.numel() ** 0.5 / d.norm()) for d in parts])
        found.append(flat * (size * DISTANCE / (steps / 2) / flat.norm()))
    return found


def ours(model: nn.Module, data: tuple[Tensor, Tensor], given: list[list[Tensor]], steps: int) -> Landscape:
    """The losses at the peer's points."""
    objective = metrics.Loss(nn.CrossEntropyLoss(), *data).objective(model)
    axis = torch.arange(steps, dtype=torch.float64) - steps // 2
    surface = chart.plane(objective.theta, *normalized(model, given, steps))
    return evaluate(objective, surface, chart.mesh(axis, axis))


def theirs(model: nn.Module, data: tuple[Tensor, Tensor], given: list[list[Tensor]], steps: int) -> Any:
    """The same by Landscaper."""
    from landscaper import LossLandscape  # type: ignore[import-not-found]

    criterion = nn.CrossEntropyLoss()

    def loss(net: nn.Module, batch: tuple[Tensor, Tensor]) -> float:
        return criterion(net(batch[0]), batch[1]).item()

    with quiet():
        return LossLandscape.compute(
            model, data, given, loss, steps=steps, distance=DISTANCE, dim=2, device="cpu"
        )


def their_topology(found: Any) -> dict[str, Any]:
    """Landscaper's minima, their persistence, and the mean height from them to their saddles."""
    from landscaper import LossLandscape
    from landscaper.tda import saddle_minima_pairs  # type: ignore[import-not-found]

    fresh = LossLandscape(found.loss, found.ranges)  # which keeps its trees
    tree = fresh.get_sublevel_tree()
    kinds = fresh.get_topological_indices(tree)
    gaps = [abs(tree.nodes[a] - tree.nodes[b]) for a, b in saddle_minima_pairs(tree, kinds)]
    return {
        "minima": {node for node, kind in kinds.items() if kind == 0},
        "smad": float(np.mean(gaps)) if gaps else 0.0,
        "persistence": fresh.get_persistence(),
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the peer prints."""
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def compared(mine: Landscape, found: Any) -> dict[str, Any]:
    """How far the two are apart: each loss, minima, SMAD, and persistence as a part of the range of losses."""
    here, there = topology(mine), their_topology(found)
    losses = found.loss.reshape(-1)
    kept = losses < losses.max()
    pairs = [pair for pair in here.pairs if pair.saddle is not None]
    off = [abs(pair.persistence - there["persistence"][pair.minimum]) for pair in pairs]
    return {
        "losses differ by": float((abs(mine.losses.numpy() - losses) / losses)[kept].max()),
        "minima": f"{len(here.minima)}, {len(there['minima'])}",
        "shared": len(set(here.minima.tolist()) & there["minima"]),
        "SMAD": here.smad,
        "peer SMAD": there["smad"],
        "persistence differs by": max(off, default=0.0) / float(np.ptp(losses)),
        "contour SMAD": contour(found),
    }


def contour(found: Any) -> float:
    """The release's own SMAD."""
    from landscaper import LossLandscape

    with quiet():
        return float(LossLandscape(found.loss, found.ranges).smad())


def main(rows: Any = ROWS, rounds: int = 3) -> None:
    if importlib.util.find_spec("landscaper") is None:
        print("left out: the package landscaper is not installed")
        return
    images, labels = digits.bundled()
    data = images[:SAMPLES], labels[:SAMPLES]
    measured = []
    for trained, steps in rows:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = lenet.ModelInit(weight_path=lenet.WEIGHTS if trained else None).eval()
        given = directions(model, 1)
        mine, found = ours(model, data, given, steps), theirs(model, data, given, steps)
        job = (model, data, given, steps)
        contenders = {
            "ours": partial(whole, ours, topology, *job),
            "peer": partial(whole, theirs, their_topology, *job),
            "ours alone": partial(topology, mine),
            "peer alone": partial(their_topology, found),
        }
        times = interleaved(contenders, rounds)
        measured.append(
            {
                "plane": f"{'bundled' if trained else 'random'} weights, {steps} x {steps}",
                "peer s": times["peer"].median,
                "peer spread": f"{times['peer'].low:.2f} to {times['peer'].high:.2f}",
                "ours s": times["ours"].median,
                "ours spread": f"{times['ours'].low:.2f} to {times['ours'].high:.2f}",
                "ratio": times["peer"].median / times["ours"].median,
                "peer topology s": times["peer alone"].median,
                "our topology s": times["ours alone"].median,
                **compared(mine, found),
            }
        )
        print(measured[-1], flush=True)
    report("topology", measured)


def whole(evaluated: Any, analyzed: Any, *job: Any) -> Any:
    """A whole job: the losses of the plane, and their topology."""
    return analyzed(evaluated(*job))


if __name__ == "__main__":
    main()
