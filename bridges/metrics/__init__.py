"""Metrics: how a model and data make a loss, and what else is measured; with a model they give an Objective."""

from __future__ import annotations

from bridges.metrics._batches import available
from bridges.metrics._classification import accuracy, class_accuracy, class_losses
from bridges.metrics._expected_return import ExpectedReturn
from bridges.metrics._gradient_norm import GradientNorm
from bridges.metrics._loss import Loss
from bridges.metrics._measures import translated_metrics
from bridges.metrics._metric import Metric, metric_of
from bridges.metrics._pipeline import Pipeline
from bridges.models import (
    ModelWrapper,
    check_alike,
    different_buffers,
    different_constants,
    parameters_of,
    wrap_model,
)
from lla_func.objective import PerSample

__all__ = [
    "ExpectedReturn",
    "GradientNorm",
    "Loss",
    "Metric",
    "ModelWrapper",
    "PerSample",
    "Pipeline",
    "accuracy",
    "available",
    "check_alike",
    "class_accuracy",
    "class_losses",
    "different_buffers",
    "different_constants",
    "metric_of",
    "parameters_of",
    "translated_metrics",
    "wrap_model",
]
