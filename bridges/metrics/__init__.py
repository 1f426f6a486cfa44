"""Metrics: how a model and data make a loss; bound to a model, a metric gives an Objective."""

from __future__ import annotations

from bridges.metrics._batches import available
from bridges.metrics._loss import Loss
from bridges.metrics._metric import Metric, metric_of
from bridges.models import ModelWrapper, check_alike, different_constants, parameters_of, wrap_model

__all__ = [
    "Loss",
    "Metric",
    "ModelWrapper",
    "available",
    "check_alike",
    "different_constants",
    "metric_of",
    "parameters_of",
    "wrap_model",
]
