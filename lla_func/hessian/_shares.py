"""The trace of the Gauss-Newton matrix as shares of samples and parameters, over all the data of an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad
from torch.utils import _pytree as pytree

from lla_func._torch import differentiable, noticed
from lla_func.graph import signature
from lla_func.hessian import _root as root
from lla_func.hessian._contributions import GRADIENT_BYTES, PROBE, Plan, contributions, plan
from lla_func.hessian._sites import NotCoveredError
from lla_func.hessian._split import Program, RefusedError, Split, parameters_of, run, supplied
from lla_func.objective import Batch, Objective, beginning, samples, tiles, weigh

TILE = 64
"""Samples in a tile: what a backward pass touches stays in the caches."""
ROUNDS = 2
"""Draws of random signs for each sample, where the root has too many columns."""

ALONE = 256
"""The most samples that are differentiated one by one, where a parameter meets data without a formula; for more of them
products are faster."""

ChosenColumns = Callable[[root.Product, Sequence[Tensor], int], root.Columns]


class Shares(NamedTuple):
    """What samples and parameters add to a trace.

    Attributes:
        values: t_i, the trace with sample i alone, parted among parameters, [N, parameters] float64. The trace of the
            risk is the mean of their sums, weighted by ``weights``, or the sum.
        weights: [N] float64.
        variance: of t_i by random signs, [N]; zero where all columns were taken.
        sum: whether the risk is a sum over samples, not a mean.
    """

    values: Tensor
    weights: Tensor
    variance: Tensor
    sum: bool

    def of(self, parameters: Sequence[int] | None = None) -> tuple[float, float, float | None]:
        """The trace of all or some of the parameters: value, its error by signs, its error over data."""
        chosen = self.values if parameters is None else self.values[:, list(parameters)]
        each, count = chosen.sum(1), len(self.values)
        scale = 1.0 if self.sum else 1 / float(self.weights.sum())
        value = float((self.weights * each).sum()) * scale
        error = float((self.weights.square() * self.variance).sum().sqrt()) * scale
        center = each.mean() if self.sum else value
        spread = (self.weights * (each - center)).square().sum() * count / (count - 1) if count > 1 else None
        return value, error, None if spread is None else float(spread.sqrt()) * scale


@noticed()
def shares(objective: Objective, split: Split, *, seed: int = 0) -> Shares:
    """The shares of all samples in the trace of the Gauss-Newton matrix of a split loss.

    Args:
        objective: a separable one.
        split: the network and the criterion (:mod:`lla_func.hessian._split`).
        seed: of the random signs that stand for the columns of a large root.

    Raises:
        RefusedError: the loss cannot be split so, or cut into samples.
    """
    if not objective.separable:
        raise RefusedError("the loss is not the mean or sum of those of its samples")
    if objective.adapt is not None:
        raise RefusedError("the loss depends on theta through statistics of all the data")
    parameters = list(parameters_of(objective).values())
    generator = torch.Generator().manual_seed(seed)
    with differentiable():
        small = beginning(objective, PROBE)
        program = split(small)
        many, found, size = False, None, TILE
        if program.cut.values:
            many = _width(program, parameters, small) > root.MANY
            found = _planned(program, split, parameters, small)
            if found is None and sum(map(samples, objective.batches)) > ALONE:
                raise RefusedError(
                    f"no formula for all parameters, and more than {ALONE} samples to take alone"
                )
            size = 1 if found is None else max(1, min(TILE, GRADIENT_BYTES // max(1, 8 * found.size)))
        columns: ChosenColumns = partial(root.drawn, generator=generator) if many else root.exact
        programs: dict[object, Program] = {}
        values, weights, variance = [], [], []
        for weight, tile in _tiles(objective, size):
            if (key := signature(tile)) not in programs:
                programs[key] = split(tile)
            draws = torch.stack(
                [_on(programs[key], found, parameters, tile, columns) for _ in range(ROUNDS if many else 1)]
            )
            own = _weights(objective, tile)
            each = weight * draws / torch.where(own > 0, own, 1.0)[:, None]
            values.append(each.mean(0)[own > 0])
            weights.append(own[own > 0])
            spread = each.sum(2).var(0) / len(draws) if many else torch.zeros_like(own)
            variance.append(spread[own > 0])
    return Shares(torch.cat(values), torch.cat(weights), torch.cat(variance), objective.reduction == "sum")


def _tiles(objective: Objective, size: int) -> Iterator[tuple[float, Batch]]:
    for batch in objective.batches:
        for tile in tiles(batch, size):
            if weight := weigh(objective, tile):
                yield weight, tile


def _weights(objective: Objective, tile: Batch) -> Tensor:
    """What each sample of a tile weighs, [n] float64."""
    count, device = samples(tile), objective.theta.device
    if objective.weight is None or objective.reduction == "sum":
        return torch.ones(count, dtype=torch.float64, device=device)
    single = [weigh(objective, sample) for sample in tiles(tile, 1)]
    return torch.tensor(single, dtype=torch.float64, device=device)


def _width(program: Program, parameters: Sequence[Tensor], tile: Batch) -> int:
    """How many values cross the cut for each sample."""
    count = samples(tile)
    sizes = [node.meta["value"].shape for node in program.cut.values]
    total = [int(torch.Size(shape).numel()) for shape in sizes]
    if any(size % count for size in total):
        raise RefusedError("what crosses the cut is not a row for each sample")
    return sum(total) // count


def _planned(program: Program, split: Split, parameters: Sequence[Tensor], tile: Batch) -> Plan | None:
    """How to find the shares of a tile of samples at once; None where each has to be differentiated by itself.

    Tried on a few samples, and compared with these alone.
    """
    try:
        found = plan(program, parameters, tile)
        count = samples(tile)
        rows = torch.randn(
            count, _width(program, parameters, tile), generator=torch.Generator().manual_seed(1)
        )
        rows = rows.to(parameters[0])
        one = torch.ones(1, count, dtype=torch.float64, device=rows.device)
        together = contributions(program, found, parameters, tile, lambda *_: root.Columns(rows[None], one))
    except NotCoveredError:
        return None
    return found if _agree(split, parameters, tile, rows, together) else None


def _agree(split: Split, parameters: Sequence[Tensor], tile: Batch, rows: Tensor, together: Tensor) -> bool:
    """Whether some samples of a tile by themselves have the shares found for them together, for a vector each."""
    count = len(rows)
    one = torch.ones(1, 1, dtype=torch.float64, device=rows.device)
    for i in sorted({0, count // 2, count - 1}):
        sample = pytree.tree_map(lambda x, i=i: x[i : i + 1] if isinstance(x, Tensor) else x, tile)
        row = root.Columns(rows[None, i : i + 1], one)
        alone = _alone(split(sample), parameters, sample, lambda *_, row=row: row)[0]
        off = float((together[i] - alone).abs().sum())
        if not off <= 10 * torch.finfo(rows.dtype).eps ** 0.5 * float(alone.sum()):
            return False
    return True


def _on(
    program: Program, found: Plan | None, parameters: Sequence[Tensor], tile: Batch, columns: ChosenColumns
) -> Tensor:
    if not program.cut.values:
        return torch.zeros(samples(tile), len(parameters), dtype=torch.float64, device=parameters[0].device)
    if found is None:
        return _alone(program, parameters, tile, columns)
    return contributions(program, found, parameters, tile, columns)


def _alone(program: Program, parameters: Sequence[Tensor], sample: Batch, columns: ChosenColumns) -> Tensor:
    """The shares of a single sample by plain gradients, [1, parameters]."""
    if samples(sample) != 1:
        raise RefusedError("batches cannot be cut into samples")
    moving = [
        i for i, node in enumerate(program.inputs[: len(parameters)]) if node in program.cut.of_parameters
    ]
    leaves = [p.detach().requires_grad_(i in moving) for i, p in enumerate(parameters)]
    known = supplied(program, leaves, sample)
    chosen = {*program.cut.front, *program.cut.fixed}
    with torch.enable_grad():
        run([n for n in program.recording.graph.nodes if n in chosen], known, program.recording)
    values = [known[node] for node in program.cut.values]
    product = root.curvature(lambda v: program.criterion(v, known, sample), values, 1)
    found = columns(product, values, 1)
    total = torch.zeros(1, len(parameters), dtype=torch.float64, device=parameters[0].device)
    for rows, sign in zip(found.columns, found.signs, strict=True):
        gradients = grad(
            values,
            [leaves[i] for i in moving],
            root.split(rows, values),
            retain_graph=True,
            materialize_grads=True,
        )
        for i, gradient in zip(moving, gradients, strict=True):
            total[0, i] += sign[0] * gradient.double().square().sum()
    return total
