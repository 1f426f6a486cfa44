"""What loss-landscape-anim does of our checkpoints; run by trajectory.py with the Python that has it, on its own."""

import json
import resource
import sys
import time

import numpy as np
import torch
from torch import nn


class LeNet(nn.Module):
    """Our LeNet, as the peer wants a model."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        )
        self.classifier = nn.Sequential(
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
        )
        self.loss_fn = nn.CrossEntropyLoss()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images."""
        return self.classifier(self.features(images))

    def init_from_flat_params(self, flat: torch.Tensor) -> None:
        """Takes its weights from one vector."""
        nn.utils.vector_to_parameters(flat, self.parameters())


def main(folder: str, threads: int) -> None:
    from loss_landscape_anim.loss_landscape import DimReduction, LossGrid

    torch.set_num_threads(threads)
    given = np.load(f"{folder}/given.npz")
    path = [torch.from_numpy(row) for row in np.load(f"{folder}/thetas.npy")]
    data = torch.from_numpy(given["x"]), torch.from_numpy(given["y"])
    start = time.perf_counter()
    found = DimReduction(path, "pca", None, 0).reduce()
    middle = time.perf_counter()
    with torch.no_grad():
        grid = LossGrid(
            *(torch.from_numpy(found["optim_path"]), LeNet(), data, found["path_2d"], found["reduced_dirs"]),
            res=int(given["grid"]) // 2,
            tqdm_disable=True,
            save_grid=False,
        )
    end = time.perf_counter()
    alpha = grid.coords[0][1] - grid.coords[0][0]
    dirs, explained = found["reduced_dirs"], found["pcvariances"]
    np.savez(f"{folder}/peer.npz", dirs=dirs, losses=grid.loss_values_2d, explained=explained, alpha=alpha)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"plane": middle - start, "grid": end - middle, "MB": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
