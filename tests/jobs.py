"""A job of nine points with a store, whose losses are known, for tests of what happens to its files."""

from __future__ import annotations

import torch

from lla_func.geometry._chart import line
from lla_func.landscape._evaluate import evaluate
from lla_func.objective._objective import from_loss

__all__ = ["COORDS", "EXPECTED", "job", "unfinished"]

COORDS = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None]


def job(folder, *, tilt=0.0, **options):
    """A job of nine points in nine chunks."""
    objective = from_loss(
        lambda theta, batch: theta.square().sum() + tilt * theta[0], torch.zeros(2).double()
    )
    chart = line(objective.theta, torch.tensor([3.0, 4.0]).double())
    return evaluate(objective, chart, COORDS, engine="loop", store=folder, **options)


EXPECTED = 25 * COORDS[:, 0].square()


def unfinished(folder):
    job(folder)
    (folder / "landscape.npz").unlink()
    return sorted((folder / "chunks").glob("*.npz"))
