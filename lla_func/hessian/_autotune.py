"""Which kernel to use: chosen by size, without a clock, or found by timing each on a few samples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lla_func._torch import Meter, differentiable, raise_if_interrupted
from lla_func.hessian._kernels import Product
from lla_func.hessian._request import Request
from lla_func.objective import Batch, Objective, beginning, samples
from lla_func.spectrum import probes

Build = Callable[[str, Batch], Product]
"""Maps the name of a kernel and a piece of data to the product with the loss on this piece."""

GRADIENT_SECONDS = 0.05
"""The time that a gradient may take on the samples of autotuning, whose work is that of some 30 gradients."""
NOT_FINITE = (
    "products have NaN or infinite values. Look for such values in the data, and for functions whose derivatives "
    "are infinite at the point under study (sqrt or log at 0)"
)
PRODUCTS_AHEAD = 100
"""How many products the time for building is spread over: about those of one spectral analysis."""

SMALL, LARGE = 1_000_000, 10_000_000
"""Parameters times samples: below the first nothing is tried, from the second on building a kernel pays."""
BUILDING = 7
"""How many times what it keeps ``linearize`` takes at most while it is built (3 to 7 times were measured)."""
LONG_SECONDS = 0.5
"""From when on a call counts as long."""


class KernelChoice(NamedTuple):
    """How products are computed.

    Attributes:
        kernels: those worth keeping between products, the fastest first; the first that fits into memory is taken.
        streaming: the kernel to build anew in each call where none fits.
        batched: whether the vectors of a block go through together.
    """

    kernels: tuple[str, ...]
    streaming: str
    batched: bool


class Built(NamedTuple):
    """A product that is there already: the kernel, the piece of data that it is for, and the bytes that it keeps."""

    kernel: str
    piece: Batch
    product: Product
    kept: int


def autotune(
    objective: Objective, build: Build, point: Tensor, kernels: Sequence[str], *, blocks: str = "auto"
) -> KernelChoice:
    """Chooses how to compute products by trying it on the beginning of the data.

    A kernel that fails, or whose product differs from that of the first one that works, is out. Of the others the
    fastest is taken. The first wins unless another is at least a tenth faster, so that noise in the timings rarely
    decides; and whatever is chosen, results are the same to rounding. The same rule decides whether the vectors of a
    block go through together. Small problems take the first kernel that works, with the vectors of a block together
    where that works: there autotuning costs more than it saves, and without a clock the same call gives the same bits.

    The favorite of the kernels comes first; the point gives the dimension, dtype and device of vectors. Where no kernel
    works, the error of the first one is raised.
    """
    found: dict[str, tuple[float, float, Product]] = {}
    failures: list[Exception] = []
    small = len(point) * samples(next(iter(objective.batches))) < SMALL
    with differentiable():
        piece = _beginning(objective)
        vectors = probes(len(point), 4, dtype=point.dtype, device=point.device)
        images: list[Tensor] = []
        for kernel in kernels:
            try:
                image = build(kernel, piece)(vectors[0]).detach()  # the first time is slower, and not timed
                building, product = _timed(point.device, build, kernel, piece)
                seconds = _least_time(point.device, product, vectors[0])
            except Exception as error:  # the next kernel may do without what this one lacks
                raise_if_interrupted(error)
                failures.append(error)
                continue
            images.append(image)
            if _agree(image, images[0]):
                found[kernel] = building, seconds, product
            if small:
                break
        if not found:
            raise failures[0] if failures else ValueError(NOT_FINITE)
        kept = {k: seconds + building / PRODUCTS_AHEAD for k, (building, seconds, _) in found.items()}
        anew = {k: seconds + building for k, (building, seconds, _) in found.items()}
        kernel, streaming = _fastest(kept), _fastest(anew)
        others = [k for k in sorted(kept, key=kept.__getitem__) if k != kernel and kept[k] < anew[streaming]]
        _, seconds, product = found[kernel]
        most = math.inf if small else 0.9 * len(vectors) * seconds
        batched = blocks == "vmap" or (blocks == "auto" and _batching_pays(product, vectors, most))
    return KernelChoice((kernel, *others), streaming, batched)


def choose_by_size(
    request: Request, build: Build, kernels: Sequence[str]
) -> tuple[KernelChoice, Built | None]:
    """Chooses how to compute products without a clock, so that the same call always gives the same bits.

    The first kernel that works is taken; where there is much to do, ``linearize`` is asked first, whose products are
    the fastest once it is built (on LeNet with 1,797 samples 0.17 s against 0.21 s, after 0.8 s), unless building it
    would take more memory than there is. The vectors of a block go through together where that works and the work is
    small, so that overhead dominates. What was built to try the choice comes with it if that was on a whole batch.
    Where no kernel works, the error of ``vjp`` is raised if it was tried, else that of the first.
    """
    objective, point, blocks = request.objective, request.point, request.blocks
    batch = next(iter(objective.batches))
    work = len(point) * samples(batch)
    if work >= LARGE and "linearize" in kernels:
        kernels = ("linearize", *(kernel for kernel in kernels if kernel != "linearize"))
    failures: dict[str, Exception] = {}
    with differentiable():
        piece = beginning(objective, 16)
        largest = min(request.tile, samples(batch)) if objective.separable else samples(batch)
        larger = largest / samples(piece)
        vectors = probes(len(point), 2, dtype=point.dtype, device=point.device)
        for kernel in kernels:
            try:
                with Meter() as meter:
                    product = build(kernel, piece)
                product(vectors[0])
                # What is kept for the parameters, at least a vector of them, does not grow with the samples.
                most = BUILDING * max(meter.kept() * larger - (larger - 1) * point.nbytes, meter.kept())
                if kernel == "linearize" != kernels[-1] and 0 < request.memory < most:
                    continue
            except Exception as error:  # the next kernel may do without what this one lacks
                raise_if_interrupted(error)
                failures[kernel] = error
                continue
            auto = blocks == "auto" and work < SMALL
            batched = blocks == "vmap" or (auto and _batching_pays(product, vectors, math.inf))
            # Building anew in each call is what linearize is bad at.
            choice = KernelChoice((kernel,), "recompute" if kernel == "linearize" else kernel, batched)
            return choice, Built(kernel, piece, product, meter.kept()) if piece is batch else None
    # That of vjp says most: it asks for the least.
    raise failures["vjp" if "vjp" in failures else kernels[0]]


def _beginning(objective: Objective) -> Batch:
    """As many of the first samples as keep autotuning short, from 16 to 256; the first batch if it cannot be cut."""
    few = beginning(objective, 16)
    if not objective.separable:
        return few
    objective.loss(objective.theta, few)
    seconds, _ = _timed(objective.theta.device, objective.loss, objective.theta, few)
    # A gradient takes about three times as long as the loss.
    return beginning(objective, max(16, min(256, int(16 * GRADIENT_SECONDS / (3 * seconds)))))


def _timed(device: torch.device, function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """The seconds that a call takes, and what it returns."""
    _finish(device)
    start = time.perf_counter()
    result = function(*arguments)
    _finish(device)
    return time.perf_counter() - start, result


def _least_time(device: torch.device, function: Callable[..., Any], *arguments: Any) -> float:
    """The least of up to three timings; a call that takes long is timed once, since noise matters less there."""
    least, _ = _timed(device, function, *arguments)
    for _ in range(2 if least < LONG_SECONDS else 0):
        least = min(least, _timed(device, function, *arguments)[0])
    return least


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _fastest(seconds: dict[str, float]) -> str:
    """The key of the least value, but the first key if that is not beaten by a tenth."""
    first, best = next(iter(seconds)), min(seconds, key=seconds.__getitem__)
    return best if seconds[best] < 0.9 * seconds[first] else first


def _agree(a: Tensor, b: Tensor) -> bool:
    """Whether two images are the same up to rounding."""
    scale = max(float(a.norm()), float(b.norm()))
    return float((a - b).norm()) <= torch.finfo(a.dtype).eps ** 0.5 * scale or scale == 0


def _batching_pays(product: Product, vectors: Tensor, most: float) -> bool:
    """Whether a block through ``vmap`` gives the same as row by row, in less than ``most`` seconds."""
    if len(vectors) * LONG_SECONDS < most < math.inf:  # slow because of its size, which gains nothing
        return False
    batched = torch.func.vmap(product)
    try:
        images = batched(vectors)
        together = _least_time(vectors.device, batched, vectors)
    except Exception as error:  # no batching rule, or shapes that are fixed inside
        raise_if_interrupted(error)
        return False
    return together < most and _agree(images[1], product(vectors[1]))
