"""How two points are connected: curves of low loss between them, and elastic bands over saddles, fitted."""

from __future__ import annotations

from lla_func.connectivity._curve import Curve, chart_of
from lla_func.connectivity._fit import State, fit, made, start
from lla_func.connectivity._gradients import value_and_gradient
from lla_func.connectivity._minibatches import count, size_of
from lla_func.connectivity._store import DamagedStateWarning, load, open_folder, save

__all__ = [
    "Curve",
    "DamagedStateWarning",
    "State",
    "chart_of",
    "count",
    "fit",
    "load",
    "made",
    "open_folder",
    "save",
    "size_of",
    "start",
    "value_and_gradient",
]
