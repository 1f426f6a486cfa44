"""Recording a model while it is trained, in any loop."""

from __future__ import annotations

import os
from collections.abc import Iterator
from types import TracebackType

import torch
from torch import Tensor, nn

from bridges.models import layout_of, trainable, unwrap
from bridges.trajectories._tensors import Places, buffers_of, dtype_of, kept, places_of
from lla_func.errors import flag, positive_int
from lla_func.geometry import Projection, Recording, Trajectory


class Recorder:
    """Records a model whenever it is called with the step of training; made by :func:`record`."""

    def __init__(
        self,
        model: nn.Module,
        parameters: Places,
        buffers: Places,
        recording: Recording,
        still: Places | None = None,
    ) -> None:
        self._model, self._parameters, self._buffers = model, parameters, buffers
        self._still = still or []
        self._recording = recording

    def __call__(self, step: int, *, always: bool = False) -> bool:
        """Records the model as it is now, if this step is due.

        Args:
            step: how many steps of training were made; increasing.
            always: record it whether it is due or not, such as the last one. It stays until the next that is due.

        Returns:
            Whether it was recorded.

        Raises:
            ValueError: the step is not after the last recorded one, the model has changed its shape or dtype, or a
                parameter that was frozen when recording began is trained now.
        """
        due = self._recording.due(step)
        if not (due or flag("always", always)):
            return False
        self._check_still()
        found = self._found(self._parameters), self._found(self._buffers)
        self._recording.add(int(step), *found, always=not due)
        return True

    @property
    def trajectory(self) -> Trajectory:
        """What has been recorded so far."""
        return self._recording.trajectory

    def close(self) -> None:
        """Ends the recording, so that another one may continue the run; the files are complete without it."""
        self._recording.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _check_still(self) -> None:
        """Raises a ValueError where a parameter that is not recorded has begun to move."""
        for registry, own, name in self._still:
            if (tensor := registry.get(own)) is not None and tensor.requires_grad:
                raise ValueError(
                    f"{name!r} of the model was frozen when recording began, so it is not recorded, but now it is "
                    "trained; record with it unfrozen from the beginning (and freeze it after), or begin another run"
                )

    def _found(self, places: Places) -> list[Tensor]:
        """The tensors that are in their places now, checked."""
        found = []
        for (registry, own, name), (shape, dtype) in zip(places, self._expected(places), strict=True):
            tensor = registry.get(own)
            if tensor is None or tensor.shape != shape or tensor.dtype != dtype:
                now = "gone" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
                raise ValueError(
                    f"{name!r} of the model was {dtype} {list(shape)} when recording began, now it is {now}"
                )
            found.append(tensor)
        return found

    def _expected(self, places: Places) -> Iterator[tuple[tuple[int, ...], torch.dtype]]:
        path = self._recording.made
        if places is self._parameters:
            return ((shape, path.dtype) for shape in path.layout.shapes)
        return ((kept.shape, getattr(torch, kept.dtype)) for kept in path.buffers)


def record(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    every: int = 1,
    keep: int | None = None,
    project: int | None = None,
    seed: int = 0,
    resume: bool | int = False,
    sync: bool = False,
) -> Recorder:
    """Begins to record a model's trainable parameters, and its buffers, while it is trained in any loop.

    What a call of the recorder has written is complete even if the process is killed in the next moment. The model
    is only read. In data-parallel training one process records.

    Args:
        model: the model in training.
        folder: where the trajectory goes.
        every: record steps that are multiples of it.
        keep: at most so many checkpoints. When there would be more, every second one is dropped, and from then on
            every second one that is due is left out, again and again.
        project: keep random projections to so many numbers instead of all P parameters, for models too large to
            keep (:func:`lla_func.geometry.sketch`). They give the path, not the surface under it.
        seed: of the projection; runs that share it can be compared.
        resume: True to continue the run in the folder, if there is one, after its last checkpoint; a step to drop
            what was recorded from there on, for a training that goes on from an earlier checkpoint of its own.
        sync: wait for the disk at each checkpoint, so that a power failure loses nothing either.

    Returns:
        the recorder, to be called with the step.

    Raises:
        ValueError: the folder holds a run and ``resume`` is False, or a run of another kind; or it cannot be written.
        TypeError: model is no module with parameters to train.

    Example:
        >>> import tempfile
        >>> model = nn.Linear(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder, record(model, folder, every=2) as recorder:
        ...     recorded = [recorder(step) for step in range(5)]
        ...     path = Trajectory.open(folder)
        >>> path.steps
        tensor([0, 2, 4])
    """
    module = unwrap(model)
    parameters = trainable(module)
    layout = layout_of(module)
    dtype = dtype_of(parameters)
    if project is not None:
        project = positive_int("project", project, least=2, most=max(layout.numel, 2))
    buffers = {} if project is not None else buffers_of(module)
    recording = Recording(
        *(folder, layout, dtype),
        buffers=kept(buffers),
        every=every,
        keep=keep,
        projection=None if project is None else Projection(project, seed),
        resume=resume,
        sync=sync,
        like=module,
    )
    still = {name: x for name, x in module.named_parameters() if not x.requires_grad}
    moving, beside, frozen = (places_of(module, each) for each in (parameters, buffers, still))
    return Recorder(module, moving, beside, recording, frozen)
