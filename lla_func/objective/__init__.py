"""What is studied: the loss as a function of theta with its data, and how parameters lie in theta."""

from __future__ import annotations

from lla_func.objective._gradient_norm import gradient_norm
from lla_func.objective._layout import Layout
from lla_func.objective._measured import Measures, Values, measured, row_shape, separate, values
from lla_func.objective._metrics import Accumulator, PerSample
from lla_func.objective._objective import (
    Batch,
    Loss,
    Objective,
    Weight,
    Weighted,
    beginning,
    check,
    combined,
    from_loss,
    loss_at,
    risk,
    samples,
    tiles,
    value,
    weigh,
    weighed,
)
from lla_func.objective._statistics import mean_and_error, merged, moments

__all__ = [
    "Accumulator",
    "Batch",
    "Layout",
    "Loss",
    "Measures",
    "Objective",
    "PerSample",
    "Values",
    "Weight",
    "Weighted",
    "beginning",
    "check",
    "combined",
    "from_loss",
    "gradient_norm",
    "loss_at",
    "mean_and_error",
    "measured",
    "merged",
    "moments",
    "risk",
    "row_shape",
    "samples",
    "separate",
    "tiles",
    "value",
    "values",
    "weigh",
    "weighed",
]
