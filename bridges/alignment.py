"""Alignment: one network's units permuted so that its weights come next to another's, its function unchanged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from bridges.models import Borrowed, evaluating, parameters_of, unwrap
from lla_func.errors import instance, positive_int, seed_number
from lla_func.geometry import match, permuted
from lla_func.graph import (
    RecordingError,
    Symmetry,
    UnknownOperationError,
    belongs_to,
    record,
    symmetry,
)

__all__ = ["align", "symmetry_of"]

STATISTICS = ("running_mean", "running_var")
"""Buffers that belong to units as parameters do; all others stay as they are."""

ROUNDING = 10.0
"""Times the root of the dtype's precision, relative to the outputs: above rounding, below a wrong permutation."""

KNOWN = "linear, convolution, embedding, normalization, pooling and attention layers, and functions of single elements"


def align(
    model_b: nn.Module, *, to: nn.Module, inputs: Any, restarts: int = 3, seed: int = 0
) -> dict[str, Tensor]:
    """A state dict that computes what ``model_b`` computes, with weights as near to those of another as it finds.

    The units of a hidden layer have no order. Two networks trained from different seeds have theirs in different ones,
    and halfway between them units that have nothing in common are mixed. Which units may be exchanged, and what has
    to go along, follows from the operations that the model is recorded to call, whatever its layers are named: the
    channels of a residual stream all together, attention heads as a whole, pixels not at all. Frozen parameters, and
    buffers but for the running statistics of BatchNorm, stay as they are.

    It needs SciPy: ``python -m pip install 'lla-func[align]'``.

    Args:
        model_b: the model whose units are permuted; it stays as it is.
        to: a model of the same architecture, for which its state dict is meant.
        inputs: data to record the model with: a tensor, a tuple of them, or a dict of keyword arguments. A few samples
            will do; the new state dict is checked on all of them.
        restarts: how many starts to take the best of: the first from the order that is there, others from random ones.
        seed: of the random starts and orders.

    Returns:
        a state dict for ``model_b`` or ``to``: new tensors.

    Raises:
        ValueError: the models have different parameters; or a layer, which is named, does what no rule is known for.
        ModuleNotFoundError: SciPy is not installed.

    Source:
        Ainsworth, Hayase and Srinivasa, Git Re-Basin (2022), section 3.2: weight matching.

    Example:
        >>> def network():
        ...     return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))
        >>> a, b, x = network(), network(), torch.randn(4, 3)
        >>> c = network()
        >>> _ = c.load_state_dict(align(b, to=a, inputs=x))
        >>> torch.allclose(c(x), b(x), atol=1e-5)
        True
    """
    positive_int("restarts", restarts)
    generator = torch.Generator().manual_seed(seed_number("seed", seed))
    for name, model in (("model_b", model_b), ("to", to)):
        instance(name, model, nn.Module, "a torch.nn.Module")
    solver = _solver()
    pure = _Pure(unwrap(model_b), inputs)
    here, there = pure.tensors, _like(pure, unwrap(to))
    found = pure.symmetry()
    weights = list(pure.borrowed.layout.names)
    matching = match(
        {name: there[name] for name in weights},
        {name: here[name] for name in weights},
        found,
        solver,
        restarts=restarts,
        generator=generator,
    )
    aligned = permuted(here, found, matching.permutations)
    _confirm(pure(here), pure(aligned))
    state = {name: tensor.detach().clone() for name, tensor in pure.model.state_dict().items()}
    places = _first_names(pure.model)
    return {
        name: aligned[places[name]].clone() if places.get(name) in aligned else old
        for name, old in state.items()
    }


def symmetry_of(model: nn.Module, inputs: Any) -> Symmetry:
    """Which units of a model may be permuted, and which axes of its parameters and running statistics they are on.

    Args:
        model: any module of layers that rules are known for; it stays as it is.
        inputs: data to record it with, as for :func:`align`.

    Raises:
        ValueError: a layer, which is named, does what no rule is known for.

    Example:
        >>> found = symmetry_of(nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)), torch.ones(1, 3))
        >>> found.sizes
        (8,)
    """
    return _Pure(unwrap(model), inputs).symmetry()


class _Pure:
    """A model as a pure function of its trainable parameters and running statistics, in evaluation mode.

    Attributes:
        model, borrowed: the module, and its loan.
        tensors: the parameters and statistics by name.
    """

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        self.model = model
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.borrowed = Borrowed(model, device=device)
        self.inputs = pytree.tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, inputs)
        self.tensors = self.borrowed.layout.unravel(self.borrowed.theta)
        for name, tensor in self.borrowed.constants.items():
            if name.startswith("model.") and name.rpartition(".")[2] in STATISTICS:
                self.tensors[name.removeprefix("model.")] = tensor
        self._pose = evaluating(self.borrowed.pipeline)

    def __call__(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """All outputs as one tensor: as it is, if there is just one."""
        with torch.no_grad():
            kept = pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, self.inputs)
            return self._run(tensors, kept, lambda model: None)

    def symmetry(self) -> Symmetry:
        """The permutations that the outputs are invariant under."""
        names = list(self.tensors)
        data, structure = pytree.tree_flatten(self.inputs)
        places = [i for i, leaf in enumerate(data) if isinstance(leaf, Tensor)]

        def function(*values: Tensor) -> Tensor:
            """The outputs for parameters and, where the model writes into them, data; as few inputs as will do."""
            given = list(data)
            for place, value in zip(places, values[len(names) :], strict=False):
                given[place] = value.clone()  # functionalized, unlike what it is a clone of
            inputs = pytree.tree_unflatten(given, structure)
            return self._run(dict(zip(names, values[: len(names)], strict=True)), inputs, _label)

        def recorded(*also: Tensor) -> Symmetry:
            pure = torch.func.functionalize(function, remove="mutations")
            return symmetry(record(pure, *self.tensors.values(), *also), names)

        try:
            try:
                return recorded()
            except RecordingError as error:
                if "writes to" not in str(error):
                    raise
                return recorded(*(data[place] for place in places))
        except RecordingError as error:
            raise ValueError(f"model_b cannot be aligned: {error}") from error
        except UnknownOperationError as error:
            layer = dict(self.model.named_modules())[error.layer]
            raise ValueError(
                f"layer {error.layer or 'the model itself'!r} ({type(layer).__name__}) calls {error.operation}, and "
                f"how permutations pass through that is not known; known are {KNOWN}"
            ) from error

    def _run(
        self, tensors: Mapping[str, Tensor], inputs: Any, prepare: Callable[[nn.Module], None]
    ) -> Tensor:
        moving = set(self.borrowed.layout.names)

        def task(model: nn.Module, data: Any) -> Tensor:
            prepare(model)
            return _joined(_outputs(model, data))

        return self.borrowed(
            task,
            {name: tensor for name, tensor in tensors.items() if name in moving},
            inputs,
            pose=self._pose,
            buffers={f"model.{name}": tensor for name, tensor in tensors.items() if name not in moving},
        )


def _outputs(model: nn.Module, data: Any) -> Any:
    if isinstance(data, Mapping):
        return model(**data)
    return model(*data) if isinstance(data, (tuple, list)) else model(data)


def _joined(outputs: Any) -> Tensor:
    leaves = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
    if not leaves:
        raise TypeError(f"the model returns {type(outputs).__name__} without a tensor in it")
    return leaves[0] if len(leaves) == 1 else torch.cat([leaf.reshape(-1) for leaf in leaves])


def _label(model: nn.Module) -> None:
    """Lets a recording know which layer an operation belongs to; the model's loan removes the hooks."""
    inside: list[str] = []

    def enter(name: str) -> None:
        inside.append(name)
        belongs_to(name)

    def leave() -> None:
        inside.pop()
        belongs_to(inside[-1] if inside else "")

    for name, module in model.named_modules():
        module.register_forward_pre_hook(lambda *_, name=name: enter(name))
        module.register_forward_hook(lambda *_: leave())


def _like(pure: _Pure, model: nn.Module) -> dict[str, Tensor]:
    """The tensors of another model by the same names, if it has the same."""
    there = parameters_of(model)
    for name in pure.borrowed.layout.names:
        mine = pure.tensors[name]
        if name not in there or there[name].shape != mine.shape:
            shape = list(there[name].shape) if name in there else "nothing"
            raise ValueError(
                f"to is of another architecture than model_b, whose {name!r} has shape {list(mine.shape)}; there it "
                f"has {shape}"
            )
    return {name: there[name].to(pure.tensors[name]) for name in pure.borrowed.layout.names}


def _first_names(model: nn.Module) -> dict[str, str]:
    """Every name of a parameter or buffer, and the first one of the same tensor: tied ones have several."""
    first: dict[int, str] = {}
    found = {}
    for name, tensor in chain(
        model.named_parameters(remove_duplicate=False), model.named_buffers(remove_duplicate=False)
    ):
        found[name] = first.setdefault(id(tensor), name)
    return found


def _confirm(before: Tensor, after: Tensor) -> None:
    """Raises unless both are the same outputs: no rule that is wrong goes unnoticed."""
    if not before.is_floating_point():
        return
    scale = float(before.detach().abs().max()) if before.numel() else 0.0
    off = float((after - before).abs().max()) if before.numel() else 0.0
    if off > ROUNDING * torch.finfo(before.dtype).eps ** 0.5 * scale:
        raise RuntimeError(
            f"the permuted model gives outputs that are off by {off:.2g} of {scale:.2g}; please report this model"
        )


def _solver() -> Callable[[Tensor], Tensor]:
    """SciPy's solver of the linear assignment problem."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "align needs SciPy, which is not installed; python -m pip install 'lla-func[align]'"
        ) from error

    def assign(scores: Tensor) -> Tensor:
        return torch.from_numpy(linear_sum_assignment(scores.numpy(), maximize=True)[1]).long()

    return assign
