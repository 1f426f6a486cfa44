"""What is studied: the loss as a function of theta with its data, and how parameters lie in theta."""

from __future__ import annotations

from lla_func.objective._layout import Layout
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

__all__ = [
    "Batch",
    "Layout",
    "Loss",
    "Objective",
    "Weight",
    "Weighted",
    "beginning",
    "check",
    "combined",
    "from_loss",
    "loss_at",
    "risk",
    "samples",
    "tiles",
    "value",
    "weigh",
    "weighed",
]
