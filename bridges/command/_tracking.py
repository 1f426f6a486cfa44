"""`lla train --track`: the training recorded as a trajectory."""

from __future__ import annotations

from argparse import Namespace
from contextlib import suppress

from torch import nn

from bridges.trajectories import Recorder, record
from lla_func.geometry import Trajectory

KEPT = 1000
"""Checkpoints that are kept at most: enough for any picture, and a disk holds them."""


class Track:
    """Records each step of a training, and its last one whatever the thinning says."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.steps, self.recorded = recorder, 0, recorder(0)

    def step(self, number: int) -> None:
        """Records the model after a step."""
        self.steps, self.recorded = number, self.recorder(number)

    def ended(self) -> str:
        """Ends the recording, and says in one line what there is."""
        if not self.recorded:
            self.recorder(self.steps, always=True)
        self.recorder.close()
        path = self.recorder.trajectory
        return f"recorded {len(path)} checkpoints in {path.folder}"


def tracked(model: nn.Module, arguments: Namespace) -> Track | None:
    """What records the training, if that is asked for; raises where it cannot be, before any training."""
    if arguments.track is None:
        return None
    with suppress(FileNotFoundError):
        path = Trajectory.open(arguments.track)
        raise ValueError(
            f"--track {arguments.track} holds {len(path)} checkpoints already; name a new folder"
        )
    return Track(record(model, arguments.track, every=arguments.track_every, keep=KEPT))
