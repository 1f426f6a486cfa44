"""Trainings as trajectories: recorded step by step, made of checkpoints, and turned back into state dicts."""

from __future__ import annotations

from bridges.trajectories._load import load
from bridges.trajectories._record import Recorder, record
from bridges.trajectories._state import state_dict

__all__ = ["Recorder", "load", "record", "state_dict"]
