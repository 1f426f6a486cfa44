"""Errors over data: how far the figures of a spectrum would differ on another sample of the same size.

The claim is for fixed theta and fresh samples from the distribution that these came from. By the delta method an
isolated eigenvalue moves as the mean of the curvatures v^T H_i v of single samples along its eigenvector, whose spread
is therefore its error.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lla_func._torch import raise_if_interrupted
from lla_func.spectrum._analysis import Analysis
from lla_func.spectrum._eigenpairs import Eigenpairs
from lla_func.spectrum._operator import Operator


class OverData(NamedTuple):
    """Standard errors over data, None where there is none.

    Attributes:
        eigenvalues: [k] float64.
        trace: of the trace.
        re: of the criterion r_e.
        Khn: of the criterion K_hn.
        note: why there is none, and what to know of the others.
    """

    eigenvalues: Tensor | None
    trace: float | None
    re: float | None
    Khn: float | None
    note: str


FIXED = "for fresh samples at this theta; where theta was trained on these samples, the error says nothing about that"


def spread(contributions: Tensor) -> float:
    """The standard error of a sum of independent contributions [n], their number being fixed.

    Example:
        >>> spread(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64))
        1.7320508075688772
    """
    count = len(contributions)
    return math.sqrt(count) * float(contributions.std()) if count > 1 else math.inf


def over_data(operator: Operator, found: Analysis) -> OverData:
    """The errors over data of an analysis of an operator that knows what samples contribute (``per_sample``).

    Args:
        operator: the one that was analysed.
        found: what :func:`lla_func.spectrum.analyse` returned.

    Source: delta method; Stewart and Sun, Matrix perturbation theory, 1990, section V.2 for eigenvalues.

    Example:
        >>> from lla_func.spectrum import analyse, from_matrix
        >>> over_data(from_matrix(torch.eye(3)), analyse(from_matrix(torch.eye(3)), top_n=1)).note
        'it is not known what single samples contribute'
    """
    trace = None if found.trace is None else found.trace.data_error
    if operator.per_sample is None:
        return OverData(None, trace, None, None, "it is not known what single samples contribute")
    notes = [FIXED]
    if found.trace is not None and trace is None:
        notes.append("none for a trace from random probes")
    eigenvalues, ratio = None, None
    if (pairs := found.eigenpairs) is not None:
        try:
            shares = torch.stack([operator.per_sample(v) for v in pairs.vectors])
        except RuntimeError as error:  # a derivative is missing that products do not need, or memory
            raise_if_interrupted(error)
            reason = str(error).split("\n", 1)[0]
            return OverData(None, trace, None, None, f"curvatures of single samples failed: {reason}")
        eigenvalues = torch.tensor([spread(share) for share in shares], dtype=torch.float64)
        notes += _doubts(pairs, shares, eigenvalues)
        if found.criteria is not None and found.quadrature is not None:
            ratio = _of_ratio(pairs, shares, found.quadrature.nodes)
    if found.criteria is not None:
        if ratio is None:
            notes.append(
                "none for r_e, whose two eigenvectors are not among those found; which='both' gives them"
            )
        notes.append("none for K_hn")
    return OverData(eigenvalues, trace, ratio, None, "; ".join(notes))


def _doubts(pairs: Eigenpairs, shares: Tensor, errors: Tensor) -> list[str]:
    notes = []
    off = (shares.sum(1) - pairs.values).abs()
    if bool((off > 0.01 * pairs.values.abs() + 3 * pairs.residuals).any()):
        notes.append("curvatures of samples do not add up to the eigenvalues")
    for i, (value, error) in enumerate(zip(pairs.values, errors, strict=True)):
        gaps = (pairs.values - value).abs()
        gaps[i] = math.inf
        if float(gaps.min()) < 2 * float(error):
            notes.append(
                f"eigenvalue {i + 1} is closer to the next than twice its error: the delta method is not to be trusted"
            )
    return notes


def _of_ratio(pairs: Eigenpairs, shares: Tensor, nodes: Tensor) -> float | None:
    """The error of |smallest / largest|, where both eigenpairs are there."""
    ends = []
    for end in (float(nodes.min()), float(nodes.max())):
        off = (pairs.values - end).abs()
        nearest = int(off.argmin())
        if float(off[nearest]) > float(pairs.residuals[nearest]) + 1e-3 * abs(end):
            return None
        ends.append(nearest)
    low, high = ends
    smallest, largest = float(pairs.values[low]), float(pairs.values[high])
    if smallest == 0 or largest == 0 or low == high:
        return None
    return abs(smallest / largest) * spread(shares[low] / smallest - shares[high] / largest)
