"""The directions of a job, kept so that all its points lie on one surface, bit for bit."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from filelock import FileLock
from torch import Tensor
from torch.nn.functional import cosine_similarity

from lla_func import files
from lla_func.landscape._job import StoreWarning


def directions_of(folder: Path, directions: Tensor) -> Tensor:
    """The directions that a job began with, which those computed anew repeat to rounding only.

    Eigenvectors depend in their last bits on threads and free memory; points of one job need the same ones.

    Args:
        folder: of the job.
        directions: computed now, [K, P]; those of the first call are kept.

    Raises:
        ValueError: they are others.
    """
    path = folder / "directions.npz"
    if not path.exists() or (kept := _kept_directions(path)) is None:
        with FileLock(folder / "directions.lock"):
            kept = _kept_directions(path) if path.exists() else None
            if kept is None:
                files.save_arrays(path, directions=directions)
                return directions
    kept = kept.to(directions)
    if (
        kept.shape != directions.shape
        or not (cosine_similarity(kept.double(), directions.double(), dim=1) > 0.99).all()
    ):
        raise ValueError(
            f"store={str(folder)!r} was begun with other directions; choose another folder for this job"
        )
    return kept


def _kept_directions(path: Path) -> Tensor | None:
    """Those in a file, None if it is damaged: then the job goes on if the ones computed now have the same bits."""
    try:
        return torch.from_numpy(files.load_arrays(path)["directions"])
    except (ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{str(path)!r} is damaged ({error}); it is made anew", StoreWarning, stacklevel=4)
        return None
