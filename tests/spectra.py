"""One table of prescribed spectra, and operators that have them."""

from __future__ import annotations

import torch

from lla_func.spectrum._operator import Operator, from_matrix

F64 = torch.float64


def prescribed(values: torch.Tensor, seed: int = 0) -> Operator:
    """A dense operator with these eigenvalues and random eigenvectors."""
    generator = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(len(values), len(values), dtype=F64, generator=generator))
    matrix = (turn * values.to(F64)) @ turn.T
    return from_matrix(((matrix + matrix.T) / 2).to(values.dtype))


def diagonal_operator(values: torch.Tensor) -> Operator:
    return Operator(lambda v: v * values, len(values), values.dtype, torch.device("cpu"), "diagonal")


def counted(operator: Operator) -> tuple[Operator, list[int]]:
    """The operator, and a list of how many vectors each call multiplied."""
    calls: list[int] = []

    def matvec(v: torch.Tensor) -> torch.Tensor:
        calls.append(1 if v.ndim == 1 else len(v))
        return operator.matvec(v)

    return operator._replace(matvec=matvec), calls


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


BULK = torch.linspace(-0.5, 1, 96, dtype=F64)
SPECTRA = {
    "outliers": torch.cat([BULK, tensor(10, 7, 5, -3)]),
    "clustered": torch.cat([BULK, tensor(5, 5 - 1e-6, 5 - 2e-6, 2)]),
    "repeated": torch.cat([BULK, tensor(5, 5, 5, 2)]),
    "signed pairs": torch.cat([BULK, tensor(5, -5, 4, -4)]),
    "negative": -torch.cat([BULK + 0.5, tensor(5, 4.9, 3, 2)]),
    "rank three": torch.cat([torch.zeros(97, dtype=F64), tensor(5, 4.9, -2)]),
    "uniform": torch.linspace(-1, 1, 100, dtype=F64),
    "zero": torch.zeros(100, dtype=F64),
    "identity": torch.ones(100, dtype=F64),
    "huge": 1e8 * torch.cat([BULK, tensor(10, 7, 5, -3)]),
    "tiny": 1e-8 * torch.cat([BULK, tensor(10, 7, 5, -3)]),
    "seven dimensions": torch.linspace(-1, 1.1, 7, dtype=F64),
}
