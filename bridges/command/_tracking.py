"""`lla train --track` and `lla path --trajectory`: trainings recorded as trajectories, and drawn."""

from __future__ import annotations

import sys
from argparse import Namespace
from contextlib import suppress

from torch import nn

from bridges import loaders
from bridges.command import _options as options
from bridges.command._pipeline import device_of, evaluated_batch, metric_of, model_of
from bridges.command._processes import launched
from bridges.trajectories import Recorder, record
from lla_func import viz_path
from lla_func.files import file_name
from lla_func.geometry import Trajectory
from lla_func.landscape import describe
from lla_func.options import VIZ_PATH

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


def follow(arguments: Namespace) -> None:
    """Draws recorded trainings over the plane that shows most of them, and prints what was found and written."""
    if arguments.models:
        raise ValueError("--trajectory stands for the models; leave out one of the two")
    for flag in ("test", "store"):
        if getattr(arguments, flag):
            raise ValueError(f"--{flag} is for models; leave it out with --trajectory")
    file_name("--name", arguments.name)
    if launched().size > 1:
        raise ValueError("lla path --trajectory runs in one process; start it without torchrun")
    runs = [Trajectory.open(folder) for folder in arguments.trajectory]
    device, loader = device_of(arguments), loaders.find(arguments.loader)
    model = model_of(loader, Namespace(**{**vars(arguments), "weights": "None"}), device)
    inputs, target = evaluated_batch(loader, arguments)
    metric = metric_of(loader, arguments, inputs, target, device)
    asked = options.given(arguments, *VIZ_PATH) | {
        "cur_name": arguments.name,
        "sampling": "grid" if arguments.tol is None else "chebyshev",
        "progress": sys.stderr.isatty(),
    }
    result = viz_path(runs, metric, like=model, **asked)
    print(result)
    for path in result.paths.values():
        print(f"wrote {path}")
    if arguments.plan:
        print(describe(result.landscape.diagnostics))
