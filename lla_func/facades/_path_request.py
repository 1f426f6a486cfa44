"""What a call of viz_path asks for, checked as a whole before any work."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch.distributed as dist

from lla_func.errors import instance
from lla_func.facades._common import folders_of
from lla_func.facades._courses import Course, course_of
from lla_func.files import file_name
from lla_func.landscape import MANIFEST, directory, planned, read_manifest
from lla_func.options import Between, Evaluation, Interpolation, Output, Picture

Families = tuple[Interpolation, Evaluation, Between, Picture, Output]


class PathRequest(NamedTuple):
    """What a call of :func:`viz_path` asks for, checked.

    Attributes:
        course: what is evaluated where.
        interpolation, evaluation, between, picture, output, group: the options.
        name: of the files.
        folders: for pictures and for numbers, None where nothing is written.
        store: the folder of finished points.
    """

    course: Course
    interpolation: Interpolation
    evaluation: Evaluation
    between: Between
    picture: Picture
    output: Output
    group: Any
    name: str
    folders: tuple[Path, Path] | None
    store: Path | None


def checked_path(
    models: Any,
    metric: Any,
    also: Mapping[str, Any] | None,
    metrics: Mapping[str, Any] | None,
    like: Any,
    group: Any,
    families: Families,
) -> PathRequest:
    """The request of a call; what is left to check of options that are right by themselves. No loss is evaluated.

    Raises:
        ValueError, TypeError: an argument is wrong; the message names it, its value and what is allowed.
    """
    interpolation, evaluation, between, picture, output = families
    if group is not None:
        instance("group", group, dist.ProcessGroup, "a torch.distributed process group, or None")
        if evaluation.store is None:
            raise ValueError("group= needs store=, a folder that all its processes see, to share the points")
    planned(evaluation)
    name = file_name("cur_name", f"path_{file_name('cur_name', picture.cur_name)}")
    course = course_of(models, metric, also, metrics, like, between, interpolation)
    folders = folders_of(output, group)
    store = None if evaluation.store is None else directory("store", evaluation.store)
    for manifest in () if store is None else store.glob(f"*/{MANIFEST}"):
        read_manifest(manifest.parent)
    return PathRequest(
        course, interpolation, evaluation, between, picture, output, group, name, folders, store
    )
