"""Stochastic Lanczos quadrature: each random probe sees the spectrum as a few weighted nodes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lla_func._torch import uncast
from lla_func.errors import flag, positive_int
from lla_func.spectrum import _krylov as krylov
from lla_func.spectrum._krylov import Tridiagonal
from lla_func.spectrum._operator import Dot, Operator
from lla_func.spectrum._probes import drawn_for, generator_from


class Quadrature(NamedTuple):
    """Lanczos runs from random probes, and the Gauss quadrature rule of each.

    For any polynomial f of degree up to 2 M - 1, sum_j weights[b, j] f(nodes[b, j]) = v.f(A)v / v.v of probe
    b.

    Attributes:
        nodes: Ritz values, ascending, [B, M] float64 on the CPU. A run that ended early (invariant subspace)
            repeats its largest node with weight zero.
        weights: [B, M] float64 on the CPU; each row sums to 1.
        starts: the probes [B, P], from which ``trace`` and ``frobenius`` take deflated samples without new
            products; None where they weren't kept.
        first: the Lanczos run of the first probe, which ``eigenpairs(start=...)`` continues; its basis is
            None unless it was asked for.
        orthogonality_loss: the worst over all runs.
        products: matrix-vector products spent, all runs together.
        residuals: the residual norm of each node's Ritz vector [B, M] float64 on the CPU: an eigenvalue lies within
            it of the node (Parlett 1998, section 13.2). Zero for nodes of weight zero that fill up a run.
        squares: the squared norm of each probe, [B] float64 on the CPU.
    """

    nodes: Tensor
    weights: Tensor
    starts: Tensor | None
    first: Tridiagonal
    orthogonality_loss: float
    products: int
    residuals: Tensor
    squares: Tensor

    def forms(self) -> Tensor:
        """v.Av of each probe, [B]; the first moment of its rule. A sample of the trace that is already paid for."""
        return self._squares() * (self.weights * self.nodes).sum(1)

    def image_norms(self) -> Tensor:
        """|Av|^2 of each probe, [B]; the second moment of its rule. A sample of the squared Frobenius norm."""
        return self._squares() * (self.weights * self.nodes.square()).sum(1)

    def _squares(self) -> Tensor:
        if self.starts is None:
            raise ValueError("this quadrature kept no probes; run quadrature(keep_starts=True) to reuse it")
        return self.squares


@uncast
def quadrature(
    operator: Operator,
    steps: int,
    probes: int = 1,
    *,
    max_v: int | None = None,
    keep_basis: bool = False,
    keep_starts: bool = False,
    on_breakdown: str = "stop",
    kind: str = "rademacher",
    block: int | None = None,
    basis_device: torch.device | str | None = None,
    seed: int | torch.Generator = 0,
) -> Quadrature:
    """Runs Lanczos from random probes and keeps what other estimates can share.

    With ``keep_basis=True, keep_starts=True`` one call serves all: the density from the nodes,
    ``eigenpairs(start=found.first)`` continues the first Krylov space, and ``trace(reuse=found)`` takes its
    samples v.Av from the first coefficients. The products add up: each result counts its own only.

    Args:
        operator: the symmetric map.
        steps: M, at most P of which are done.
        probes: B, the number of random start vectors.
        max_v, on_breakdown, basis_device: as in ``lanczos``.
        keep_basis: whether the basis [M, P] of the first run is kept.
        keep_starts: whether the probes [B, P] are kept.
        kind: "rademacher" or "gaussian" probes.
        block: how many runs go at once; None takes as many as hold their bases in 64 MiB. The result doesn't
            depend on it but for rounding.
        seed: a whole number or a generator.

    Returns:
        nodes and weights of every probe.

    Raises:
        TypeError, ValueError: an argument has the wrong type or value.

    Source: Golub and Meurant, Matrices, Moments and Quadrature, 2010, chapter 6; Ubaru, Chen and Saad 2017.

    Example:
        >>> from lla_func.spectrum import from_matrix
        >>> operator = from_matrix(torch.diag(torch.tensor([1.0, 3.0], dtype=torch.float64)))
        >>> quadrature(operator, 2).weights.round(decimals=9)
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    krylov.check_operator(operator)
    flag("keep_basis", keep_basis)
    flag("keep_starts", keep_starts)
    steps, count = min(positive_int("steps", steps), operator.dim), positive_int("probes", probes)
    held = steps if max_v is None else min(positive_int("max_v", max_v, least=2), steps)
    rows = krylov.rows_per_block(operator, held, block=block)
    generator = generator_from(seed)
    nodes, weights, residuals = torch.zeros(3, count, steps, dtype=torch.float64)
    squares, dot = torch.zeros(count, dtype=torch.float64), krylov.dot_of(operator)
    starts: list[Tensor] = []
    first: Tridiagonal | None = None
    loss, spent = 0.0, 0
    for begin in range(0, count, rows):
        drawn = drawn_for(operator, min(rows, count - begin), kind=kind, seed=generator)
        found = krylov.lanczos(
            operator,
            drawn,
            steps,
            max_v=max_v,
            keep_basis=keep_basis and begin == 0,
            on_breakdown=on_breakdown,
            basis_device=basis_device,
            seed=generator,
        )
        squares[begin : begin + len(drawn)] = dot(drawn, drawn).cpu()
        for row in range(len(drawn)):
            rule = _gauss_rule(krylov.run(found, row), steps, dot)
            nodes[begin + row], weights[begin + row], residuals[begin + row] = rule
        if first is None:
            first = krylov.run(found, 0)
            if first.basis is not None and len(drawn) > 1:  # a copy lets go of the other runs' memory
                first = first._replace(basis=first.basis.clone())
        if keep_starts:
            starts.append(drawn)
        loss, spent = max(loss, found.orthogonality_loss), spent + found.products
    assert first is not None
    kept = torch.cat(starts) if keep_starts else None
    return Quadrature(nodes, weights, kept, first, loss, spent, residuals, squares)


def _gauss_rule(found: Tridiagonal, steps: int, dot: Dot) -> tuple[Tensor, Tensor, Tensor]:
    """Nodes, weights and residuals [steps] of one run.

    Ritz values, squared first components (Golub and Welsch 1969), and last components times |r|.
    """
    values, vectors = torch.linalg.eigh(krylov.tridiagonal_matrix(found))
    padding = values.new_zeros(steps - len(values))
    length = dot(found.residual, found.residual).sqrt().cpu()
    return (
        torch.cat([values, padding + values[-1]]),
        torch.cat([vectors[0].square(), padding]),
        torch.cat([length * vectors[-1].abs(), padding]),
    )
