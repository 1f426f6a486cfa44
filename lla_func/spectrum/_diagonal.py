"""What else random probes reveal of an operator: its diagonal and its Frobenius norm."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lla_func.errors import positive_int
from lla_func.spectrum._eigenpairs import Eigenpairs, deflate
from lla_func.spectrum._estimate import Estimate, standard_error, student_widening
from lla_func.spectrum._krylov import apply, dot_of, rows_per_block
from lla_func.spectrum._operator import Operator
from lla_func.spectrum._probes import drawn_for, generator_from
from lla_func.spectrum._quadrature import Quadrature


class Diagonal(NamedTuple):
    """A stochastic estimate of a diagonal.

    Attributes:
        values: [P] float64, on the operator's device.
        standard_error: of each entry, [P].
        products: matrix-vector products spent.
    """

    values: Tensor
    standard_error: Tensor
    products: int


def frobenius(
    operator: Operator,
    *,
    probes: int = 10,
    known: Eigenpairs | None = None,
    reuse: Quadrature | None = None,
    seed: int | torch.Generator = 0,
) -> Estimate:
    """The Frobenius norm of an operator, (sum of squared eigenvalues)^(1/2), from |Av|^2 of random probes.

    Args:
        operator: the symmetric map.
        probes: how many samples in all; those of ``reuse`` are among them.
        known: eigenpairs of this operator, taken out first.
        reuse: a quadrature with its probes; usable if it has two steps or more and nothing is ``known``.
        seed: a whole number or a generator.

    Returns:
        the norm. ``samples`` are those of its square; its standard error is theirs over twice the norm.

    Raises:
        TypeError, ValueError: an argument has the wrong type or value.

    Example:
        >>> from lla_func.spectrum import from_matrix
        >>> round(frobenius(from_matrix(torch.diag(torch.tensor([3.0, 4.0])))).value, 6)
        5.0
    """
    count = positive_int("probes", probes, least=4)
    samples = torch.zeros(0, dtype=torch.float64)
    if reuse is not None:
        if known is not None or reuse.nodes.shape[1] < min(2, operator.dim):
            raise ValueError(
                "reuse= needs a quadrature of two steps or more and doesn't go together with known="
            )
        samples = reuse.image_norms()
    rest = operator if known is None else deflate(operator, known)
    taken_out = 0.0 if known is None else float(known.values.square().sum())
    needed = max(0, count - len(samples))
    rows = rows_per_block(operator, 2)
    generator = generator_from(seed, stream=5)
    for begin in range(0, needed, rows):
        image = apply(rest, drawn_for(rest, min(rows, needed - begin), seed=generator))
        samples = torch.cat([samples, dot_of(rest)(image, image).cpu()])
    norm = math.sqrt(taken_out + float(samples.mean()))
    error = standard_error(samples) / (2 * norm) if norm else 0.0
    return Estimate(norm, error, products=needed, samples=samples + taken_out)


def diagonal(
    operator: Operator, *, probes: int = 50, known: Eigenpairs | None = None, seed: int | torch.Generator = 0
) -> Diagonal:
    """The diagonal of an operator, entry by entry, as the average of v * Av over random signs v.

    The error of entry i comes from the rest of row i: a diagonal operator is found exactly by one probe.

    Args:
        operator: the symmetric map.
        probes: how many, at least 2.
        known: eigenpairs of this operator, taken out first.
        seed: a whole number or a generator.

    Returns:
        the estimates and their standard errors.

    Raises:
        TypeError, ValueError: an argument has the wrong type or value.

    Source: Bekas, Kokiopoulou and Saad 2007.

    Example:
        >>> from lla_func.spectrum import from_matrix
        >>> diagonal(from_matrix(torch.diag(torch.tensor([3.0, 4.0]))), probes=2).values
        tensor([3., 4.], dtype=torch.float64)
    """
    count = positive_int("probes", probes, least=2)
    rest = operator if known is None else deflate(operator, known)
    generator = generator_from(seed, stream=5)
    # Welford's running mean and sum of squares: no sample is kept, and nothing cancels.
    mean, squares = torch.zeros(2, operator.dim, dtype=torch.float64, device=operator.device)
    for done in range(1, count + 1):
        drawn = drawn_for(rest, 1, seed=generator)
        sample = (drawn * apply(rest, drawn))[0].to(torch.float64)
        step = sample - mean
        mean = mean + step / done
        squares = squares + step * (sample - mean)
    if known is not None:
        mean = mean + known.values.to(mean) @ known.vectors.to(mean).square()
    return Diagonal(mean, (squares / (count - 1) / count).sqrt() * student_widening(count), count)
