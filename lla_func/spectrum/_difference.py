"""The trace from a nearby operator whose trace is known: only the difference of the two is sampled.

Hutchinson's estimate of tr(H - G) has the error of the off-diagonal part of H - G, not of H. A sample takes two
products in place of one, so it pays where the variance is less than half; that is measured on the first probes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lla_func.spectrum._estimate import Estimate, standard_error
from lla_func.spectrum._krylov import apply, dot_of, rows_per_block
from lla_func.spectrum._operator import Operator
from lla_func.spectrum._probes import drawn_for

PILOT = 6
"""Probes that decide, with two products each."""


def by_difference(
    operator: Operator,
    rest: Operator,
    *,
    tol: float,
    max_products: int,
    min_probes: int,
    seed: torch.Generator,
) -> Estimate | Tensor:
    """The trace of an operator by the one that is near to it, where that has the smaller error.

    Args:
        operator: the map, which has ``nearby``.
        rest: it without its known eigenpairs, which is what would be sampled otherwise.
        tol, max_products, min_probes: as for :func:`lla_func.spectrum.trace`; the size of what is summed is that of the
            known trace.
        seed: of the probes.

    Returns:
        the estimate; or, if sampling ``rest`` is better, the samples of it that were taken to find out, [n].
    """
    assert operator.nearby is not None
    if (found := operator.nearby()) is None:
        return torch.zeros(0, dtype=torch.float64)
    near, known = found
    dot, rows = dot_of(operator), rows_per_block(operator, 4)
    differences = torch.zeros(0, dtype=torch.float64)
    forms = differences
    while len(differences) < PILOT:
        drawn = drawn_for(operator, min(rows, PILOT - len(differences)), seed=seed)
        image = apply(rest, drawn)
        forms = torch.cat([forms, dot(drawn, image).cpu()])
        whole = image if rest is operator else apply(operator, drawn)
        differences = torch.cat([differences, dot(drawn, whole - apply(near, drawn)).cpu()])
    if 2 * float(differences.var()) >= float(forms.var()):
        return forms
    spent = 2 * PILOT
    while True:
        error = (standard_error(differences) ** 2 + known.error**2) ** 0.5
        goal = tol * (abs(known.value) + float(differences.abs().mean()))
        converged = len(differences) >= min_probes and error <= goal
        count = min(rows, min_probes, (max_products - spent) // 2)
        if converged or count <= 0:
            break
        drawn = drawn_for(operator, count, seed=seed)
        both = apply(operator, drawn) - apply(near, drawn)
        differences = torch.cat([differences, dot(drawn, both).cpu()])
        spent += 2 * len(drawn)
    return Estimate(
        known.value + float(differences.mean()),
        error,
        products=spent + known.products,
        converged=converged,
        samples=known.value + differences,
        method="ggn+hutchinson",
    )
