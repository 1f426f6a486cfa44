"""Is this bump real? Differences between losses at several points, with standard errors over paired samples.

Two losses on the same samples vary together from one set of data to the next, so that the error of their difference is
not made of their own errors; it is that of the differences sample by sample, and mostly far smaller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lla_func._torch import full_precision, noticed, without_autocast
from lla_func.errors import finite_tensor, instance, numbers_of
from lla_func.geometry import Chart
from lla_func.geometry import chart as charts
from lla_func.objective import Batch, Objective, PerSample, mean_and_error, merged, moments
from lla_func.spectrum import Estimate


def contrast(
    objective: Objective, thetas: Tensor | Sequence[Tensor], weights: Tensor | Sequence[float]
) -> Estimate:
    """A weighted sum of losses, sum_j w_j L(theta_j), with its standard error over paired samples.

    With weights (1, -1) the difference of two losses; with (1, -(1 - t), -t) how high a point lies above the chord
    between two others.

    Args:
        objective: with losses of single samples (``per_sample``, which ``bridges.metrics.Loss`` sets for the criteria
            of torch that average).
        thetas: the points, [n, P], or n vectors [P].
        weights: [n].

    Returns:
        the sum as an estimate that is exact for these data (``error`` 0), whose ``data_error`` is the standard
        deviation over data: what other samples of the same size would give. It takes one forward pass at each point.

    Raises:
        ValueError: the objective has no losses of single samples, or points and weights do not fit.

    Source: Student 1908, paired samples; for weighted means Cochran 1977, Sampling Techniques, section 6.4.

    Example:
        >>> from lla_func import from_loss
        >>> x = torch.tensor([1e6, 2e6, 5e6], dtype=torch.float64)  # samples differ far more than losses do
        >>> shift = from_loss(lambda a, x: (x + a).mean(), torch.zeros(1).double(), [x], outputs=lambda a, x: x + a,
        ...     criterion=lambda out, x: out.mean(), per_sample=lambda out, x: out)
        >>> found = contrast(shift, torch.tensor([[2.0], [0.5]], dtype=torch.float64), [1, -1])
        >>> found.value, found.data_error < 1e-9
        (1.5, True)
    """
    check_per_sample(objective)
    points = _points(objective, thetas)
    shares = numbers_of("weights", torch.as_tensor(weights)).to("cpu", torch.float64)
    if shares.shape != (len(points),) or not bool(shares.isfinite().all()):
        raise ValueError(
            f"weights has shape {list(shares.shape)}; pass a finite number for each of {len(points)} points"
        )
    with noticed(), torch.no_grad(), full_precision(), without_autocast():
        numbers = merged([moments(*part) for part in _differences(objective, points, shares.tolist())])
    mean, error = (float(x) for x in mean_and_error(numbers))
    if objective.reduction == "sum":
        total = float(numbers[1])
        mean, error = total * mean, total * error
    return Estimate(mean, data_error=None if math.isnan(error) else error)


def difference(objective: Objective, chart: Chart, first: Any, second: Any) -> Estimate:
    """The loss at one point of a chart minus that at another, with its standard error over paired samples.

    Args:
        objective: with losses of single samples.
        chart: of a landscape.
        first, second: coordinates of the two points, [C], such as two rows of ``landscape.coords``.

    Returns:
        the difference; more than about twice its ``data_error`` it is no accident of the samples.

    Raises:
        ValueError: as :func:`contrast`.
    """
    instance("chart", chart, Chart, "a Chart, such as chart.plane(theta, first, second)")
    coords = torch.stack(
        [torch.as_tensor(point, dtype=torch.float64).reshape(-1) for point in (first, second)]
    )
    return contrast(objective, charts.point(chart, coords), (1.0, -1.0))


def check_per_sample(objective: Objective) -> None:
    """Raises unless it is an Objective that has losses of single samples."""
    instance("objective", objective, Objective, "an Objective, such as metric.objective(model)")
    if objective.per_sample is None or objective.outputs is None:
        raise ValueError(
            "the objective has no losses of single samples; pass per_sample=, a function of (outputs, batch) that "
            "returns [B], to from_loss, or of (predictions, targets) to bridges.metrics.Loss"
        )


def _points(objective: Objective, thetas: Tensor | Sequence[Tensor]) -> list[Tensor]:
    points = list(thetas)
    if not points:
        raise ValueError("thetas is empty; at least one point is needed")
    for i, theta in enumerate(points):
        finite_tensor(f"thetas[{i}]", theta, ("P",))
        if theta.shape != objective.theta.shape:
            raise ValueError(f"thetas[{i}] has shape {list(theta.shape)}; pass {list(objective.theta.shape)}")
    return [theta.to(objective.theta) for theta in points]


def _differences(
    objective: Objective, points: Sequence[Tensor], shares: Sequence[float]
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """For each batch the weighted sums of the losses of samples, and what the samples count."""
    assert objective.outputs is not None
    adapt = objective.adapt_outputs
    at = [objective.outputs if adapt is None else adapt(theta) for theta in points]
    for batch in objective.batches:
        total: Tensor | None = None
        counts: Tensor | None = None
        for theta, share, outputs in zip(points, shares, at, strict=True):
            losses, counts = _losses(objective, outputs, theta, batch)
            total = share * losses if total is None else total + share * losses
        assert total is not None
        yield total, counts


def sample_losses(objective: Objective, theta: Tensor) -> Iterator[tuple[Tensor, Tensor | None]]:
    """For each batch the losses of its samples at theta, in float64 on the CPU, and what the samples count."""
    assert objective.outputs is not None
    outputs = objective.outputs if objective.adapt_outputs is None else objective.adapt_outputs(theta)
    for batch in objective.batches:
        yield _losses(objective, outputs, theta, batch)


def _losses(objective: Objective, outputs: Any, theta: Tensor, batch: Batch) -> tuple[Tensor, Tensor | None]:
    """The losses of samples in float64, and what they count."""
    assert objective.per_sample is not None
    with torch.enable_grad():  # for losses that differentiate on their way
        found = objective.per_sample(outputs(theta, batch), batch)
    values, counts = found if isinstance(found, PerSample) else (found, None)
    values = values.detach().to("cpu", torch.float64)
    counts = None if counts is None else counts.detach().to("cpu", torch.float64)
    return values if counts is None else torch.where(counts > 0, values, 0.0), counts
