"""An engine is trusted after it agrees with the loop on two points of the evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

from lla_func.geometry import Chart
from lla_func.landscape.engines import _loop as loop
from lla_func.objective import Measures, Objective


class DisagreementError(ArithmeticError):
    """An engine gives other losses than the loop."""


def tolerance(dtype: torch.dtype) -> float:
    """The largest relative difference that counts as rounding, eps ** 0.6: 7e-5 in float32, 4e-10 in float64."""
    return torch.finfo(dtype).eps ** 0.6


def verify(objective: Objective, chart: Chart, coefficients: Tensor, losses: Tensor) -> dict[str, float]:
    """Compares losses with the loop's, at the first and the middle one of those that are finite.

    Args:
        objective, chart: what is evaluated, and where.
        coefficients: of some points, [N, K].
        losses: an engine's, [N].

    Returns:
        what results keep: the ``points`` compared, the ``tolerance`` and the largest relative ``difference``.

    Raises:
        DisagreementError: a loss differs by more than the tolerance.
    """
    first = losses if objective.measures is None else losses[:, 0]
    finite = torch.isfinite(first).nonzero().flatten().tolist() or list(range(len(losses)))
    places = sorted({finite[0], finite[len(finite) // 2]})
    run, _ = loop.prepare(objective, chart)
    return agreement(losses[places], run(coefficients[places]), chart.origin.dtype, objective.measures)


def agreement(
    actual: Tensor, expected: Tensor, dtype: torch.dtype, measures: Measures | None = None
) -> dict[str, float]:
    """Compares losses with the loop's at the same points; returns and raises what :func:`verify` does.

    Args:
        actual, expected: an engine's losses and the loop's, [n], or rows [n, width] with measures.
        dtype: that they were computed in.
        measures: what the rows hold.
    """
    if measures is not None:
        if differing := measures.differing(actual, expected, tolerance(dtype)):
            raise DisagreementError(f"it gives other values of {', '.join(differing)} than the loop")
        actual, expected = actual[:, 0], expected[:, 0]
    bound = tolerance(dtype)
    # Rounding may leave little of a small loss beside larger ones; it is as small as they are, though.
    atol = 100 * torch.finfo(dtype).eps * float(expected.abs().nan_to_num(0.0, 0.0).max())
    if not torch.allclose(actual, expected, rtol=bound, atol=atol, equal_nan=True):
        raise DisagreementError(
            f"it gives {actual.tolist()} where the loop gives {expected.tolist()}; rounding would be {bound:.0e}"
        )
    gap = (actual - expected).abs() / expected.abs().clamp_min(atol / bound)
    return {"points": len(actual), "tolerance": bound, "difference": float(gap.nan_to_num().max())}
