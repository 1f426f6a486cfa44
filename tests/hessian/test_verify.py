"""The cheap test of an operator: what it lets pass and what it does not."""

from __future__ import annotations

import pytest
import torch

from lla_func.hessian._verify import check_reproducible, check_symmetric
from lla_func.objective import from_loss
from lla_func.spectrum._operator import Operator


def parts(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A symmetric and a skew matrix of equal norms."""
    drawn = torch.randn(60, 60, generator=torch.Generator().manual_seed(0), dtype=dtype)
    even, odd = drawn + drawn.T, drawn - drawn.T
    return even / even.norm(), odd / odd.norm()


@pytest.mark.parametrize(("dtype", "least"), [(torch.float32, 0.05), (torch.float64, 1e-4)])
def test_a_skew_part_of_ten_tolerances_is_refused_and_one_of_rounding_is_not(dtype, least):
    even, odd = parts(dtype)

    def operator(skewness):
        matrix = even + skewness * odd
        return Operator(lambda v: v @ matrix.T, len(matrix), dtype, matrix.device, "it")

    check_symmetric(operator(torch.finfo(dtype).eps))
    with pytest.raises(ValueError, match="it is not symmetric"):
        check_symmetric(operator(least))


@pytest.mark.parametrize(("dtype", "noise"), [(torch.float32, 2e-3), (torch.float64, 1e-7)])
def test_a_loss_that_changes_more_than_rounding_is_refused(dtype, noise):
    calls = []

    def drifting(theta, batch):
        calls.append(batch)
        return theta.sum() * (1 + by * len(calls))

    objective = from_loss(drifting, torch.ones(3, dtype=dtype))
    by = torch.finfo(dtype).eps
    check_reproducible(objective, "it")
    by = noise
    with pytest.raises(ValueError, match="it needs a deterministic loss"):
        check_reproducible(objective, "it")
