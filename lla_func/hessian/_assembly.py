"""Assembly: one operator on all the data, from products on its pieces, by the kernel that suits them."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lla_func._torch import Meter, differentiable, explained, noticed, replaying, share_memory, tensors
from lla_func.errors import flag
from lla_func.hessian._autotune import Build, Built, KernelChoice, autotune, choose
from lla_func.hessian._choice import Choice
from lla_func.hessian._kernels import KERNELS, Product
from lla_func.hessian._request import Request
from lla_func.hessian._verify import check_reproducible, check_symmetric
from lla_func.objective import Batch, Objective, tiles, weighed
from lla_func.spectrum import Operator

BLOCK_BYTES = 2**28
"""Memory for what the vectors of a block compute together."""


@noticed()
def carry_out(
    request: Request,
    build: Build,
    *,
    choice: KernelChoice | None = None,
    probe: bool = True,
    tolerance: float | None = None,
) -> Operator:
    """Chooses how to compute products (unless told), assembles them to an operator, and probes its symmetry."""
    objective, name, point, kernel, blocks = (
        request.objective,
        request.name,
        request.point,
        request.kernel,
        request.blocks,
    )
    scale = abs(check_reproducible(objective, name)) if flag("probe", probe) else 0.0
    built, seconds = None, dict[str, float]()
    if choice is None and kernel in KERNELS and (blocks != "auto" or request.rows is not None):
        choice = KernelChoice((kernel,), kernel, batched=blocks == "vmap")
    if choice is None:
        kernels = (kernel,) if kernel in KERNELS else tuple(KERNELS)
        with explained(name, tried=kernels):
            if kernel == "timed":
                choice = autotune(objective, build, point, kernels, blocks=blocks)
            else:
                choice, built, seconds = choose(request, build, kernels)
    operator = assemble(
        objective,
        build,
        point,
        choice,
        name=name,
        tile=request.tile,
        memory=request.memory,
        built=built,
        rows=request.rows,
        hooked=request.hooked,
    )
    operator = operator._replace(choice=operator.choice._replace(seconds=seconds))
    if probe:
        # Where products should vanish, rounding leaves some of the loss in them.
        floor = 10 * torch.finfo(point.dtype).eps * scale
        # Stored data and a loss that came out the same twice need no third product; data that streams may change.
        stored = isinstance(objective.batches, (list, tuple))
        check_symmetric(operator, tolerance=tolerance, floor=floor, repeat=not stored)
    return operator


def assemble(
    objective: Objective,
    build: Build,
    point: Tensor,
    choice: KernelChoice,
    *,
    name: str,
    tile: int,
    memory: float,
    built: Built | None = None,
    rows: int | None = None,
    hooked: bool = False,
) -> Operator:
    """The operator that sums products over all batches, each weighted by its share of the risk.

    What a kernel keeps for each piece of data stays in memory if all of it fits into ``memory`` bytes; where no kernel
    fits, nothing is kept, and each call goes over the batches and builds anew, once for a whole block of vectors.

    The point gives the dimension, dtype and device of vectors; the kernel is added to the name. What is ``built``
    already, to choose a kernel, is taken as it is. Rows are the vectors of a block that go
    together, where that is said.
    """
    for used in choice.kernels:
        kept, piece_bytes = _keep(objective, build, used, name, tile, memory, built)
        if kept is not None:
            break
    else:
        used = choice.streaming
    name = f"{name} ({used})"
    if rows is None:
        rows = max(1, min(64, BLOCK_BYTES // max(1, piece_bytes))) if choice.batched else 1
    made = Choice(used, rows, tile if objective.separable else None)

    # What is kept is not run again, but for checkpoints, whose graph is made anew in each product.
    replayed = not hooked and kept is not None and used in ("vjp", "linearize") and point.device.type == "cpu"

    def matvec(vectors: Tensor) -> Tensor:
        _check_vectors(vectors, point, name)
        with replaying() if replayed else differentiable(), explained(name, tried=(used,)):
            vectors = vectors.clone() if vectors.is_inference() else vectors.detach()
            if kept is not None and len(kept) == 1 and (objective.reduction == "mean" or kept[0][0] == 1):
                image = _applied(kept[0][1], vectors, rows)  # the only piece has all the weight
                return image.clone() if share_memory(image, vectors) else image
            total, weights = torch.zeros_like(vectors), 0.0
            anew = ((weight, build(used, piece)) for weight, piece in pieces(objective, tile))
            for weight, product in anew if kept is None else kept:
                total.add_(_applied(product, vectors, rows), alpha=weight)
                weights += weight
            return total.div_(weights) if objective.reduction == "mean" else total

    return Operator(matvec, len(point), point.dtype, point.device, name, choice=made)


def pieces(objective: Objective, tile: int) -> Iterator[tuple[float, Batch]]:
    """The batches that count, with their weights, cut into tiles where that is allowed."""
    for batch in objective.batches:
        yield from weighed(objective, tiles(batch, tile) if objective.separable else (batch,))


def _keep(
    objective: Objective,
    build: Build,
    kernel: str,
    name: str,
    tile: int,
    memory: float,
    built: Built | None,
) -> tuple[list[tuple[float, Product]] | None, int]:
    """The products of all pieces, or None if they need more memory than there is; and what a large one needs."""
    stored = isinstance(objective.batches, (list, tuple))
    kept, used, largest = [], 0, 0
    with differentiable(), explained(name, tried=(kernel,)):
        for weight, piece in pieces(objective, tile):
            if built is not None and built.kernel == kernel and built.piece is piece:
                product, size = built.product, built.kept
            else:
                with Meter() as meter:
                    product = build(kernel, piece)
                size = meter.kept()
            data = sum(leaf.numel() * leaf.element_size() for leaf in tensors(piece))
            used += size + (0 if stored else data)  # streamed data lives as long as what refers to it
            # Where nothing is kept, activations are guessed to be some eight times the data.
            largest = max(largest, size, 8 * data)
            if used > memory:
                return None, largest
            kept.append((weight, product))
    return kept, largest


def _applied(product: Product, vectors: Tensor, rows: int) -> Tensor:
    """The product with a vector, or with the vectors of a block, ``rows`` of them at a time."""
    if vectors.ndim == 1:
        return product(vectors).detach()
    if rows == 1 or len(vectors) < 2:
        return torch.stack([product(v).detach() for v in vectors]) if len(vectors) else vectors
    return torch.func.vmap(product, chunk_size=rows)(vectors).detach()


def _check_vectors(vectors: Tensor, point: Tensor, name: str) -> None:
    if not isinstance(vectors, Tensor):
        raise TypeError(f"vectors is of type {type(vectors).__name__}; {name} takes a tensor [P] or [B, P]")
    if vectors.ndim not in (1, 2) or vectors.shape[-1] != len(point):
        raise ValueError(
            f"vectors has shape {list(vectors.shape)}; {name} takes [P] or [B, P] with P={len(point)}"
        )
    for what in ("dtype", "device"):
        came, needed = getattr(vectors, what), getattr(point, what)
        if came != needed:
            raise ValueError(
                f"vectors has {what} {came}, but {name} is on {what} {needed}; pass vectors.to(operator.{what})"
            )
