"""Claim: lines and planes through models have the values of the peer, a documented step apart, in less time if small.

``linear_interpolation`` and ``planar_interpolation`` of loss-landscapes (PyPI) take a step before each evaluation: of
a line from a to b with S steps they give the losses at t = 1/S, ..., 1, without a. The columns of their planes are
shifted by one step where their number is even and not where it is odd. Ours are evaluated at these very points. Each
row is a whole job, from the models to all losses, interleaved, the median of three. Short lines through large networks
take longer than the peer's: the trial of whether batches may be cut, and two passes over memory to form a point.
"""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.jobs import Job, job
from benchmarks.measure import interleaved, report
from bridges import metrics
from lla_func import chart
from lla_func.landscape import evaluate

ROWS = (
    ("lenet", 2048, 40, True),
    ("lenet", 256, 20, False),
    ("mlp", 2048, 40, True),
    ("mlp", 512, 20, False),
    ("encoder", 64, 20, True),
    ("resnet", 64, 12, True),
)


def models(task: Job) -> list[nn.Module]:
    """The model of a job and two that are some way off, with the same statistics of BatchNorm, which the peer keeps."""
    found = [task.model]
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        other = copy.deepcopy(task.model)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter += (
                    0.5 * parameter.std().nan_to_num(0.0) * torch.randn(parameter.shape, generator=generator)
                )
        found.append(other)
    return found


def offsets(steps: int, line: bool) -> Tensor:
    """Where the peer evaluates, as shares of the way from a to b (and to c), in its order, [N, C]."""
    ahead = torch.arange(1, steps + 1).double() / steps
    if line:
        return ahead[:, None]
    behind = torch.arange(steps).double() / steps
    columns = [
        torch.stack([torch.full_like(ahead, i / steps), behind if i % 2 else ahead], 1) for i in range(steps)
    ]
    return torch.cat(columns)


def ours(task: Job, nets: list[nn.Module]) -> Tensor:
    """The losses at the peer's points, from the models to the losses."""
    metric = metrics.Loss(nn.CrossEntropyLoss(), task.inputs, task.targets)
    objective = metric.objective(nets[0])
    count = 2 if task.line else 3
    others = [objective.layout.ravel(dict(net.named_parameters())).detach() for net in nets[1:count]]
    thetas = [objective.theta, *others]
    shares = offsets(task.steps, task.line)
    if task.line:
        return evaluate(objective, chart.linear_interpolation(*thetas), shares).losses
    through = chart.planar_interpolation(*thetas)
    places = torch.tensor([through.points[name] for name in "bc"], dtype=torch.float64)
    return evaluate(objective, through, shares @ places).losses


def peers(task: Job, nets: list[nn.Module]) -> Any:
    """The same by loss-landscapes, which moves the first model and so gets copies."""
    import loss_landscapes  # type: ignore[import-untyped]

    metric = loss_landscapes.metrics.Loss(nn.CrossEntropyLoss(), task.inputs, task.targets)
    scan = loss_landscapes.linear_interpolation if task.line else loss_landscapes.planar_interpolation
    with torch.no_grad():
        return scan(*nets[: 2 if task.line else 3], metric, task.steps, deepcopy_model=True)


def main(rows: Any = ROWS, rounds: int = 3) -> None:
    measured = []
    for kind, batch, steps, line in rows:
        task = job(kind, batch, steps, line=line)
        nets = models(task)
        theirs = np.asarray(peers(task, nets), dtype=np.float64).reshape(-1)
        mine = ours(task, nets).numpy()
        times = interleaved({"ours": partial(ours, task, nets), "peer": partial(peers, task, nets)}, rounds)
        measured.append(
            {
                "job": task.name,
                "peer s": times["peer"].median,
                "peer spread": f"{times['peer'].low:.2f} to {times['peer'].high:.2f}",
                "ours s": times["ours"].median,
                "ours spread": f"{times['ours'].low:.2f} to {times['ours'].high:.2f}",
                "ratio": times["peer"].median / times["ours"].median,
                "largest difference": float((abs(mine - theirs) / abs(theirs)).max()),
            }
        )
        print(measured[-1], flush=True)
    report("paths", measured)


if __name__ == "__main__":
    main()
