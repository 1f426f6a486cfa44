"""The analysis of a Hessian from one Krylov space: density, eigenpairs, trace and criteria share their products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from lla_func._torch import free_memory, noticed, uncast
from lla_func.errors import finite_number, flag, one_of, positive_int, seed_number
from lla_func.spectrum._criteria import Criterion, k_hn, r_e, spectrum_class
from lla_func.spectrum._density import Curve, smooth
from lla_func.spectrum._eigenpairs import Eigenpairs, eigenpairs
from lla_func.spectrum._estimate import Estimate
from lla_func.spectrum._krylov import check_operator
from lla_func.spectrum._operator import Operator
from lla_func.spectrum._quadrature import Quadrature, quadrature
from lla_func.spectrum._trace import trace

WORKING = 4
"""Vectors of length P that a product and one step of Lanczos work with, besides those held."""


class Criteria(NamedTuple):
    """The criteria of a spectrum.

    Attributes:
        r_e: |smallest node / largest node| (:func:`lla_func.spectrum.r_e`).
        k_hn: LLA's K_hn (:func:`lla_func.spectrum.k_hn`), of the nodes whose sign is known: residuals and rounding
            are smaller.
        spectrum: the class of the spectrum (:func:`lla_func.spectrum.spectrum_class`).
        n: the power in K_hn.
        note: how far K_hn is to be trusted where fewer than three starts don't say; else None.
    """

    r_e: Criterion
    k_hn: Criterion
    spectrum: str
    n: float
    note: str | None


class Analysis(NamedTuple):
    """What :func:`analyse` found; None for what was not asked for.

    Attributes:
        operator: the name of the operator.
        quadrature: the Lanczos runs behind the density: nodes [B, M], weights [B, M].
        curve: the smoothed density.
        eigenpairs: eigenvalues [k], eigenvectors [k, P], residual norms [k].
        trace: the trace with its standard error.
        criteria: from the nodes.
        products: matrix-vector products spent by each part; a part that reuses another's counts only its own.
    """

    operator: str
    quadrature: Quadrature | None
    curve: Curve | None
    eigenpairs: Eigenpairs | None
    trace: Estimate | None
    criteria: Criteria | None
    products: Mapping[str, int]


@noticed()
@uncast
def analyse(
    operator: Operator,
    *,
    density_steps: int = 0,
    probes: int = 1,
    top_n: int = 0,
    which: str = "magnitude",
    eigs_tol: float = 1e-3,
    eigs_products: int = 200,
    trace_products: int = 0,
    trace_tol: float = 1e-3,
    criteria: bool = False,
    n_kh: float = 0.5,
    max_v: int | None = None,
    memory_budget: int | None = None,
    seed: int = 0,
) -> Analysis:
    """Density, eigenpairs, trace and criteria of an operator, whichever are asked for, without repeating a product.

    The density's first Lanczos run is where the search for eigenpairs starts, the eigenpairs are taken out of the
    trace exactly, and the density's probes are its first samples (but not the probe from which the eigenpairs were
    grown: they fit it better than they fit others, so its sample would be biased).

    Args:
        operator: the symmetric map.
        density_steps: Lanczos steps for the density, 0 for none.
        probes: random start vectors of the density.
        top_n: the number of eigenpairs, 0 for none.
        which: which ones (:func:`lla_func.spectrum.eigenpairs`).
        eigs_tol: bound on their relative residuals.
        eigs_products: the most products to spend on them.
        trace_products: the most products to spend on the trace, 0 for none.
        trace_tol: relative standard error to reach.
        criteria: whether to compute the criteria, which needs the density.
        n_kh: the power in K_hn.
        max_v: the most Lanczos vectors held by the density; by default all that fit.
        memory_budget: bytes for vectors of length P, by default a gigabyte (:func:`room_for`).
        seed: of all probes.

    Raises:
        ValueError: the budget does not hold the vectors that are needed at least.
        MemoryError: more memory would be needed than is free; found out before any product.

    Example:
        >>> import torch
        >>> from lla_func.spectrum import from_matrix
        >>> diagonal = torch.diag(torch.linspace(-1, 4, 30, dtype=torch.float64))
        >>> found = analyse(from_matrix(diagonal), density_steps=10, top_n=1, criteria=True)
        >>> round(float(found.eigenpairs.values[0]), 3), found.criteria.spectrum
        (4.0, 'mainly positive')
    """
    check_operator(operator)
    one_of("which", which, ("magnitude", "largest", "smallest", "both"))
    density_steps = positive_int("density_steps", density_steps, least=0)
    top_n = positive_int("top_n", top_n, least=0, most=operator.dim)
    trace_products = positive_int("trace_products", trace_products, least=0)
    for name, count in (("probes", probes), ("eigs_products", eigs_products)):
        positive_int(name, count)
    for name, number in (("eigs_tol", eigs_tol), ("trace_tol", trace_tol), ("n_kh", n_kh)):
        finite_number(name, number, above=0)
    flag("criteria", criteria)
    max_v = None if max_v is None else positive_int("max_v", max_v, least=2)
    memory_budget = None if memory_budget is None else positive_int("memory_budget", memory_budget)
    seed_number("seed", seed)
    products: dict[str, int] = {}
    rules, curve, found, estimate, judged = None, None, None, None, None
    room = room_for(
        operator.dim,
        operator.dtype.itemsize,
        density_steps=density_steps,
        top_n=top_n,
        max_v=max_v,
        budget=memory_budget,
        free=free_memory(operator.device),
    )
    if density_steps:
        rules = quadrature(
            operator,
            density_steps,
            probes,
            max_v=room.density if room.density < density_steps else None,
            keep_basis=room.both,
            keep_starts=bool(trace_products),
            seed=seed,
        )
        products["density"] = rules.products
        curve = smooth(rules.nodes, rules.weights)
        judged = criteria_of(rules, n_kh) if criteria else None
    if top_n:
        start = rules.first if rules is not None and rules.first.basis is not None else None
        found = eigenpairs(
            operator,
            top_n,
            which=which,
            tol=eigs_tol,
            max_iter=eigs_products,
            start=start,
            max_basis=room.eigenpairs,
            seed=seed,
        )
        products["eigenpairs"] = found.products
    if rules is not None:  # the basis has served; it is the largest thing held
        rules = rules._replace(first=rules.first._replace(basis=None))
    if trace_products:
        reused = rules if rules is None or found is None else _without_first(rules)
        estimate = trace(
            operator, tol=trace_tol, max_products=trace_products, known=found, reuse=reused, seed=seed
        )
        products["trace"] = estimate.products
    return Analysis(operator.name, rules, curve, found, estimate, judged, products)


def criteria_of(rules: Quadrature, n: float) -> Criteria:
    """All criteria of the nodes and weights of a quadrature."""
    rounding = torch.finfo(rules.first.residual.dtype).eps * rules.nodes.abs().amax(1, keepdim=True)
    return Criteria(
        r_e(rules.nodes),
        k_hn(rules.nodes, rules.weights, n=n, resolution=rules.residuals.maximum(rounding)),
        spectrum_class(rules.nodes),
        n,
        _note(len(rules.nodes)),
    )


def _note(starts: int) -> str | None:
    """What to know of K_hn from so few starts that they don't show its spread."""
    if starts >= 3:
        return None
    drawn = "one start is one draw" if starts == 1 else "two starts are two draws"
    return f"{drawn}: K_hn varies by 5 to 20 % from start to start; n_v=3 or more gives its spread"


class Room(NamedTuple):
    """How many vectors of length P the parts of an analysis may hold.

    Attributes:
        density: Lanczos vectors of the density.
        eigenpairs: vectors of the subspace in which eigenpairs are sought; the fewer, the more often it restarts.
        both: whether the density's vectors may stay until that subspace has been filled from them.
        bytes: the most memory that vectors take at a time.
    """

    density: int
    eigenpairs: int
    both: bool
    bytes: int


def room_for(
    dim: int,
    itemsize: int,
    *,
    density_steps: int = 0,
    top_n: int = 0,
    max_v: int | None = None,
    budget: int | None = None,
    free: int,
) -> Room:
    """Shares out memory among the vectors of an analysis, and says before the work where there is not enough.

    Args:
        dim: P.
        itemsize: bytes of an element.
        density_steps, top_n, max_v: as for :func:`analyse`.
        budget: bytes for vectors, those included that a product works with. By default a gigabyte besides these; for
            very long vectors more, up to ten or half of what is free.
        free: bytes that can be allocated.

    Raises:
        ValueError: the budget is too small; it says how much is needed.
        MemoryError: less is free than needed.

    Example:
        >>> room_for(20_000_000, 4, density_steps=100, top_n=1, free=10**10)
        Room(density=13, eigenpairs=13, both=False, bytes=1360000000)
    """
    vector = dim * itemsize
    least = max(2, min(top_n + 2, dim) if top_n else 0)
    if budget is None:
        most = max(2**30 // vector, min(10, free // (2 * vector)), least)
    else:
        most = budget // vector - WORKING
        if most < least:
            raise ValueError(
                f"a memory budget of {budget} bytes is too small for vectors of {dim} parameters: {least} of them are "
                f"needed and {WORKING} to work with, {(least + WORKING) * vector} bytes. Pass that as memory_budget "
                "(to viz_esd twice that, of which vectors get half), or parameters=... to restrict it"
            )
    density = 0 if not density_steps else min(density_steps, most if max_v is None else max(2, max_v))
    subspace = min(max(24, 2 * top_n + 10), most) if top_n else 0
    both = bool(top_n) and 0 < density_steps <= density and density + subspace <= most
    held = density + subspace if both else max(density, subspace)
    needed = (min(held, dim) + WORKING) * vector
    if needed > free:
        raise MemoryError(
            f"the analysis would hold {min(held, dim)} vectors of {dim} parameters and {WORKING} to work with, "
            f"{needed / 2**30:.1f} GiB, and {free / 2**30:.1f} GiB are free. Pass memory_budget=... to hold fewer, a "
            "smaller max_v or top_n, or parameters=... to restrict it"
        )
    return Room(density, subspace, both, needed)


def _without_first(rules: Quadrature) -> Quadrature | None:
    """The quadrature without its first probe, if any is left."""
    if len(rules.nodes) == 1 or rules.starts is None:
        return None
    parts = ("nodes", "weights", "residuals", "starts", "squares")
    return rules._replace(**{part: getattr(rules, part)[1:] for part in parts})
