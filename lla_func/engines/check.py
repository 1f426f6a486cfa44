"""An engine is trusted after it agrees with the loop on two points of the job."""

from __future__ import annotations

import torch
from torch import Tensor

from lla_func.chart import Chart
from lla_func.engines import loop
from lla_func.objective import Objective

__all__ = ["DisagreementError", "compare", "tolerance"]


class DisagreementError(ArithmeticError):
    """An engine gives other losses than the loop."""


def tolerance(dtype: torch.dtype) -> float:
    """The largest relative difference that counts as rounding, eps ** 0.6: 7e-5 in float32, 4e-10 in float64."""
    return torch.finfo(dtype).eps ** 0.6


def compare(objective: Objective, chart: Chart, coefficients: Tensor, losses: Tensor) -> dict[str, float]:
    """Compares losses with the loop's, at the first and the middle one of those that are finite.

    Args:
        objective, chart: the job.
        coefficients: of some points, [N, K].
        losses: an engine's, [N].

    Returns:
        what results keep: the ``points`` compared, the ``tolerance`` and the largest relative ``difference``.

    Raises:
        DisagreementError: a loss differs by more than the tolerance.
    """
    finite = torch.isfinite(losses).nonzero().flatten().tolist() or list(range(len(losses)))
    places = sorted({finite[0], finite[len(finite) // 2]})
    run, _ = loop.prepare(objective, chart)
    expected = run(coefficients[places])
    actual = losses[places]
    bound = tolerance(chart.origin.dtype)
    atol = 100 * torch.finfo(chart.origin.dtype).eps
    gap = (actual - expected).abs()
    if not torch.allclose(actual, expected, rtol=bound, atol=atol, equal_nan=True):
        raise DisagreementError(
            f"it gives {actual.tolist()} where the loop gives {expected.tolist()}; rounding would be {bound:.0e}"
        )
    scale = expected.abs().clamp_min(atol / bound)
    return {"points": len(places), "tolerance": bound, "difference": float((gap / scale).nan_to_num().max())}
