"""Models as pure functions: a module is borrowed for each call and given back as it came."""

from __future__ import annotations

from bridges.models import _weights as weights
from bridges.models._alike import check_alike, different_buffers, different_constants
from bridges.models._batchnorm import behave
from bridges.models._borrowed import Borrowed, Task, in_precision, precision
from bridges.models._parameters import layout_of, parameters_of, trainable, unwrap
from bridges.models._pose import evaluating
from bridges.models._rng import Stream, everything
from bridges.models._wrapper import ModelWrapper, wrap_model

__all__ = [
    "Borrowed",
    "ModelWrapper",
    "Stream",
    "Task",
    "behave",
    "check_alike",
    "different_buffers",
    "different_constants",
    "evaluating",
    "everything",
    "in_precision",
    "layout_of",
    "parameters_of",
    "precision",
    "trainable",
    "unwrap",
    "weights",
    "wrap_model",
]
