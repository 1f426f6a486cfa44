"""Random probe vectors, drawn one by one from an explicit generator: the same whatever the block they go into."""

from __future__ import annotations

import torch
from torch import Tensor

from lla_func.errors import one_of, positive_int, seed_number, shown
from lla_func.spectrum._operator import Operator


def generator_from(seed: int | torch.Generator, *, stream: int = 0) -> torch.Generator:
    """The generator that ``seed`` names: itself, or a new one on the CPU seeded with the whole number; or a TypeError.

    The ``stream`` tells apart what functions draw for the same number, so that a trace estimated with the seed of a
    quadrature doesn't meet its probes again. It has no effect on a generator, whose state moves with every draw.

    Example:
        >>> one, same = (torch.rand(2, generator=generator_from(7)) for _ in range(2))
        >>> torch.equal(one, same)
        True
    """
    if isinstance(seed, torch.Generator):
        return seed
    try:
        number = seed_number("seed", seed)
    except TypeError:
        raise TypeError(
            f"seed={shown(seed)} is neither a whole number nor a torch.Generator; pass one of these"
        ) from None
    # The generator reads the low 32 bits only; multiples of the golden ratio lie far apart among these.
    return torch.Generator().manual_seed((number + 0x9E3779B9 * stream) % 2**32)


def probes(
    dim: int,
    count: int,
    *,
    kind: str = "rademacher",
    seed: int | torch.Generator = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draws ``count`` independent vectors whose entries have mean zero and variance one.

    For such a vector v, the expectation of v.Av is the trace of A. Random signs have the smallest variance of
    all independent entries (Hutchinson 1990); Gaussian vectors look alike from every direction.

    Args:
        dim: P.
        count: B.
        kind: "rademacher" (entries -1 and 1) or "gaussian".
        seed: a whole number or a generator.
        dtype: of the vectors.
        device: of the vectors. They are drawn on the generator's device and copied, so that a seed means the
            same vectors for a CPU and a GPU operator.

    Returns:
        the vectors [B, P].

    Example:
        >>> probes(4, 2, seed=1).abs()
        tensor([[1., 1., 1., 1.],
                [1., 1., 1., 1.]])
    """
    one_of("kind", kind, ("rademacher", "gaussian"))
    dim, count = positive_int("dim", dim), positive_int("count", count)
    generator = generator_from(seed)
    drawn = torch.empty(count, dim, dtype=dtype, device=device)
    for row in drawn:
        if kind == "gaussian":
            row.copy_(torch.randn(dim, generator=generator, device=generator.device, dtype=dtype))
        else:
            signs = torch.randint(2, (dim,), generator=generator, device=generator.device, dtype=torch.int8)
            row.copy_(2 * signs - 1)
    return drawn


def drawn_for(operator: Operator, count: int, *, kind: str = "rademacher", seed: torch.Generator) -> Tensor:
    """Probes [B, P] for an operator, by its own ``draw`` if it has one."""
    if operator.draw is not None:
        one_of("kind", kind, ("rademacher", "gaussian"))
        return torch.stack([operator.draw(seed, kind=kind) for _ in range(count)])
    return probes(operator.dim, count, kind=kind, seed=seed, dtype=operator.dtype, device=operator.device)
