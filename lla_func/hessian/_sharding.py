"""Hessian work shared out: each process multiplies with its part of the data, and one sum joins the products.

The risk is a weighted mean over batches, so its Hessian times a vector is the same weighted mean of products with parts
of the data. Everything else, Krylov spaces, probes, stopping rules, is a function of products and seeds, and runs alike
in all processes: after each sum they all hold the same numbers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils import _pytree as pytree

from lla_func._torch import tensors
from lla_func.errors import instance
from lla_func.hessian._choice import Choice
from lla_func.hessian._kernels import KERNELS
from lla_func.objective import Batch, Objective, beginning, samples, weighed
from lla_func.spectrum import Estimate, Operator

Build = Callable[..., Operator]


def is_first(group: Any) -> bool:
    """Whether this process is the one that writes and draws: rank 0 of the group, or the only one."""
    if group is not None:
        instance("group", group, dist.ProcessGroup, "a torch.distributed process group, or None")
    return group is None or dist.get_rank(group) == 0


def shared(build: Build, objective: Objective, *, group: Any, **options: Any) -> Operator:
    """The operator of an objective, its data shared out among the processes of a group.

    Every process of the group has to make this call, and the same products afterwards. How they are computed is what
    rank 0 chooses. A product costs one
    ``all_reduce`` of the vector or block of vectors.

    Args:
        build: makes an operator of an objective, such as :func:`lla_func.hessian.hessian`.
        objective: the whole one, the same in all processes.
        group: a ``torch.distributed`` process group; None for this process alone.
        options: of ``build``.

    Returns:
        the operator, equal to ``build(objective, **options)`` to rounding.
    """
    if group is None or (size := dist.get_world_size(group)) == 1:
        return build(objective, **options)
    mine = part(objective, dist.get_rank(group), size)
    weight = sum((weight for weight, _ in weighed(mine, mine.batches)), 0.0)
    idle = weight == 0
    if idle:  # fewer batches than processes: this one adds nothing, but needs the operator's dimension
        mine = objective._replace(batches=[beginning(objective, 1)])
    local = _alike(build, mine, group, options)
    total = torch.tensor(weight, dtype=torch.float64, device=local.device)
    dist.all_reduce(total, group=group)
    share = weight / float(total) if objective.reduction == "mean" else 1.0

    def summed(product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def matvec(vectors: Tensor) -> Tensor:
            result = torch.zeros_like(vectors) if idle else product(vectors).mul(share).contiguous()
            dist.all_reduce(result, group=group)
            return result

        return matvec

    def joined(found: Estimate | None) -> Estimate | None:
        """The sum of what all processes found, where all did."""
        numbers = [0.0, 0.0, 0.0]
        if found is not None:
            mine = 0.0 if idle else share
            numbers = [1.0, mine * found.value, (mine * found.error) ** 2]
        sums = torch.tensor(numbers, dtype=torch.float64, device=local.device)
        dist.all_reduce(sums, group=group)
        whole, value, squared = sums.tolist()
        if found is None or whole < size:
            return None
        return Estimate(value, squared**0.5, method="signs" if squared else "exact")

    def exact_trace() -> Estimate | None:
        assert local.exact_trace is not None
        return joined(local.exact_trace())

    def nearby() -> tuple[Operator, Estimate] | None:
        assert local.nearby is not None
        found = local.nearby()
        known = joined(None if found is None else found[1])
        if found is None or known is None:
            return None
        return found[0]._replace(matvec=summed(found[0].matvec)), known

    name = f"{local.name}, {size} processes"
    return local._replace(
        matvec=summed(local.matvec),
        name=name,
        per_sample=None,  # those of this part of the data
        exact_trace=None if local.exact_trace is None else exact_trace,
        nearby=None if local.nearby is None else nearby,
    )


def _alike(build: Build, objective: Objective, group: Any, options: dict[str, Any]) -> Operator:
    """The operator of this process's part, its products computed as rank 0 of the group has chosen to."""
    device, first = objective.theta.device, dist.get_rank(group) == 0
    said = torch.full((3,), -1, dtype=torch.long, device=device)
    local = None
    if first:
        local = build(objective, **options)
        if local.choice is not None and local.choice.kernel in KERNELS:
            number = list(KERNELS).index(local.choice.kernel)
            said = torch.tensor([number, local.choice.rows, local.choice.tile or 0], device=device)
    dist.broadcast(said, dist.get_global_rank(group, 0), group=group)
    if local is not None:
        return local
    number, rows, tile = said.tolist()
    if number < 0:  # of no kernel
        return build(objective, **options)
    chosen = Choice(list(KERNELS)[number], rows, tile or None)
    left = {name: x for name, x in options.items() if name not in ("kernel", "blocks", "tile", "choice")}
    return build(objective, **left, kernel=chosen)


def part(objective: Objective, rank: int, size: int) -> Objective:
    """The objective on the part of the data that falls to one of ``size`` processes.

    Every batch is cut into ``size`` pieces where that is allowed; otherwise whole batches go round.

    Example:
        >>> from lla_func import from_loss
        >>> data = [torch.arange(5.0)]
        >>> objective = from_loss(lambda theta, x: (x * theta).sum(), torch.ones(1), data, separable=True)
        >>> [part(objective, rank, 2).batches for rank in range(2)]
        [[tensor([0., 1.])], [tensor([2., 3., 4.])]]
    """
    batches: Iterable[Batch] = _Part(objective, rank, size)
    return objective._replace(batches=list(batches) if isinstance(objective.batches, Sequence) else batches)


class _Part:
    """One process's part of batches, cut while going over them."""

    def __init__(self, objective: Objective, rank: int, size: int) -> None:
        self.objective, self.rank, self.size = objective, rank, size

    def __iter__(self) -> Iterator[Batch]:
        for index, batch in enumerate(self.objective.batches):
            count = samples(batch)
            leaves = [*tensors(batch)]
            if not self.objective.separable or any(leaf.ndim == 0 or len(leaf) != count for leaf in leaves):
                if index % self.size == self.rank:
                    yield batch
                continue
            start, stop = count * self.rank // self.size, count * (self.rank + 1) // self.size
            if stop > start:
                mine = slice(start, stop)
                yield pytree.tree_map(lambda x, own=mine: x[own] if isinstance(x, Tensor) else x, batch)
