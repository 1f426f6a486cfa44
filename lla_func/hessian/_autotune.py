"""Which kernel to use: chosen by size, without a clock, or found by timing each on a few samples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lla_func._torch import Meter, differentiable, raise_if_interrupted
from lla_func.graph import linearize
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

SMALL = 200_000_000
"""Operations of a pass forward below which the overhead of starting operations may count in a block of vectors."""
LONG = 10_000_000_000
"""Operations of a pass forward from which on a clock is read: a hundred products take a minute there.

On the CPU ``linearize`` was at most 1.2 times as fast as ``vjp`` (LeNet, encoder, MLP, ConvNets, decoder), and ten
times as slow to build; and torch takes a second to load what it needs for recording.
"""
CLEARLY = 0.8
"""The share of the usual kernel's time below which ``linearize`` is worth its building and its memory."""
PAYS = 2.0
"""The most products' time that recording may take beside that of the products which it takes part in."""
BUILDING = 7
"""How many times what it keeps ``linearize`` takes at most while it is built (3 to 7 times were measured)."""
FEW = 1_000_000
"""Parameters times samples below which ``autotune`` tries nothing."""
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
    small = len(point) * samples(next(iter(objective.batches))) < FEW
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


def choose(
    request: Request, build: Build, kernels: Sequence[str]
) -> tuple[KernelChoice, Built | None, dict[str, float]]:
    """Chooses how to compute products: a short job by a rule without a clock, a long one by a few timed products.

    The first kernel that works is taken, ``vjp`` first. In a job of about a minute or more ``linearize`` is tried on
    some of the first samples, if building it would not take more memory than there is and these samples, not the
    parameters, make the work; it is taken where its products are clearly faster and building it pays.

    The vectors of a block go through together where that works and the work is so small that overhead dominates, but
    for convolutions, which gain nothing by it. What was built to try the choice comes with it if that was on the whole
    of a piece of data, and the seconds of a product if there was a clock.
    Where no kernel works, the error of ``vjp`` is raised if it was tried, else that of the first.
    """
    objective, point, work = request.objective, request.point, request.work
    failures: dict[str, Exception] = {}
    first = next(iter(objective.batches))
    whole = min(request.tile, samples(first)) if objective.separable else samples(first)
    with differentiable():
        # A small batch is taken whole, and built once.
        few = 16 if work.operations < SMALL else max(2, min(16, whole // 8))
        piece = beginning(objective, few)
        vectors = probes(len(point), 2, dtype=point.dtype, device=point.device)
        for kernel in kernels:
            try:
                with Meter() as meter:
                    product = build(kernel, piece)
                image = product(vectors[0]).detach()
            except Exception as error:  # the next kernel may do without what this one lacks
                raise_if_interrupted(error)
                failures[kernel] = error
                continue
            built = Built(kernel, piece, product, meter.kept())
            choice = KernelChoice((kernel,), kernel, _together(request, product, vectors))
            seconds: dict[str, float] = {}
            tell = work.operations >= LONG and samples(piece) * work.elements >= len(point)
            if tell and "linearize" in kernels and kernel != "linearize":
                larger = whole / samples(piece)
                # What is kept for the parameters, at least a vector of them, does not grow with the samples.
                kept = max(built.kept * larger - (larger - 1) * point.nbytes, built.kept)
                if request.memory >= BUILDING * kept:
                    found, seconds = _tried(request, build, built, vectors[0], image)
                    if found is not None:  # building anew in each call is what linearize is bad at
                        choice, built = (
                            KernelChoice(("linearize", kernel), "recompute", choice.batched),
                            found,
                        )
            return choice, built if whole == samples(piece) else None, seconds
    # That of vjp says most: it asks for the least.
    raise failures["vjp" if "vjp" in failures else kernels[0]]


def _tried(
    request: Request, build: Build, usual: Built, vector: Tensor, image: Tensor
) -> tuple[Built | None, dict[str, float]]:
    """``linearize`` on the piece of data that the usual kernel was tried on, if it pays; and seconds of both."""
    device, pieces = request.point.device, math.ceil(_count(request.objective) / request.tile)
    load_linearize(request.point)
    try:
        with Meter() as meter:
            building, product = _timed(device, build, "linearize", usual.piece)
        if not _agree(product(vector).detach(), image):
            return None, {}
    except Exception as error:  # no forward-mode rule, or it cannot be recorded
        raise_if_interrupted(error)
        return None, {}
    seconds = {usual.kernel: math.inf, "linearize": math.inf}
    for _ in range(2):  # in turn, so that what else the machine does hits both alike
        for kernel, one in ((usual.kernel, usual.product), ("linearize", product)):
            seconds[kernel] = min(seconds[kernel], _timed(device, one, vector)[0])
    # Recording takes some of the time of each operation, whatever the samples, and that of a few products.
    overhead = pieces * max(0.0, building - 3 * seconds["linearize"])
    total = _count(request.objective) / samples(usual.piece) * seconds[usual.kernel]
    if seconds["linearize"] < CLEARLY * seconds[usual.kernel] and overhead < PAYS * total:
        return Built("linearize", usual.piece, product, meter.kept()), seconds
    return None, seconds


def _count(objective: Objective) -> int:
    """The samples of all data; of a stream, those of its first batch."""
    if isinstance(objective.batches, Sequence):
        return sum(map(samples, objective.batches))
    return samples(next(iter(objective.batches)))


def load_linearize(point: Tensor) -> None:
    """Makes torch load what recording needs, which takes up to a second once, so that it is not counted as building."""
    linearize(lambda x: torch.func.grad(lambda y: y[0].sin().sum())(x)[0], (point[:1],))


def _together(request: Request, product: Product, vectors: Tensor) -> bool:
    """Whether the vectors of a block go through a product together."""
    if request.blocks != "auto":
        return request.blocks == "vmap"
    small = request.work.operations < SMALL and not request.work.convolves
    return small and _batching_pays(product, vectors, math.inf)


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
