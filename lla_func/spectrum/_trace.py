"""The trace of an operator from random probes, deflated by what is known, stopped by its standard error."""

from __future__ import annotations

import torch
from torch import Tensor

from lla_func._torch import uncast
from lla_func.errors import finite_number, instance, one_of, positive_int
from lla_func.spectrum._difference import PILOT, by_difference
from lla_func.spectrum._eigenpairs import Eigenpairs, coordinates, deflate
from lla_func.spectrum._estimate import Estimate, standard_error
from lla_func.spectrum._krylov import apply, check_operator, dot_of, rows_per_block
from lla_func.spectrum._operator import Operator
from lla_func.spectrum._probes import drawn_for, generator_from
from lla_func.spectrum._quadrature import Quadrature
from lla_func.spectrum._xtrace import trace_of_columns, xtrace


@uncast
def trace(
    operator: Operator,
    *,
    method: str = "hutchinson",
    tol: float = 1e-3,
    max_products: int = 100,
    min_probes: int = 10,
    known: Eigenpairs | None = None,
    reuse: Quadrature | None = None,
    block: int | None = None,
    seed: int | torch.Generator = 0,
) -> Estimate:
    """The trace of an operator, averaged over random probes until its standard error is small.

    "hutchinson" averages v.Av over random signs v. "xtrace" spends half of its products on a subspace that
    captures the large eigenvalues and averages over leaving each probe out; it wins by far where the spectrum
    decays and loses a little where it's flat. It holds 3 vectors a probe. Eigenpairs already ``known`` are
    taken out first, exactly, which removes most of the variance of a spectrum with outliers (the idea of
    Hutch++). Where ``max_products`` leave room for P of them and so many more samples are expected to be needed,
    or no further ones fit beside, the trace is read off the unit vectors exactly. An operator that knows its trace
    (``Operator.exact_trace``) is asked, and nothing is sampled. Where another operator of known trace is close
    (``Operator.nearby``, the Gauss-Newton matrix of a Hessian), the first probes tell whether sampling the difference
    to it gives the smaller error for the same number of products, and that is done then.

    Args:
        operator: the symmetric map.
        method: "hutchinson" or "xtrace".
        tol: stop at a standard error of ``tol`` times the size of what is summed: the mean of |v.Av| (or what
            xtrace projects on, in trace norm) plus the sum of the |known values|. That is |trace| for a
            definite operator, and stays away from zero where the trace itself cancels.
        max_products: the most products to spend.
        min_probes: never stop before so many probes, at least 4.
        known: eigenpairs of this operator.
        reuse: a quadrature with its probes; each gives a sample v.Av for nothing (hutchinson).
        block: how many probes go at once; None takes as many as fit 64 MiB, at most ``min_probes``.
        seed: a whole number or a generator.

    Returns:
        the estimate; ``method`` is "exact", "signs" (exact but for random signs over many outputs), "ggn+hutchinson",
            "hutchinson" or "xtrace".

    Raises:
        TypeError, ValueError: an argument has the wrong type or value.

    Source: Hutchinson 1990; Meyer, Musco, Musco and Woodruff 2021 (Hutch++); Epperly, Tropp and Webber 2024
    (XTrace). The original LLA stops when two successive running means are close, which happens by chance long
    before the mean is accurate.

    Example:
        >>> from lla_func.spectrum import from_matrix
        >>> found = trace(from_matrix(torch.diag(torch.arange(50, dtype=torch.float64))))
        >>> found.value, found.standard_error, found.products
        (1225.0, 0.0, 10)
    """
    check_operator(operator)
    one_of("method", method, ("hutchinson", "xtrace"))
    if block is not None:
        positive_int("block", block)
    for name, value, kind in (("known", known, Eigenpairs), ("reuse", reuse, Quadrature)):
        if value is not None:
            instance(name, value, kind, f"what {kind.__name__.lower()}(operator, ...) returns, or None")
    tol = finite_number("tol", tol, above=0.0)
    min_probes = positive_int("min_probes", min_probes, least=4)
    max_products = positive_int("max_products", max_products)
    if operator.exact_trace is not None and (formula := operator.exact_trace()) is not None:
        return formula
    generator = generator_from(seed, stream=3)
    taken_out = 0.0 if known is None else float(known.values.sum())
    size = 0.0 if known is None else float(known.values.abs().sum())
    rest = operator if known is None else deflate(operator, known)

    if method == "xtrace":
        if reuse is not None:
            raise ValueError(
                "reuse= gives samples for method='hutchinson' only; xtrace needs the images themselves"
            )
        if operator.inner is not None:
            raise ValueError("method='xtrace' needs whole vectors; these are shared out. Take 'hutchinson'")
        if max_products < 2 * min_probes and max_products < operator.dim:
            raise ValueError(
                f"max_products={max_products} is too small for xtrace, which takes two products a probe; "
                f"pass at least 2 * min_probes = {2 * min_probes}"
            )
        found = xtrace(rest, tol, max_products, min_probes, extra_scale=size, seed=generator)
        return found._replace(
            value=taken_out + found.value, samples=taken_out + found.samples, method="xtrace"
        )

    samples = torch.zeros(0, dtype=torch.float64) if reuse is None else _reused_forms(operator, reuse, known)
    most = max_products if block is not None else min(max_products, min_probes)
    at_once = min(rows_per_block(operator, 2, block=block), most)
    spent = 0
    if operator.nearby is not None and operator.dim > max_products and max_products >= 4 * PILOT:
        tried = by_difference(
            operator, rest, tol=tol, max_products=max_products, min_probes=min_probes, seed=generator
        )
        if isinstance(tried, Estimate):
            return tried
        samples, spent = torch.cat([samples, tried]), 2 * len(tried)
    while True:
        error = standard_error(samples)
        goal = tol * (size + float(samples.abs().mean()))
        converged = len(samples) >= min_probes and error <= goal
        left = max_products - spent
        if converged or left <= 0:
            break
        count = min(at_once, left)
        wanted = min_probes if len(samples) < min_probes else len(samples) * ((error / goal) ** 2 - 1)
        whole = operator.inner is None  # each unit vector, if this process holds all of it
        if whole and operator.dim <= left and (operator.dim <= wanted or operator.dim > left - count):
            exact = trace_of_columns(operator)
            return exact._replace(products=spent + exact.products, method="exact")
        drawn = drawn_for(operator, count, seed=generator)
        samples = torch.cat([samples, dot_of(operator)(drawn, apply(rest, drawn)).cpu()])
        spent += len(drawn)
    mean = taken_out + float(samples.mean())
    samples = samples + taken_out
    return Estimate(mean, error, products=spent, converged=converged, samples=samples, method="hutchinson")


def _reused_forms(operator: Operator, reuse: Quadrature, known: Eigenpairs | None) -> Tensor:
    """v.Av of each probe of a quadrature, less its known part: no product is spent on it."""
    forms = reuse.forms()
    if reuse.starts is None or reuse.starts.shape[1] != operator.dim:
        raise ValueError(
            f"reuse= is a quadrature of another operator; {operator.name!r} has dimension {operator.dim}"
        )
    if known is None:
        return forms
    along = coordinates(operator, known.vectors, reuse.starts.to(known.vectors))
    return forms - (along.square().to("cpu", torch.float64) * known.values).sum(1)
