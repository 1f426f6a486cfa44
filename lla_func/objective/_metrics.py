"""What a metric may give or be, beside a plain function of outputs and a batch."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class PerSample(NamedTuple):
    """A value for each sample, and how much each counts in their mean.

    Attributes:
        values: [B] or [B, K]; where the weight is zero they may be anything.
        weights: not negative, [B] or [B, K]; None where all samples count alike.
    """

    values: Tensor
    weights: Tensor | None = None


@runtime_checkable
class Accumulator(Protocol):
    """A metric of all outputs together, which no mean over samples gives, such as those of torchmetrics."""

    def reset(self) -> Any:
        """Forgets what it has seen."""

    def update(self, outputs: Any, batch: Any) -> Any:
        """Takes the outputs on one more batch."""

    def compute(self) -> Any:
        """The value of what it has seen, a number or [K]."""
