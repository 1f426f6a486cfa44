"""Products with the Hessian and its relatives: from an Objective to an Operator on vectors [P] and blocks [B, P].

Four symmetric matrices of an objective, each over all its data and weighted as in the risk; none is ever formed:

    hessian             second derivatives of the risk
    ggn                 J^T H J, the Hessian with the model replaced by its linearization
    fisher              sum of outer products of the gradients of single samples
    finite_difference   the Hessian from differences of gradients, where nothing else works

All take the options of :func:`hessian`. The kernel that differentiates is named in ``Operator.name``; which one it is
changes results by rounding only.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from lla_func.errors import finite_number, instance
from lla_func.hessian._assembly import carry_out
from lla_func.hessian._autotune import KernelChoice
from lla_func.hessian._choice import Choice
from lla_func.hessian._exact import patterns_of, with_trace_of_ggn, with_trace_of_hessian
from lla_func.hessian._gauss_newton import (
    check_composition,
    outputs_and_criterion,
    sample_losses,
    sample_weights,
)
from lla_func.hessian._kernels import KERNELS, Product, cut, gradient
from lla_func.hessian._per_sample import curvatures
from lla_func.hessian._request import prepare
from lla_func.objective import Batch, Objective
from lla_func.spectrum import Operator


def hessian(
    objective: Objective,
    *,
    parameters: str | Iterable[str] | None = None,
    kernel: str | Choice = "auto",
    blocks: str = "auto",
    tile: int | None = None,
    memory: float | None = None,
    choice: Choice | None = None,
    probe: bool = True,
) -> Operator:
    """The Hessian of the risk at the point under study.

    Attention runs by plain matrix products and float32 without TensorFloat-32 while products are computed.

    Args:
        objective: the loss and its data.
        parameters: shell-style patterns of names, such as ``"layer1.*"``, to restrict it to: a diagonal block, for
            vectors of its own length. All by default.
        kernel: how to differentiate (:mod:`lla_func.hessian._kernels`): "vjp", "linearize" or "recompute"; "timed" to
            try them on some samples and take the fastest, which may change the last bits from run to run; or "auto":
            below about a second of work a rule without a clock, so that the same call gives the same bits, above a
            few timed products on some of the data. The choice of an earlier operator (``operator.choice``) repeats its
            bits.
        blocks: "vmap" to compute the products with the vectors of a block together, "rows" for one after another,
            or "auto" to take the faster.
        tile: the most samples in a piece of data, if the objective is separable; by default as many as leave the
            largest tensor in a cache.
        memory: bytes that a kernel may keep between products; half of what is free by default. With 0 nothing is
            kept, and data that streams never stays.
        choice: that of an earlier operator, in place of kernel, blocks and tile.
        probe: whether to test first that loss and data are reproducible and the operator is symmetric, which takes
            two products; three where data streams.

    Returns:
        the operator on vectors of the dtype and device of theta.

    Raises:
        TypeError, ValueError: an argument cannot be used, or the probe failed; the message says what to look for.
        RuntimeError: an operation lacks a derivative; it is named, with the ways out.

    Example:
        >>> from lla_func import from_loss
        >>> curve = from_loss(lambda theta, batch: (theta**3).sum(), torch.tensor([1.0, 2.0]))
        >>> hessian(curve, kernel="vjp").matvec(torch.ones(2))
        tensor([ 6., 12.])
    """
    parameters = patterns_of(parameters)
    if choice is not None:
        instance(
            "choice", choice, Choice, "the choice of an operator, such as products.hessian(objective).choice"
        )
        if kernel != "auto":
            raise ValueError(f"kernel={kernel!r} comes beside choice={choice}, which names one; leave it out")
        kernel = choice
    request = prepare(objective, "hessian", parameters, kernel, blocks, tile, memory)

    def build(kernel: str, batch: Batch) -> Product:
        return KERNELS[kernel].hessian(lambda x: objective.loss(request.theta(x), batch), request.parts)

    def nearby() -> Operator:
        return ggn(objective, parameters=parameters, memory=memory, tile=tile, probe=False)

    operator = carry_out(request, build, probe=probe)._replace(per_sample=curvatures(request))
    return with_trace_of_hessian(operator, objective, parameters, nearby)


def ggn(
    objective: Objective,
    *,
    parameters: str | Iterable[str] | None = None,
    kernel: str | Choice = "auto",
    blocks: str = "auto",
    tile: int | None = None,
    memory: float | None = None,
    probe: bool = True,
) -> Operator:
    """The generalized Gauss-Newton matrix J^T H J (Schraudolph 2002, section 3).

    J is the Jacobian of the model's outputs, H the Hessian of the criterion with respect to them. For a criterion that
    is convex in the outputs the matrix has no negative eigenvalue. For cross-entropy and squared error it is, up to
    scale, the Fisher information under the model's own predictions, in contrast to :func:`fisher`.

    Args:
        objective: with ``outputs`` and ``criterion``, which split the loss.
        parameters, kernel, blocks, tile, memory, probe: as for :func:`hessian`.

    Raises:
        TypeError, ValueError, RuntimeError: as for :func:`hessian`; and if the objective has no such split, or its
            parts don't make up the loss.

    Example:
        >>> from lla_func import from_loss
        >>> x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([0.0, 1.0])
        >>> fit = from_loss(
        ...     lambda theta, batch: (torch.tanh(batch[0] @ theta) - batch[1]).square().mean(),
        ...     torch.zeros(1),
        ...     [(x, y)],
        ...     outputs=lambda theta, batch: torch.tanh(batch[0] @ theta),
        ...     criterion=lambda output, batch: (output - batch[1]).square().mean(),
        ... )
        >>> ggn(fit, kernel="vjp").matvec(torch.ones(1))
        tensor([5.])
    """
    parameters = patterns_of(parameters)
    request = prepare(objective, "ggn", parameters, kernel, blocks, tile, memory)
    if objective.outputs is None or objective.criterion is None:
        raise ValueError(
            "objective does not say which part of the loss is the model and which the criterion, which ggn needs; pass "
            "outputs=... and criterion=... to from_loss, use a metric that splits its loss, or take products.hessian"
        )

    def build(kernel: str, batch: Batch) -> Product:
        outputs, criterion = outputs_and_criterion(objective, batch, request.theta)
        return KERNELS[kernel].gauss_newton(outputs, criterion, request.parts)

    if probe:
        check_composition(objective)
    return with_trace_of_ggn(carry_out(request, build, probe=probe), objective, parameters)


def fisher(
    objective: Objective,
    *,
    parameters: str | Iterable[str] | None = None,
    kernel: str | Choice = "auto",
    blocks: str = "auto",
    tile: int | None = None,
    memory: float | None = None,
    probe: bool = True,
) -> Operator:
    """The empirical Fisher matrix, the uncentered covariance of the gradients of single samples.

    With the gradient g_i of the loss of sample i, over all N samples of all batches, it is

        1/N sum_i g_i g_i^T   for reduction="mean",        sum_i g_i g_i^T   for reduction="sum",

    on the scale of the Hessian of the risk in both cases. Where samples have weights (``objective.weight``), the mean
    is the weighted one. It is the Gauss-Newton matrix of the losses of single samples under half their (mean) square,
    and so computed: no gradient of a single sample is ever formed. It takes labels from the data, not from the model's
    predictions, and need not be close to the Hessian (Kunstner et al. 2019).

    Args:
        objective: a separable one, since the loss of a single sample must make sense.
        parameters, kernel, blocks, tile, memory, probe: as for :func:`hessian`.

    Raises:
        TypeError, ValueError, RuntimeError: as for :func:`hessian`; and if the objective isn't separable.

    Example:
        >>> from lla_func import from_loss
        >>> x = torch.tensor([[1.0], [3.0]])
        >>> linear = from_loss(lambda theta, x: (x @ theta).mean(), torch.ones(1), [x], separable=True)
        >>> fisher(linear, kernel="vjp").matvec(torch.ones(1))
        tensor([5.])
    """
    request = prepare(objective, "fisher", parameters, kernel, blocks, tile, memory)
    if not objective.separable:
        raise ValueError(
            "objective is not separable, so there are no gradients of single samples, which fisher needs: the loss of "
            "a batch must be the mean or sum of those of its samples (no batch statistics). "
            "Pass separable=True if it is; otherwise take products.ggn"
        )

    def build(kernel: str, batch: Batch) -> Product:
        weights, batch = sample_weights(objective, batch)
        return KERNELS[kernel].gauss_newton(
            lambda x: sample_losses(objective, batch, request.theta(x)),
            lambda losses: (losses.square() * weights).sum() / 2,
            request.parts,
        )

    return carry_out(request, build, probe=probe)


def finite_difference(
    objective: Objective,
    *,
    parameters: str | Iterable[str] | None = None,
    step: float | None = None,
    tile: int | None = None,
    probe: bool = True,
) -> Operator:
    """The Hessian by central differences of the gradient, a last resort that needs first derivatives only.

        H v = (g(theta + h v) - g(theta - h v)) / (2 h)        (Pearlmutter 1994, section 2, in its central form)

    Its relative error is about 1e-4 in float32 and 1e-10 in float64 for smooth losses, far more where the gradient
    jumps (ReLU, max pooling), and it is symmetric only to that extent. "finite difference" in its name says so in
    every result.

    Args:
        objective, parameters, tile, probe: as for :func:`hessian`.
        step: the length of the move h v; by default (1 + |theta|) times the cube root of the machine precision, which
            balances rounding against the third derivative.

    Raises:
        TypeError, ValueError: as for :func:`hessian`, with a tolerance of 10 % for symmetry.

    Example:
        >>> from lla_func import from_loss
        >>> curve = from_loss(lambda theta, batch: (theta**3).sum(), torch.tensor([1.0, 2.0], dtype=torch.float64))
        >>> [round(float(x), 6) for x in finite_difference(curve).matvec(torch.ones(2, dtype=torch.float64))]
        [6.0, 12.0]
    """
    request = prepare(objective, "hessian", parameters, "vjp", "rows", tile)
    rounding = torch.finfo(request.point.dtype).eps
    if step is None:
        length = rounding ** (1 / 3) * (1 + float(request.point.norm()))
    else:
        length = finite_number("step", step, above=0)

    def build(_: str, batch: Batch) -> Product:
        def slope(x: Tensor) -> Tensor:
            return gradient(lambda x: objective.loss(request.theta(x), batch), cut(x, request.parts))

        def product(v: Tensor) -> Tensor:
            if not (norm := float(v.norm())):
                return torch.zeros_like(v)
            h = length / norm
            return (slope(request.point + h * v) - slope(request.point - h * v)) / (2 * h)

        return product

    choice = KernelChoice(("finite difference",), "finite difference", batched=False)
    return carry_out(request, build, choice=choice, probe=probe, tolerance=0.1)
