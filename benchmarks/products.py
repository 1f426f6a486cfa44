"""Claim: a Hessian product takes no longer than double backward on the list of parameters, and less where it can.

Double backward is what PyHessian does: the gradient is computed once with its graph, and each product is a backward
pass through it, with a list of tensors in and out. Both ways run in turn in one process, on the same weights and data
in float32; medians of a product are reported, and building apart. Peak memory is the growth of a process of its own.
Operations are those of a double backward product; page faults are of both ways.

``python -m benchmarks.products lenet-2048 resnet`` measures some rows, ``--kernels`` every kernel, ``--device cuda`` on
a GPU.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.jobs import job
from benchmarks.measure import peak, report
from bridges import metrics
from lla_func import products
from lla_func._torch import math_attention
from lla_func.objective import Objective

BLOCK = 8
SECONDS = 6.0
"""How long the products of one row are timed."""


class Case(NamedTuple):
    """A model in evaluation mode, its criterion and one batch."""

    model: nn.Module
    criterion: Callable[[Any, Any], Tensor]
    inputs: Tensor
    targets: Tensor


class Smooth(nn.Sequential):
    """A ConvNet with BatchNorm and SiLU."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for count, filters, stride in ((3, 16, 1), (16, 32, 2), (32, 64, 2)):
            layers += [
                nn.Conv2d(count, filters, 3, stride, 1, bias=False),
                nn.BatchNorm2d(filters),
                nn.SiLU(),
            ]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Decoder(nn.Module):
    """A GPT-like decoder: 2 layers of width 128, 4 heads, a vocabulary of 1,000, output tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 128)
        self.position = nn.Parameter(0.02 * torch.randn(64, 128))
        self.norms = nn.ModuleList(nn.LayerNorm(128) for _ in range(5))
        self.joint = nn.ModuleList(nn.Linear(128, 3 * 128) for _ in range(2))
        self.mix = nn.ModuleList(nn.Linear(128, 128) for _ in range(2))
        self.wide = nn.ModuleList(nn.Linear(128, 512) for _ in range(2))
        self.narrow = nn.ModuleList(nn.Linear(512, 128) for _ in range(2))
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits [n, 1000, 64] of tokens [n, 64]."""
        x = self.embedding(tokens) + self.position
        for i in range(2):
            q, k, v = (
                part.unflatten(-1, (4, 32)).transpose(1, 2)
                for part in self.joint[i](self.norms[2 * i](x)).chunk(3, -1)
            )
            attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.mix[i](attended.transpose(1, 2).flatten(2))
            x = x + self.narrow[i](F.gelu(self.wide[i](self.norms[2 * i + 1](x))))
        return F.linear(self.norms[4](x), self.embedding.weight).transpose(1, 2)


class Recurrent(nn.Module):
    """An LSTM over 32 steps, written as a loop over its cell: the fused layer has no second derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(32, 64)
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, 10] of sequences [n, 32, 32]."""
        state = x.new_zeros(len(x), 64), x.new_zeros(len(x), 64)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0])


def case(name: str) -> Case:
    """A row of the table, with random weights and data."""
    torch.manual_seed(0)
    if name == "smooth":
        model, x, y = Smooth(), torch.randn(64, 3, 32, 32), torch.randint(10, (64,))
    elif name == "decoder":
        model, x, y = Decoder(), torch.randint(1000, (16, 64)), torch.randint(1000, (16, 64))
    elif name == "lstm":
        model, x, y = Recurrent(), torch.randn(128, 32, 32), torch.randint(10, (128,))
    else:
        kind, batch = {
            "lenet-2048": ("lenet", 2048),
            "lenet-256": ("lenet", 256),
            "mlp": ("mlp", 2048),
            "resnet": ("resnet", 16),
            "encoder": ("encoder", 64),
        }[name]
        task = job(kind, batch, 1)
        return Case(task.model, nn.CrossEntropyLoss(), task.inputs, task.targets)
    return Case(model.eval(), nn.CrossEntropyLoss(), x, y)


NAMES = ("lenet-2048", "lenet-256", "mlp", "resnet", "encoder", "smooth", "decoder", "lstm")


def double_backward(row: Case) -> Callable[[list[Tensor]], Any]:
    """PyHessian's way: the graph of the gradient is kept, and each product is a backward pass through it."""
    parameters = [p for p in row.model.parameters() if p.requires_grad]
    loss = row.criterion(row.model(row.inputs), row.targets)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    return lambda v: torch.autograd.grad(gradients, parameters, v, retain_graph=True, materialize_grads=True)


def objective(row: Case) -> Objective:
    """The row as an objective."""
    return metrics.Loss(row.criterion, row.inputs, row.targets).objective(row.model)


def ways(row: Case, device: str, kernels: tuple[str, ...]) -> dict[str, Callable[[], Callable[[], Any]]]:
    """How to build each way, and what then makes a product."""
    shapes = [p.shape for p in row.model.parameters()]
    generator = torch.Generator().manual_seed(1)
    flat = torch.randn(sum(map(torch.Size.numel, shapes)), generator=generator).to(device)
    named = [
        part.view(shape) for part, shape in zip(flat.split([s.numel() for s in shapes]), shapes, strict=True)
    ]

    def theirs() -> Callable[[], Any]:
        with math_attention():  # the fused kernels have no second derivative
            product = double_backward(row)
        return lambda: product(named)

    studied = objective(row)

    def ours(**options: Any) -> Callable[[], Callable[[], Any]]:
        def build() -> Callable[[], Any]:
            made = products.hessian(studied, **options)
            print(f"  {made.name} {getattr(made, 'choice', '')}", file=sys.stderr, flush=True)
            return lambda: made.matvec(flat)

        return build

    found = {"double backward": theirs, "ours": ours()}
    return found | {kernel: ours(kernel=kernel, blocks="rows") for kernel in kernels}


def measured(name: str, device: str, kernels: tuple[str, ...] = ()) -> dict[str, Any]:
    """One row: medians of interleaved products, the median of the rounds' ratios, building, memory, operations."""
    from torch.utils.flop_counter import FlopCounterMode

    row = moved(case(name), device)
    contenders = ways(row, device, kernels)
    building, run = {}, {}
    for way, build in contenders.items():
        start = time.perf_counter()
        run[way] = build()
        finish(device)
        building[way] = time.perf_counter() - start
    with FlopCounterMode(display=False) as counter:
        run["double backward"]()
    clock: dict[str, list[float]] = {way: [] for way in run}
    cpu: dict[str, list[float]] = {way: [] for way in run}
    faults: dict[str, list[int]] = {way: [] for way in run}
    for once in run.values():
        once()
    begin, rounds = time.perf_counter(), 0
    while rounds < 5 or time.perf_counter() - begin < SECONDS:
        rounds += 1
        for way, once in run.items():
            before, start, used = page_faults(), time.perf_counter(), time.process_time()
            once()
            finish(device)
            clock[way].append(time.perf_counter() - start)
            cpu[way].append(time.process_time() - used)
            faults[way].append(page_faults() - before)
    median = {way: statistics.median(seconds) for way, seconds in clock.items()}
    result = {
        "row": name,
        "double backward (ms)": 1e3 * median["double backward"],
        "ours (ms)": 1e3 * median["ours"],
        "ratio": ratio(clock, "ours"),
        "ratio of CPU time": ratio(cpu, "ours"),
        "building (products)": building["ours"] / median["double backward"],
        "block of 8, a vector": block(row, device) / median["ours"],
        "page faults, theirs": statistics.median(faults["double backward"]),
        "page faults, ours": statistics.median(faults["ours"]),
        "GFLOP": counter.get_total_flops() / 1e9,
        "share of peak": counter.get_total_flops()
        / 1e9
        / median["ours"]
        / PEAK.setdefault(device, rate(device)),
    }
    if device == "cpu":
        theirs, mine = (grown(name, way) for way in ("double backward", "ours"))
        result |= {"memory, theirs (MB)": theirs, "memory, ours (MB)": mine}
    for kernel in kernels:
        result |= {
            kernel: ratio(clock, kernel),
            f"built {kernel}": building[kernel] / median["double backward"],
        }
    return result


PEAK: dict[str, float] = {}


def rate(device: str) -> float:
    """GFLOP/s of matrix products; not measured on a GPU."""
    return peak() if device == "cpu" else float("nan")


def ratio(seconds: dict[str, list[float]], way: str) -> float:
    """The median over the rounds of the double backward's time over another's."""
    pairs = zip(seconds["double backward"], seconds[way], strict=True)
    return statistics.median(theirs / mine for theirs, mine in pairs if mine > 0)


def block(row: Case, device: str) -> float:
    """Seconds a vector of a block, the least of three."""
    made = products.hessian(objective(row))
    vectors = torch.randn(BLOCK, made.dim, device=device)
    made.matvec(vectors)
    least = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        made.matvec(vectors)
        finish(device)
        least = min(least, time.perf_counter() - start)
    return least / BLOCK


def page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def grown(name: str, way: str) -> float:
    """Megabytes by which a process of its own grows while it builds a way and takes three products."""
    command = [sys.executable, "-m", "benchmarks.products", name, "--memory", way]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def growth(name: str, way: str) -> None:
    row = case(name)
    build = ways(row, "cpu", ())[way]
    with torch.no_grad():
        row.criterion(row.model(row.inputs[:2]), row.targets[:2])
    small = Case(nn.Linear(2, 2), nn.CrossEntropyLoss(), torch.ones(2, 2), torch.zeros(2, dtype=torch.long))
    for kernel in products.KERNELS:  # what torch loads at its first use
        products.hessian(objective(small), kernel=kernel)
    before = most()
    once = build()
    for _ in range(3):
        once()
    print(most() - before)


def most() -> float:
    """The most memory that this process has had, in MB; ``ru_maxrss`` would be that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024


def moved(row: Case, device: str) -> Case:
    return Case(row.model.to(device), row.criterion, row.inputs.to(device), row.targets.to(device))


def finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def main(names: tuple[str, ...] = NAMES, device: str = "cpu", kernels: tuple[str, ...] = ()) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        print("products: skipped, there is no GPU")
        return
    warnings.simplefilter("ignore")
    rows = []
    for name in names:
        rows.append(measured(name, device, kernels))
        print(json.dumps(rows[-1]), flush=True)
    report("products" if device == "cpu" else f"products_{device}", rows, device=device)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.products")
    parser.add_argument("names", nargs="*", metavar="ROW", help=", ".join(NAMES))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--kernels", action="store_true", help="every kernel, not only the default")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.memory:
        growth(asked.names[0], asked.memory)
    else:
        main(tuple(asked.names) or NAMES, asked.device, tuple(products.KERNELS) if asked.kernels else ())
