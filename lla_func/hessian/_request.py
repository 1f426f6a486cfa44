"""Requests: what is asked of an operator, checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lla_func._torch import differentiable, free_memory, load_forward_mode
from lla_func.errors import finite_number, names, one_of, positive_int
from lla_func.hessian._choice import Choice
from lla_func.hessian._kernels import KERNELS, Point
from lla_func.hessian._work import Work, measure, suited
from lla_func.objective import Objective, beginning


class Request(NamedTuple):
    """What is asked of an operator.

    Attributes:
        objective: the loss and its data.
        name: of the matrix, with the parameters it is restricted to.
        point: the variables at the point under study: theta [P], or a part of it.
        parts: the tensors that make up the point: views of it in the shapes of the parameters, or the point itself.
        theta: maps tensors in place of the parts to what the loss takes for theta.
        kernel, blocks, tile, memory: the options of :func:`lla_func.hessian.hessian`; the kernel may be "auto".
        rows: the vectors of a block that go together, where that is said.
        work: what the loss takes forward.
        hooked: whether the loss hooks into what its graph keeps, as checkpointing does, and runs again in products.
    """

    objective: Objective
    name: str
    point: Tensor
    parts: Point
    theta: Callable[[Point], Any]
    kernel: str
    blocks: str
    tile: int
    memory: float
    rows: int | None
    work: Work
    hooked: bool = False


def prepare(
    objective: Objective,
    name: str,
    parameters: str | Iterable[str] | None = None,
    kernel: str | Choice = "auto",
    blocks: str = "auto",
    tile: int | None = None,
    memory: float | None = None,
) -> Request:
    """Checks what all operators have in common."""
    if not isinstance(objective, Objective):
        raise TypeError(
            f"objective is of type {type(objective).__name__}; an Objective is needed: metric.objective(model), or "
            "from_loss(...) for a pure loss"
        )
    if objective.adapt is not None:
        raise ValueError(
            "the loss depends on theta also through statistics of all the data (recalibrated BatchNorm), which has no "
            "derivative here; make the objective with batchnorm='eval' or 'batch'"
        )
    rows = None
    if isinstance(kernel, Choice):
        kernel, rows, tile = _named(kernel, blocks, tile, objective)
    one_of("kernel", kernel, ("auto", "timed", *KERNELS))
    one_of("blocks", blocks, ("auto", "vmap", "rows"))
    if tile is not None and not objective.separable:
        raise ValueError(f"tile={tile!r}, but the objective is not separable: its batches cannot be cut")
    if memory is not None and finite_number("memory", memory) < 0:
        raise ValueError(f"memory={memory!r} is negative; pass a number of bytes, 0 to keep nothing")
    chosen = None
    if parameters is not None:
        patterns = names("parameters", parameters, otherwise=", or None for all parameters")
        chosen = objective.layout.matching(patterns, name="parameters")
        name = f"{name} of {', '.join(patterns)}"
    point, parts, theta = _variables(objective, chosen)
    taken, hooked = _check_loss(objective, name)
    if taken:
        if kernel in KERNELS and kernel != "vjp":
            raise ValueError(
                f"kernel={kernel!r} cannot see the derivatives that the loss takes on its way by torch.autograd; pass "
                "kernel='vjp', or take them by torch.func.grad"
            )
        kernel = "vjp"
    load_forward_mode()
    work = measure(objective)
    tile = suited(objective, work) if tile is None else positive_int("tile", tile)
    memory = free_memory(point.device) / 2 if memory is None else memory
    return Request(objective, name, point, parts, theta, kernel, blocks, tile, memory, rows, work, hooked)


def _named(
    choice: Choice, blocks: str, tile: int | None, objective: Objective
) -> tuple[str, int, int | None]:
    """Kernel, rows and tile of a choice; what is said beside it must be left open."""
    if blocks != "auto" or tile is not None:
        raise ValueError(
            f"blocks={blocks!r} and tile={tile!r} come beside a choice of both: {choice}; leave them out, or pass "
            "kernel=choice.kernel"
        )
    one_of("the kernel of choice", choice.kernel, KERNELS)
    rows = positive_int("the rows of choice", choice.rows)
    if not objective.separable or choice.tile is None:
        return choice.kernel, rows, None
    return choice.kernel, rows, positive_int("the tile of choice", choice.tile)


def check(objective: Objective) -> None:
    """Raises what :func:`lla_func.hessian.hessian` would raise for this objective before its first product."""
    prepare(objective, "the Hessian")


def _variables(
    objective: Objective, chosen: tuple[int, ...] | None
) -> tuple[Tensor, Point, Callable[[Point], Any]]:
    """The chosen parameters as a vector and as tensors, and theta as a function of these, everything else constant.

    A loss of named tensors sees constants as such, and their derivatives are not computed. A loss of a flat theta
    needs it in one piece, and derivatives with respect to all of it are.
    """
    theta, layout = objective.theta.detach(), objective.layout
    if chosen is None and not objective.named:
        return theta, (theta,), lambda x: x[0]
    part = layout if chosen is None else layout.only(chosen)
    point = theta if chosen is None else torch.cat([theta[layout.slices[i]] for i in chosen])

    def assembled(x: Point) -> Mapping[str, Tensor] | Tensor:
        named = dict(zip(part.names, x, strict=True))
        if chosen is not None:
            named = layout.unravel(theta) | named
        return named if objective.named else torch.cat([named[name].reshape(-1) for name in layout.names])

    return point, tuple(part.unravel(point).values()), assembled


def _check_loss(objective: Objective, name: str) -> tuple[bool, bool]:
    """Raises unless the loss is a scalar that depends on theta; errors in the loss itself come up here, unchanged.

    Returns:
        whether it takes derivatives on its way that transforms of torch.func don't see, and whether it hooks into what
        its graph keeps.
    """
    with differentiable(), _Derivatives() as derivatives:
        leaf = objective.theta.detach().requires_grad_()
        few, hooked = beginning(objective, 16), False
        try:
            with torch.autograd.graph.disable_saved_tensors_hooks("hooked"):
                value = objective.loss(leaf, few)
        except RuntimeError as error:
            if "hooked" not in str(error):
                raise
            hooked, value = True, objective.loss(leaf, few)
    if not isinstance(value, Tensor) or value.ndim:
        came = f"of shape {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ValueError(
            f"the loss is {came}; {name} needs a tensor without axes: the mean or sum over a batch"
        )
    if not value.requires_grad:
        raise ValueError(
            f"the loss does not depend on theta in a way that can be differentiated, which {name} needs. Look for "
            ".detach(), .item(), numpy or torch.no_grad() in the loss"
        )
    return derivatives.taken, hooked


class _Derivatives(TorchFunctionMode):
    """Watches for derivatives that are taken by autograd itself, not by a transform of torch.func."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.autograd.grad, torch.autograd.backward, Tensor.backward):
            self.taken |= torch._C._functorch.peek_interpreter_stack() is None
        return function(*args, **(kwargs or {}))
