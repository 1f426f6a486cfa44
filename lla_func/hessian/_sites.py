"""Sites: where parameters meet data, and what each sample's gradient there is, without a gradient for each sample.

At a linear layer the gradient of sample i is a^T b, of what came in and of the signal that comes back, summed over its
positions (tokens, pixels): for a single position its squared norm is |a|^2 |b|^2, for several it is a product of Gram
matrices or that of the gradient itself, whichever is smaller (Goodfellow 2015; Bu et al. 2022). Convolutions are linear
layers of patches. Biases, scales and embeddings have gradients that are small or sparse.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

aten = torch.ops.aten


class NotCoveredError(Exception):
    """A parameter meets data in a way that has no formula here."""


class Axis(NamedTuple):
    """Where samples lie in a tensor: along this axis, each with its positions together (``major``) or strewn."""

    axis: int
    major: bool


def by_sample(value: Tensor, where: Axis, count: int) -> Tensor:
    """The tensor with samples on the first axis; all other axes follow, that which held them with its T positions."""
    size = value.shape[where.axis]
    shape = (count, size // count) if where.major else (size // count, count)
    split = value.unflatten(where.axis, shape)
    return split.movedim(where.axis + (0 if where.major else 1), 0)


class Outer(NamedTuple):
    """Gradients sum_t a_t b_t^T of n samples, in g groups: a is [n, g, T, I], b is [n, g, T, O]."""

    a: Tensor
    b: Tensor
    turned: bool
    """Whether the parameter is [.., O, I]."""

    def squares(self) -> Tensor:
        (positions, inward), outward = self.a.shape[2:], self.b.shape[-1]
        if positions == 1:
            return (_square(self.a, 2) * _square(self.b, 2)).sum(1)
        if positions * (inward + outward) < inward * outward:
            return torch.einsum("ngst,ngst->n", self.a @ self.a.mT, self.b @ self.b.mT)
        return _square(self.a.mT @ self.b, 1)

    def dense(self, shape: Sequence[int]) -> Tensor:
        gradient = self.b.mT @ self.a if self.turned else self.a.mT @ self.b
        return gradient.reshape(len(self.a), *shape)


class Plain(NamedTuple):
    """Gradients of n samples, [n, ...]."""

    gradients: Tensor

    def squares(self) -> Tensor:
        return _square(self.gradients, 1)

    def dense(self, shape: Sequence[int]) -> Tensor:
        return self.gradients.reshape(len(self.gradients), *shape)


class Rows(NamedTuple):
    """Gradients of a table [V, D] of which sample i looks up the rows looked_up[i] [T]: signals are [n, T, D]."""

    looked_up: Tensor
    signals: Tensor

    def squares(self) -> Tensor:
        same = self.looked_up[:, :, None] == self.looked_up[:, None, :]
        return ((self.signals @ self.signals.mT) * same).sum((1, 2))

    def dense(self, shape: Sequence[int]) -> Tensor:
        found = self.signals.new_zeros(len(self.looked_up), *shape)
        return found.scatter_add(1, self.looked_up[..., None].expand_as(self.signals), self.signals)


Gradients = Outer | Plain | Rows


class Site(NamedTuple):
    """An operation that takes a parameter and data.

    Attributes:
        operation: of aten.
        arguments: its arguments, all tensors with their values.
        shape: of its result.
    """

    operation: Any
    arguments: Sequence[Any]
    options: Mapping[str, Any]
    shape: torch.Size


Formula = Callable[[Site, int, Tensor, Axis, int], Gradients]
"""Maps a site, the place of a parameter among its arguments, the signal that comes back to its result, where samples
lie in it and how many they are, to the gradients with respect to that parameter."""


def _square(value: Tensor, start: int) -> Tensor:
    return value.flatten(start).square().sum(start) if value.ndim > start else value.square()


def _matrix(value: Tensor, where: Axis, count: int) -> Tensor:
    """[n, 1, T, features]: the last axis holds features, all others but that of samples are positions."""
    if where.axis == value.ndim - 1:
        raise NotCoveredError
    return by_sample(value, where, count).flatten(1, -2)[:, None]


def _reduced(signal: Tensor, where: Axis, count: int, shape: Sequence[int]) -> Plain:
    """The signals of an operand that was broadcast from this shape."""
    lead = signal.ndim - len(shape)
    over = [i for i, size in enumerate((*(1,) * lead, *shape)) if size == 1]
    if (own := where.axis - lead) >= 0 and shape[
        own
    ] != 1:  # a row for each sample, such as a first hidden state
        if shape[own] != count:
            raise NotCoveredError
        rows = (signal.sum(over) if over else signal).reshape(tuple(shape))
        apart = signal.new_zeros(count, *shape)
        apart.diagonal(0, 0, 1 + own).copy_(rows.movedim(own, -1))
        return Plain(apart)
    found = by_sample(signal, where, count)
    return Plain(found.sum([1 + i for i in over]) if over else found)


def _mm(site: Site, place: int, signal: Tensor, where: Axis, count: int) -> Gradients:
    if site.options:
        raise NotCoveredError
    *bias, x, _ = site.arguments
    if place < len(bias):
        return _reduced(signal, where, count, bias[0].shape)
    weight = site.arguments[-1]
    if place == len(bias) or (weight.ndim == 3 and len(weight) > 1):
        raise NotCoveredError
    if site.operation is aten.mv.default:
        signal = signal[..., None]
    return Outer(_matrix(x, where, count), _matrix(signal, where, count), False)


def _convolution(site: Site, place: int, signal: Tensor, where: Axis, count: int) -> Gradients:
    x, weight, _, stride, padding, dilation, transposed, _, groups = site.arguments
    if transposed or where != Axis(0, True) or place == 0:
        raise NotCoveredError
    if place == 2:
        return Plain(by_sample(signal.flatten(2).sum(2), where, count).sum(1))
    axes = x.ndim - 2
    x = F.pad(x, [p for p in reversed([*padding]) for _ in range(2)]) if any(padding) else x
    for i, size in enumerate(weight.shape[2:]):
        x = x.unfold(2 + i, dilation[i] * (size - 1) + 1, stride[i])[..., :: dilation[i]]
    # [N, C, *places, *kernel] -> [N, g, places, C / g * kernel]
    x = x.unflatten(1, (groups, -1)).movedim(2, 2 + axes).flatten(2 + axes).flatten(2, 1 + axes)
    b = signal.unflatten(1, (groups, -1)).flatten(3).mT
    if len(x) != count:  # several images a sample
        x, b = (v.unflatten(0, (count, -1)).transpose(1, 2).flatten(2, 3) for v in (x, b))
    return Outer(x, b, True)


def _elementwise(site: Site, place: int, signal: Tensor, where: Axis, count: int) -> Gradients:
    if site.options or not isinstance(site.arguments[1 - place], Tensor):
        raise NotCoveredError
    if site.operation is aten.mul.Tensor:
        signal = signal * site.arguments[1 - place]
    elif site.operation is aten.sub.Tensor and place == 1:
        signal = -signal
    return _reduced(signal, where, count, site.arguments[place].shape)


def _addcmul(site: Site, place: int, signal: Tensor, where: Axis, count: int) -> Gradients:
    if site.options:
        raise NotCoveredError
    if place > 0:
        signal = signal * site.arguments[3 - place]
    return _reduced(signal, where, count, site.arguments[place].shape)


def _cat(site: Site, place: int, signal: Tensor, where: Axis, count: int) -> Gradients:
    *parts, last = site.arguments
    axis = last if isinstance(last, int) else 0
    parts = parts if isinstance(last, int) else [*parts, last]
    axis %= signal.ndim
    if axis == where.axis:
        raise NotCoveredError
    start = sum(part.shape[axis] for part in parts[:place])
    own = parts[place]
    return _reduced(signal.narrow(axis, start, own.shape[axis]), where, count, own.shape)


def _embedding(site: Site, place: int, signal: Tensor, where: Axis, count: int) -> Gradients:
    _, index, *rest = site.arguments
    if place != 0 or any(rest[1:]):
        raise NotCoveredError
    if rest and rest[0] >= 0:
        signal = signal * (index != rest[0])[..., None]
    rows = by_sample(index, where, count).flatten(1)
    return Rows(rows, by_sample(signal, where, count).flatten(1, -2))


def _layer_norm(site: Site, place: int, signal: Tensor, where: Axis, count: int) -> Gradients:
    x, shape, _, _, eps = site.arguments
    if place == 0:
        raise NotCoveredError
    if place == 2:
        signal = signal * aten.native_layer_norm(x, shape, None, None, eps)[0]
    return _reduced(signal, where, count, shape)


def _channel_norm(site: Site, place: int, signal: Tensor, where: Axis, count: int) -> Gradients:
    x, _, _, *rest = site.arguments
    if place == 0 or (site.operation is aten.native_batch_norm.default and rest[2]):
        raise NotCoveredError
    if place == 1:
        signal = signal * site.operation(x, None, None, *rest)[0]
    return _reduced(signal, where, count, (signal.shape[1], *(1,) * (signal.ndim - 2)))


def _prelu(site: Site, place: int, signal: Tensor, where: Axis, count: int) -> Gradients:
    x, weight = site.arguments
    if place == 0:
        raise NotCoveredError
    return _reduced(signal * x.clamp(max=0), where, count, weight.shape)


FORMULAS: Mapping[Any, Formula] = {
    aten.mm.default: _mm,
    aten.mv.default: _mm,
    aten.addmm.default: _mm,
    aten.bmm.default: _mm,  # with one matrix for all of the batch
    aten.convolution.default: _convolution,
    aten.add.Tensor: _elementwise,
    aten.sub.Tensor: _elementwise,
    aten.mul.Tensor: _elementwise,
    aten.addcmul.default: _addcmul,
    aten.cat.default: _cat,
    aten.embedding.default: _embedding,
    aten.native_layer_norm.default: _layer_norm,
    aten.native_group_norm.default: _channel_norm,
    aten.native_batch_norm.default: _channel_norm,
    aten._prelu_kernel.default: _prelu,
}
