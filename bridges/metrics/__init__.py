"""Metrics: how a model and data make a loss; bound to a model, a metric gives an Objective."""

from __future__ import annotations

from bridges.metrics._batches import available
from bridges.metrics._metrics import Loss, Metric
from bridges.models import ModelWrapper, wrap_model

__all__ = ["Loss", "Metric", "ModelWrapper", "available", "wrap_model"]
