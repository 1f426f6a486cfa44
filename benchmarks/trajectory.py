"""Claim: recording 1,000 checkpoints of LeNet takes at most 5 % of its training, their picture less than a minute.

Every step is recorded, without waiting for the disk. The peak memory of finding the plane is that of a process of its
own, above what it had before; it is bounded by the budget, not by the number of checkpoints.

The peer, loss-landscape-anim, needs an older PyTorch than this project, so it runs where it is installed:
``PEER_PYTHON=/path/to/its/python python -m benchmarks trajectory``. It is given our checkpoints, its axes go into our
surface, and the losses at its points are compared with ours.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.measure import Timing, interleaved, report
from bridges import trajectories
from bridges.loaders import digits, lenet
from bridges.metrics import Loss
from lla_func import Trajectory, chart, evaluate, viz_path
from lla_func.geometry import trajectory_plane

STEPS, BATCH, SAMPLES, GRID = 1000, 64, 256, 40

PEER = Path(__file__).with_name("trajectory_peer.py")

PEAK = """
import sys
from pathlib import Path
from lla_func import Trajectory
from lla_func.geometry import trajectory_plane

def megabytes(what):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024

path = Trajectory.open(sys.argv[1])[: int(sys.argv[2])]
trajectory_plane(path[:3], memory_budget=2**16)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = megabytes("VmRSS")
trajectory_plane(path, memory_budget=int(sys.argv[3]))
print(megabytes("VmHWM") - before)
"""
"""Of Linux, which alone lets a process begin its peak anew."""


def trained(folder: Path | None) -> tuple[nn.Module, float]:
    """LeNet after so many steps, recorded at each of them or not, and the seconds that recording took."""
    torch.manual_seed(0)
    model = lenet.ModelInit(weight_path=None)
    batches = list(lenet.CustomLoader(batch_size=BATCH, shuffle=True, split="train"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    criterion = nn.CrossEntropyLoss()
    recorder = None if folder is None else trajectories.record(model, folder)
    spent = 0.0
    for step in range(STEPS):
        inputs, targets = batches[step % len(batches)]
        optimizer.zero_grad()
        criterion(model(inputs), targets).backward()
        optimizer.step()
        if recorder is not None:
            start = time.perf_counter()
            recorder(step)
            spent += time.perf_counter() - start
    return model, spent


def main(rounds: int = 3) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        counter = iter(range(rounds))
        spent: list[float] = []
        models: list[nn.Module] = []

        def recording() -> None:
            model, seconds = trained(root / f"run{next(counter)}")
            models.append(model)
            spent.append(seconds)

        times = interleaved({"plain": lambda: trained(None), "recorded": recording}, rounds)
        share = statistics.median(spent) / times["plain"].median
        rows = [row("training, 1,000 steps", times["plain"]), row("the same, recorded", times["recorded"])]
        rows.append(row("in the recorder", timing(spent)))
        path, model = Trajectory.open(root / "run0"), models[0]
        inputs, targets = next(iter(digits.CustomLoader(batch_size=SAMPLES, shuffle=False, split="train")))
        metric = Loss(nn.CrossEntropyLoss(), inputs, targets)
        folders = {"viz_dir": root, "res_dir": root}
        contenders = {
            "plane": lambda: trajectory_plane(path),
            "plane, surface, losses, pictures": lambda: viz_path(
                path, metric, like=model, steps=GRID, **folders
            ),
        }
        peers: list[dict[str, float]] = []
        if peer := os.environ.get("PEER_PYTHON"):
            np.save(root / "thetas.npy", torch.stack([path.theta(t) for t in range(len(path))]).numpy())
            np.savez(root / "given.npz", x=inputs.numpy(), y=targets.numpy(), grid=GRID)
            contenders["peer"] = lambda: peers.append(json.loads(told([peer, str(PEER), place, threads()])))
        contenders["plane and surface alone"] = lambda: surface(path, metric.objective(model))
        measured = interleaved(contenders, rounds)
        rows += [row(name, seconds) for name, seconds in measured.items() if name != "peer"]
        more = {"share of the training": share, "peak MB": peaks(root / "run0")}
        if peers:
            rows += [
                row(f"peer: {part}", timing([each[part] for each in peers])) for part in ("plane", "grid")
            ]
            more["peer MB"] = max(each["MB"] for each in peers)
            more["difference"] = difference(root, path, metric.objective(model))
        print(f"recording takes {100 * share:.2f} % of the training; {more}")
        report("trajectory", rows, **more)


def row(name: str, found: Timing) -> dict[str, object]:
    return {"what": name, "seconds": found.median, "low": found.low, "high": found.high}


def timing(seconds: list[float]) -> Timing:
    return Timing(statistics.median(seconds), min(seconds), max(seconds))


def surface(path: Trajectory, objective) -> torch.Tensor:
    """What the peer computes: the plane of the path, and the losses on a grid."""
    found = trajectory_plane(path)
    axis = torch.linspace(-1, 1, GRID, dtype=torch.float64)
    return evaluate(objective, found.chart, chart.mesh(axis, axis)).losses


def difference(root: Path, path: Trajectory, objective) -> float:
    """The largest relative difference between our losses and the peer's at its own points."""
    known = np.load(root / "peer.npz")
    axes = torch.from_numpy(known["dirs"]).to(objective.theta)
    plane = chart.plane(path.theta(len(path) - 1), *axes)
    axis = torch.arange(-(GRID // 2), GRID // 2, dtype=torch.float64) * float(known["alpha"])
    ours = evaluate(objective, plane, chart.mesh(axis, axis)).losses.reshape(GRID, GRID).T.numpy()
    return float(np.abs(ours - known["losses"]).max() / np.abs(known["losses"]).max())


def peaks(folder: Path) -> dict[str, float]:
    """Peak MB of finding the plane of 500 and of 1,000 checkpoints within two budgets."""
    return {
        f"{count} checkpoints, budget {budget >> 20} MB": float(
            told([sys.executable, "-c", PEAK, str(folder), str(count), str(budget)])
        )
        for budget in (2**26, 2**28)
        for count in (STEPS // 2, STEPS)
    }


def threads() -> str:
    return str(torch.get_num_threads())


def told(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.splitlines()[-1]


if __name__ == "__main__":
    main()
