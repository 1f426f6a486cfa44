"""Directions in weight space: drawn at random, made orthogonal, scaled to the weights, frozen in part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from lla_func.errors import finite_number, finite_tensor, flag, instance, names, one_of, positive_int, shown
from lla_func.objective import Layout

__all__ = [
    "KINDS",
    "Moments",
    "adam_step",
    "freeze",
    "normalize",
    "orthogonalize",
    "random",
    "without_bias_norm",
]

KINDS = (None, "weight", "layer", "model", "filter")

CHUNK = 2**18
"""Elements that are taken to float64 at once."""


def random(
    layout: Layout,
    count: int,
    *,
    generator: torch.Generator,
    distribution: str = "normal",
    orthogonal: bool = True,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Random directions, orthogonal to one another within every filter.

    They are drawn on the generator's device, so that a CPU generator gives the same directions for a model on any
    device. The original draws from [0, 1], which gives every direction a common component along (1, ..., 1); here
    ``"uniform"`` means [-1, 1]. Its second direction is not orthogonal to the first once it is normalized; see
    :func:`orthogonalize`.

    Args:
        layout: how theta [P] is laid out.
        count: K, how many directions.
        generator: the only source of randomness.
        distribution: ``"normal"`` (N(0, 1), as in Li et al. 2018) or ``"uniform"``.
        orthogonal: whether to make them orthogonal.
        dtype: by default torch's default dtype; :func:`normalize` converts to that of theta.

    Returns:
        directions, [K, P].

    Example:
        >>> layout = Layout.of({"weight": torch.ones(4, 8)})
        >>> basis = random(layout, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> bool((basis[0] @ basis[1]).abs() < 1e-12)
        True
    """
    one_of("distribution", distribution, ("normal", "uniform"))
    instance("layout", layout, Layout, "a Layout")
    count = positive_int("count", count, most=layout.numel if flag("orthogonal", orthogonal) else 2**63 - 1)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype={dtype!r} is no real floating dtype; pass torch.float32 or torch.float64")
    if not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator={generator!r} is not a torch.Generator; pass torch.Generator().manual_seed(seed)"
        )
    shape = (count, layout.numel)
    if distribution == "normal":
        basis = torch.randn(shape, generator=generator, dtype=dtype, device=generator.device)
    else:
        basis = torch.rand(shape, generator=generator, dtype=dtype, device=generator.device).mul_(2).sub_(1)
    return _orthogonalized(basis, layout) if orthogonal else basis


def orthogonalize(basis: Tensor, layout: Layout) -> Tensor:
    """Makes each direction orthogonal to those before it, within every filter where that is possible.

    Directions that are orthogonal within every filter stay orthogonal, to rounding, under any rescaling of filters,
    layers or the model and when whole parameters are frozen. A filter with fewer than K elements cannot hold K
    orthogonal directions; there the whole parameter is used, and failing that (scalars) all of theta. Only then can
    rescaling filters tilt the directions; :func:`lla_func.geometry.summary` reports the angle.

    Args:
        basis: directions, [K, P].
        layout: how theta [P] is laid out.

    Returns:
        directions [K, P]; the first is the first of ``basis``.

    Raises:
        ValueError: the directions are linearly dependent.
    """
    _check_basis(basis, layout)
    return _orthogonalized(basis.clone(), layout)


def _orthogonalized(basis: Tensor, layout: Layout) -> Tensor:
    """The same in place: directions may be as large as memory allows."""
    for view in _segments(basis, layout, least=len(basis)):
        _gram_schmidt(view)
    whole = basis.unsqueeze(1)
    before = torch.linalg.vector_norm(basis, dim=1)
    _gram_schmidt(whole)
    after = torch.linalg.vector_norm(basis, dim=1)
    if not (after > 1e-6 * before).all():
        raise ValueError(
            f"basis [{len(basis)}, {layout.numel}] is linearly dependent, so it cannot be made orthogonal; draw fewer "
            "directions (dim=1) where fewer parameters move, and look for weights that are all zero"
        )
    return basis


def normalize(
    basis: Tensor,
    theta: Tensor,
    layout: Layout,
    *,
    kind: str | None,
    order: int = 2,
    ignore: str | None = None,
) -> Tensor:
    """Scales directions to the weights, so that landscapes of different networks can be compared.

    ========== ==============================================================================
    kind       each direction d becomes
    ========== ==============================================================================
    None       d, unchanged
    "weight"   d * theta, element by element
    "layer"    d * |theta| / |d| within each parameter tensor
    "model"    d * |theta| / |d| over all parameters
    "filter"   d * |theta| / |d| within each filter (Li et al. 2018, section 4)
    ========== ==============================================================================

    Norms are real ones. The original's L1 norm is a sum without absolute values, so that directions, or single filters
    of them, are turned round and blown up where the sum is negative or small; and for ``"model"`` it rescales once for
    each parameter. Where theta or d vanishes the result vanishes.

    Args:
        basis: directions, [K, P].
        theta: the weights, [P]; the result has their dtype and device.
        layout: how theta is laid out.
        kind: one of :data:`KINDS`.
        order: 1 or 2, for L1 or L2 norms.
        ignore: ``"bias_norm"`` leaves biases and normalization layers where they are (:func:`without_bias_norm`).

    Returns:
        directions, [K, P].
    """
    one_of("kind", kind, KINDS)
    one_of("order", order, (1, 2))
    one_of("ignore", ignore, (None, "bias_norm"))
    _check_basis(basis, layout)
    finite_tensor("theta", theta, (layout.numel,))
    basis = basis.to(theta, copy=True)
    if kind == "weight":
        basis *= theta
    elif kind is not None:
        scopes = {
            "filter": layout.filters,
            "layer": lambda x: _tensors(x, layout),
            "model": lambda x: iter([x[:, None]]),
        }
        for view, weights in zip(scopes[kind](basis), scopes[kind](theta.unsqueeze(0)), strict=True):
            length, target = _norm(view, order), _norm(weights, order)
            view *= torch.where(length > 0, target / length, 0.0)
    return without_bias_norm(basis, layout) if ignore else basis


def without_bias_norm(basis: Tensor, layout: Layout) -> Tensor:
    """Sets directions [K, P] to zero on biases and on the parameters of normalization layers."""
    _check_basis(basis, layout)
    frozen = [i for i, role in enumerate(layout.roles) if role != "weight"]
    return basis.masked_fill(layout.mask(frozen, device=basis.device), 0.0)


def freeze(basis: Tensor, layout: Layout, frozen: int | str | Iterable[str]) -> Tensor:
    r"""Sets directions to zero on frozen parameters, which then stay exactly at the trained values.

    Args:
        basis: directions, [K, P].
        layout: how theta [P] is laid out.
        frozen: an integer n as in LLA, n > 0: parameter tensors n, n + 1, ... (counted from 0) do not move, n < 0:
            tensors 0, ..., \\|n\\| - 1 do not move; or one or more name patterns such as ``"features.*"``.

    Returns:
        directions, [K, P].

    Raises:
        ValueError: the rule names no parameter, or all of them.
    """
    _check_basis(basis, layout)
    count = len(layout.names)
    if isinstance(frozen, (bool, float)):
        raise TypeError(f"freeze={shown(frozen)} is not allowed; pass a layer number or a name pattern")
    if hasattr(frozen, "__index__"):
        number = positive_int("freeze", frozen, least=-(2**63))
        if not 0 < abs(number) < count:
            raise ValueError(
                f"freeze={number} is out of range; the model has {count} parameter tensors, "
                f"pass 1 to {count - 1} (freeze from there on) or -1 to {1 - count} (freeze those before)"
            )
        indices: Iterable[int] = range(number, count) if number > 0 else range(-number)
    else:
        indices = layout.matching(names("freeze", frozen), name="freeze")
        if len(tuple(indices)) == count:
            raise ValueError(f"freeze={frozen!r} matches all {count} parameters; nothing is left to move")
    return basis.masked_fill(layout.mask(indices, device=basis.device), 0.0)


class Moments(NamedTuple):
    """What Adam remembers of the gradients, along theta.

    Parameters without state (not in the optimizer, or never given a gradient) have zeros.

    Attributes:
        first: the bias-corrected first moment, m / (1 - beta1^t), [P].
        second: the bias-corrected second moment, v / (1 - beta2^t), [P]; with amsgrad the largest so far.
        lr: the learning rate, a number, or a vector [P] if parameter groups differ.
        eps: the number added to sqrt(second), likewise.
        raw_first: m as the optimizer stores it, [P].
        raw_second: v as the optimizer stores it, [P].
    """

    first: Tensor
    second: Tensor
    lr: Tensor | float
    eps: Tensor | float
    raw_first: Tensor
    raw_second: Tensor

    @property
    def directions(self) -> Tensor:
        """Both moments as directions, [2, P]."""
        return torch.stack([self.first, self.second])


def adam_step(first: Tensor, second: Tensor, *, lr: Tensor | float, eps: Tensor | float) -> Tensor:
    """Adam's update -lr m / (sqrt(v) + eps) from its bias-corrected moments (Kingma and Ba 2015, algorithm 1).

    Args:
        first: m [P], bias-corrected.
        second: v [P], bias-corrected, not negative.
        lr: learning rate, a number or one for each parameter [P].
        eps: the number that keeps the denominator positive, likewise.

    Returns:
        the step, [P]; zero where m is zero.
    """
    finite_tensor("first", first, ("P",))
    finite_tensor("second", second, tuple(first.shape))
    for name, value in (("lr", lr), ("eps", eps)):
        if isinstance(value, Tensor) and value.ndim:
            finite_tensor(name, value, tuple(first.shape))
            finite_number(f"the smallest {name}", value.min(), least=0)
        else:
            finite_number(name, value, least=0)
    if (second < 0).any():
        raise ValueError(
            f"second moment is negative (smallest {float(second.min()):g}); it is a mean of squares"
        )
    step = -lr * first / (second.sqrt() + eps)
    return torch.where(first == 0, torch.zeros_like(first), step)


def _segments(basis: Tensor, layout: Layout, *, least: int) -> Iterator[Tensor]:
    """Views [K, S, ...] of each parameter's smallest segments that have at least ``least`` elements."""
    for filters, tensor in zip(layout.filters(basis), _tensors(basis, layout), strict=True):
        if filters[0, 0].numel() >= least:
            yield filters
        elif tensor[0].numel() >= least:
            yield tensor


def _tensors(vectors: Tensor, layout: Layout) -> Iterator[Tensor]:
    """Views of each parameter as a single segment, [K, 1, elements]."""
    return (rearrange(tensor, "k ... -> k 1 (...)") for tensor in layout.unravel(vectors).values())


def _gram_schmidt(segments: Tensor) -> None:
    """Orthogonalizes in place along the first axis of [K, S, ...], independently in each segment; twice is enough."""
    for k in range(1, len(segments)):
        squares = [_inner(segment, segment) for segment in segments[:k]]
        for j in [*range(k)] * 2:
            factor = torch.where(squares[j] > 0, _inner(segments[k], segments[j]) / squares[j], 0.0)
            segments[k].addcmul_(factor.to(segments.dtype), segments[j], value=-1)


def _inner(first: Tensor, second: Tensor) -> Tensor:
    """The inner products of segments [S, ...] in float64, [S, 1, ...]; never with a float64 copy of all of theta."""
    # Not lla_func._torch.inner, whose sums differ in the last bits of float64: stores know directions by these bits.
    a, b = first.flatten(1), second.flatten(1)
    total = a.new_zeros(len(a), dtype=torch.float64)
    rows = max(1, CHUNK // max(1, a.shape[1]))
    for x, y, sums in zip(a.split(rows), b.split(rows), total.split(rows), strict=True):
        for part, other in zip(x.split(CHUNK, 1), y.split(CHUNK, 1), strict=True):
            sums += (part.double() * other).sum(1)
    return total.reshape(-1, *[1] * (first.ndim - 1))


def _norm(view: Tensor, order: int) -> Tensor:
    """The norms of segments [K, S, ...], shaped to scale them."""
    return torch.linalg.vector_norm(view, ord=order, dim=tuple(range(2, view.ndim)), keepdim=True)


def _check_basis(basis: Tensor, layout: Layout) -> None:
    instance("layout", layout, Layout, "a Layout")
    finite_tensor("basis", basis, ("K", layout.numel))
