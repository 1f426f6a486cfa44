"""From nn.Module to a pure function of a flat vector: the module is borrowed for each call, never changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from bridges.models._loan import lent
from bridges.models._parameters import layout_of, trainable, unwrap
from bridges.models._pose import Pose, attention_for, differentiated
from bridges.models._rng import torch_only
from lla_func._torch import eagerly, refuse_lost_threads, without_autocast
from lla_func.errors import one_of

Task = Callable[[nn.Module, Any], Any]
"""Anything done with a model and some data."""


class _Pipeline(nn.Module):
    """A model and the modules used beside it, so that one walk finds the parameters of all."""

    def __init__(self, model: nn.Module, held: Iterable[nn.Module]) -> None:
        super().__init__()
        self.model = model
        self.held = nn.ModuleList(held)


class Borrowed:
    """A model, ready to be used at any theta.

    A task ``task(model, data)`` may do anything with the model: call it, or its parts. It sees a model whose trainable
    parameters come from theta. Frozen parameters and buffers are constants copied here and now, so later training
    does not alter the result. The caller's model is in use only for the time of a call, and left as it was
    (:mod:`bridges.models._loan`).

    Args:
        model: any module; it is never moved to another device, nor its parameters.
        held: further modules that tasks use (a criterion, a teacher): constants, in evaluation mode.
        device: where theta and the constants live.
        dtype: what they are converted to, None to keep them as they are.

    Attributes:
        model, pipeline: the module, and the one that holds it with everything that tasks use.
        layout, theta: the trainable parameters as a vector [P], a copy.
        constants: everything else, by its name in the pipeline.
    """

    @torch.inference_mode(False)  # tensors made there take no part in derivatives
    def __init__(
        self,
        model: nn.Module,
        *,
        held: Iterable[nn.Module] = (),
        device: torch.device,
        dtype: torch.dtype | None = None,
    ) -> None:
        if torch.empty(0).device.type == "meta":  # get_default_device() of torch 2.6 knows no context
            raise ValueError(
                "torch's default device is 'meta', where tensors have no values; make the objective outside of "
                "torch.device('meta')"
            )
        refuse_lost_threads()
        self.model = unwrap(model)
        self.pipeline = _Pipeline(self.model, held)
        self.layout = layout_of(self.model)
        parameters = trainable(self.model)
        named = {k: in_precision(p.detach(), dtype) for k, p in parameters.items()}
        self.theta = self.layout.ravel(named).to(device, copy=True)
        self._moving = {name: f"model.{name}" for name in parameters}
        # Tied tensors have several places. They are resolved once, since it takes a walk over the model.
        first: dict[int, str] = {}
        self._places: list[tuple[nn.Module, bool, str, str]] = []
        self.constants: dict[str, Tensor] = {}
        moving = set(self._moving.values())
        for name, tensor in chain(
            self.pipeline.named_parameters(remove_duplicate=False),
            self.pipeline.named_buffers(remove_duplicate=False),
        ):
            if id(tensor) not in first:
                first[id(tensor)] = name
                if tensor.device.type == "meta":
                    raise ValueError(f"{name!r} has no values yet")
                if name not in moving:
                    self.constants[name] = in_precision(tensor.detach(), dtype).to(device, copy=True)
            path, _, own = name.rpartition(".")
            owner = self.pipeline.get_submodule(path)
            self._places.append((owner, own in owner._parameters, own, first[id(tensor)]))
        self._buffers = {name for name, _ in self.pipeline.named_buffers()}
        self._sources = torch_only(device)

    def __call__(
        self,
        task: Task,
        theta: Tensor | Mapping[str, Tensor],
        data: Any,
        *,
        pose: Pose,
        buffers: Mapping[str, Tensor],
        seed: int = 0,
    ) -> Any:
        """What a task gives at theta [P], or at the named tensors that make it up, with modules posed.

        A pass may write to buffers: it writes to those given, of the others to copies made for this call. Random
        numbers, if the pass draws any, are the same in every call.
        """
        parameters = theta if isinstance(theta, Mapping) else self.layout.unravel(theta)
        tensors = {
            k: v.clone() if k in self._buffers and k not in buffers else v for k, v in self.constants.items()
        }
        tensors |= buffers
        tensors |= {self._moving[name]: tensor for name, tensor in parameters.items()}

        def work() -> Any:
            for module, attributes in pose.items():
                vars(module).update(attributes)
            for owner, is_parameter, name, source in self._places:
                registry: dict[str, Any] = owner._parameters if is_parameter else owner._buffers
                if name not in registry:
                    raise RuntimeError(
                        f"the model has no {name!r} in {type(owner).__name__} any more: it was altered after the "
                        "objective was made; make the objective again"
                    )
                registry[name] = tensors[source]
            for generator in self._sources:
                generator.seed(seed)
            with attention_for(parameters.values()), eagerly(), without_autocast():
                return task(self.model, data)

        return lent(pose, self._sources, work)


def precision(dtype: Any) -> torch.dtype | None:
    """The dtype that is asked for, by itself or by its name; None if none is.

    Raises:
        ValueError: it is neither float32 nor float64.
    """
    if dtype is None:
        return None
    one_of("dtype", name := str(dtype).removeprefix("torch."), ("float32", "float64"))
    return torch.float32 if name == "float32" else torch.float64


def in_precision(tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The tensor in another floating dtype; as it is where none is asked for, and if it holds no such numbers."""
    return tensor if dtype is None or not tensor.is_floating_point() else tensor.to(dtype)


def scalar(value: Any, theta: Tensor | Mapping[str, Tensor]) -> Tensor:
    """A loss as a tensor without axes, or an error that says what came instead."""
    if isinstance(value, Tensor):
        if value.ndim:
            raise ValueError(
                f"the loss has shape {list(value.shape)}, a scalar is needed; use reduction='mean' or 'sum'"
            )
        if value.is_complex():
            raise ValueError(f"the loss has dtype {value.dtype}, a real number is needed")
        return value
    if not isinstance(value, Real):
        raise TypeError(f"the loss is of type {type(value).__name__}; a scalar tensor is needed")
    parameters = list(theta.values()) if isinstance(theta, Mapping) else [theta]
    # A pass that is only counted or watched is as good as any; one that is recorded fails where numbers are read out.
    if differentiated(parameters):
        raise TypeError(
            f"the loss is the number {float(value):g}, which has no derivative; return the tensor, without .item()"
        )
    return torch.tensor(float(value), dtype=torch.float64, device=parameters[0].device)
