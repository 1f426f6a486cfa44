"""Claim: between LeNets of two seeds a fitted curve has at most a fifth of the straight barrier; alignment lowers that.

Five pairs of networks trained from different seeds on the bundled digits. Barriers are of the mean cross-entropy on the
training images (and, beside it, on the held-out ones): on the straight line, on the straight line after the units of
one network were aligned with the other's, and on a quadratic Bezier curve fitted with the defaults. No peer on the
package index fits curves or aligns networks; ``loss-landscapes`` interpolates only.
"""

from __future__ import annotations

import copy
import statistics
import time
from typing import Any

import torch
from torch import nn

from benchmarks.measure import report
from bridges import alignment, metrics
from bridges.loaders import digits
from bridges.loaders.lenet import LeNet
from lla_func import chart, connect
from lla_func.landscape import barrier

EPOCHS, BATCH, RATE = 12, 64, 1e-3


def trained(seed: int) -> LeNet:
    """LeNet trained on the bundled digits, all from one seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LeNet()
        images, labels = digits.bundled("train")
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
        for _ in range(EPOCHS):
            for part in torch.randperm(len(images)).split(BATCH):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images[part]), labels[part]).backward()
                optimizer.step()
    return model.eval()


def height(a: nn.Module, b: nn.Module, metric: Any) -> float:
    """The barrier on the straight line between two models."""
    ends = [metric.objective(model).theta for model in (a, b)]
    return barrier(metric.objective(a), chart.linear_interpolation(*ends)).estimate.value


def main(pairs: int = 5) -> None:
    images, labels = digits.bundled("train")
    train = metrics.Loss(nn.CrossEntropyLoss(), images, labels)
    held_out = metrics.Loss(nn.CrossEntropyLoss(), *digits.bundled("test"))
    rows: list[dict[str, Any]] = []
    for pair in range(pairs):
        a, b = trained(2 * pair), trained(2 * pair + 1)
        start = time.perf_counter()
        aligned = copy.deepcopy(b)
        aligned.load_state_dict(alignment.align(b, to=a, inputs=images[:16]))
        aligning = time.perf_counter() - start
        start = time.perf_counter()
        curve = connect(a, b, train)
        fitting = time.perf_counter() - start
        on_test = barrier(held_out.objective(a), curve.chart).estimate.value
        straight = curve.straight_barrier.value
        rows.append(
            {
                "seeds": f"{2 * pair}, {2 * pair + 1}",
                "straight": straight,
                "aligned": height(a, aligned, train),
                "curve": curve.barrier.value,
                "curve / straight": curve.barrier.value / straight,
                "straight, held out": height(a, b, held_out),
                "aligned, held out": height(a, aligned, held_out),
                "curve, held out": on_test,
                "align s": aligning,
                "fit s": fitting,
            }
        )
    mean = {key: statistics.mean(row[key] for row in rows) for key in rows[0] if key != "seeds"}
    report("connectivity", [*rows, {"seeds": "mean"} | mean])


if __name__ == "__main__":
    main()
