"""A loader as people write them for the original LLA; only the line of its imports from there names this project."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from bridges.metrics import Metric, ModelWrapper


class Net(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
        self.head = nn.Linear(5, n_classes)

    def forward(self, x):
        return self.head(self.encoder(x))


def ModelInit(N_CLASSES=3, weight_path=None, device="cpu"):  # noqa: N802
    model = Net(N_CLASSES)
    if weight_path is not None:
        model.load_state_dict(torch.load(weight_path, map_location=device))
    model.to(device)
    return model


def CustomLoader(data_path=None, batch_size=8, wrap=True, shuffle=False):  # noqa: N802
    g = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(20, 6, generator=g), torch.randint(3, (20,), generator=g).float())
    loader = DataLoader(data, batch_size=batch_size, shuffle=shuffle)
    return LoaderWrapper(loader) if wrap else loader


class LoaderWrapper:
    def __init__(self, train_loader: DataLoader):
        self.loader = train_loader
        self.iterator = iter(self.loader)
        self.batch_size = self.loader.batch_size

    def __iter__(self):
        return self

    def __len__(self):
        return len(self.loader)

    def __next__(self):
        inputs, labels = self.iterator.__next__()
        return inputs, labels


class CustomLoss(Metric):
    def __init__(self, inputs, target, device="cpu"):
        super().__init__()
        self.inputs = inputs
        self.target = target
        self.device = device
        self.loss_fn = nn.CrossEntropyLoss().to(self.device)

    def __call__(
        self, model_wrapper: ModelWrapper, model=None, batch=None, use_wrapper=True, return_pred=False
    ):
        if batch is None:
            inputs = self.inputs
            target = self.target
        else:
            inputs = batch[0]
            target = batch[1]

        if use_wrapper:
            pred = model_wrapper.forward(inputs.to(self.device))
        else:
            pred = model(inputs.to(self.device))

        targets = target.type(torch.LongTensor)
        loss = self.loss_fn(pred, targets.to(self.device))

        if not return_pred:
            return loss.item()
        return loss, pred
