"""The wrapper through which metrics written for the original LLA call a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


class ModelWrapper:
    """A model in the form that metrics of the original expect: ``wrapper.forward(*inputs)``.

    The original freezes the parameters of the model that it wraps; here wrapping changes nothing.

    Example:
        >>> import torch
        >>> ModelWrapper(nn.Linear(2, 3)).forward(torch.ones(4, 2)).shape
        torch.Size([4, 3])
    """

    def __init__(self, model: nn.Module) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(f"model is of type {type(model).__name__}; a torch.nn.Module is needed")
        self.model = model

    @property
    def modules(self) -> list[nn.Module]:
        """The wrapped module, in a list."""
        return [self.model]

    def forward(self, *inputs: Any, enc: bool = False, **options: Any) -> Any:
        """Calls the model, or with ``enc=True`` its ``encoder``."""
        call = self.model.get_submodule("encoder") if enc else self.model
        return call(*inputs, **options)

    __call__ = forward

    def parameters(self) -> Iterator[nn.Parameter]:
        """The model's parameters."""
        return self.model.parameters()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The model's parameters with their names."""
        return self.model.named_parameters()

    def train(self, mode: bool = True) -> ModelWrapper:
        """Sets the model's training mode."""
        self.model.train(mode)
        return self

    def eval(self) -> ModelWrapper:
        """Sets the model's evaluation mode."""
        return self.train(False)


def wrap_model(model: nn.Module | ModelWrapper) -> ModelWrapper:
    """The model as a :class:`ModelWrapper`; one that is wrapped already is returned as it is."""
    return model if isinstance(model, ModelWrapper) else ModelWrapper(model)
