"""Kernels: three ways to multiply with a second derivative, which agree to rounding and differ in time and memory.

    kernel       what is kept between products                cost of a product   needs
    ----------   ------------------------------------------   -----------------   ------------------
    vjp          the graph of the gradient                    1.5 gradients       second derivatives
    linearize    what the operations on tangents refer to     1.2 gradients       forward-mode rules
    recompute    nothing                                      3 gradients         forward-mode rules

The costs are those of LeNet-5 on the CPU, where the first two keep equally much.

``vjp`` is reverse over reverse mode: the gradient is computed once with its graph, and each product pulls a vector
back through it; by symmetry this is H v. ``linearize`` and ``recompute`` are forward over reverse mode (Pearlmutter
1994): the derivative of the gradient along v. All return maps [P] -> [P] that can be called any number of times.

A point comes as the tensors that make it up, and derivatives are taken with respect to these: a vector is cut into
views of their shapes on the way in, and what comes out is laid into one vector once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad

from lla_func.graph import DenseZeros, linearize

Point = tuple[Tensor, ...]
"""The tensors that make up a point; their elements, one tensor after another, are those of a vector [P]."""
Scalar = Callable[[Point], Tensor]
"""A function of a point whose value is a scalar."""
Vector = Callable[[Point], Tensor]
"""A function of a point whose value is a vector [M]."""
Criterion = Callable[[Tensor], Tensor]
"""A function of a vector [M] whose value is a scalar."""
Product = Callable[[Tensor], Tensor]
"""A linear map [P] -> [P]."""


FEW = 2**18
"""Elements of a vector below which starting an operation for each tensor takes longer than moving elements twice."""


class Kernel(NamedTuple):
    """The products that one way of differentiating offers.

    Attributes:
        hessian: of a scalar function at a point.
        gauss_newton: J^T H J with the Jacobian J of a function ``f`` at a point, and the Hessian H of a scalar function
            ``c`` at its value.
    """

    hessian: Callable[[Scalar, Point], Product]
    gauss_newton: Callable[[Vector, Criterion, Point], Product]


def cut(vector: Tensor, point: Sequence[Tensor]) -> Point:
    """A vector [P] as views of the shapes of the tensors that make up a point."""
    if len(point) == 1:
        return (vector.view(point[0].shape),)
    pieces = vector.split([x.numel() for x in point])
    return tuple(piece.view(x.shape) for piece, x in zip(pieces, point, strict=True))


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors laid one after another into a vector [P]."""
    if len(tensors) == 1:
        return tensors[0].reshape(-1)
    return torch.cat([x.reshape(-1) for x in tensors])


def laid(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    """Tensors laid one after another into a new vector like another one [P].

    Derivatives of convolutions with respect to weights come in any order in memory; each element is moved once.
    """
    if len(tensors) == 1 or like.shape[-1] < FEW:
        return joined(tensors)
    vector = torch.empty_like(like, memory_format=torch.contiguous_format)
    for place, x in zip(cut(vector, tensors), tensors, strict=True):
        place.copy_(x)
    return vector


def _leaves(point: Point) -> Point:
    return tuple(x.detach().requires_grad_() for x in point)


def gradient(f: Scalar, point: Point) -> Tensor:
    """The gradient [P] of a scalar function by reverse mode."""
    leaves = _leaves(point)
    return joined(grad(f(leaves), leaves, materialize_grads=True))


def vjp_hessian(f: Scalar, point: Point) -> Product:
    """Pulls vectors back through the kept graph of the gradient."""
    leaves = _leaves(point)
    value = f(leaves)
    if not value.requires_grad:  # restricted to parameters that this loss does not use
        return torch.zeros_like
    seed = torch.ones_like(value).requires_grad_()
    slope = grad(value, leaves, seed, create_graph=True, materialize_grads=True)
    if not (recorded := _recorded(slope, seed)):
        return torch.zeros_like
    varying = [slope[i] for i in recorded]

    def product(v: Tensor) -> Tensor:
        pieces = cut(v, leaves)
        parts = [pieces[i] for i in recorded]
        return laid(grad(varying, leaves, parts, retain_graph=True, materialize_grads=True), v)

    return product


def _recorded(pulled: Sequence[Tensor], dual: Tensor) -> list[int]:
    """Which pieces of J^T u have a graph, after a check that the graph is complete.

    A backward pass that can be differentiated only once counts as constant, without a word, and would be missing in
    every product. But J^T u is linear in u: its derivative along u must be J^T u itself.

    Raises:
        RuntimeError: it is not.
    """
    varying = [i for i, piece in enumerate(pulled) if piece.requires_grad]
    if not varying and not any(piece.any() for piece in pulled):
        return []
    if varying:
        pieces = [pulled[i] for i in varying]
        images, u = [piece.detach() for piece in pieces], dual.detach()
        along = grad(pieces, dual, images, retain_graph=True, materialize_grads=True)[0]
        found, expected = (
            float((along * u).sum()),
            float(sum(piece.detach().square().sum() for piece in pulled)),
        )
        if not abs(found - expected) > torch.finfo(dual.dtype).eps ** 0.5 * expected:
            return varying
    raise RuntimeError(
        "a backward pass in the loss is once_differentiable, or runs without recording its graph"
    )


def vjp_gauss_newton(f: Vector, c: Criterion, point: Point) -> Product:
    """Both J and J^T from one kept graph: J v is the derivative of u -> J^T u, which is linear, pulled back."""
    leaves = _leaves(point)
    value = f(leaves)
    if not value.requires_grad:
        return torch.zeros_like
    dual = torch.linspace(1, 2, len(value), dtype=value.dtype, device=value.device).requires_grad_()
    pulled = grad(value, leaves, dual, create_graph=True, materialize_grads=True)
    if not (recorded := _recorded(pulled, dual)):
        return torch.zeros_like
    varying = [pulled[i] for i in recorded]
    curve = vjp_hessian(lambda outputs: c(outputs[0]), (value.detach(),))

    def product(v: Tensor) -> Tensor:
        pieces = cut(v, leaves)
        parts = [pieces[i] for i in recorded]
        pushed = grad(varying, dual, parts, retain_graph=True, materialize_grads=True)[0]
        return laid(grad(value, leaves, curve(pushed), retain_graph=True, materialize_grads=True), v)

    return product


def linearize_hessian(f: Scalar, point: Point) -> Product:
    """Replays what the derivative of the gradient does to a tangent."""
    return linearize(lambda x: joined(torch.func.grad(f)(x)), point)


def linearize_gauss_newton(f: Vector, c: Criterion, point: Point) -> Product:
    """Replays J and H; J^T is the pullback through the kept graph of f."""
    leaves = _leaves(point)
    value = f(leaves)
    if not value.requires_grad:
        return torch.zeros_like
    push = linearize(f, tuple(x.detach() for x in point))
    curve = linearize_hessian(lambda outputs: c(outputs[0]), (value.detach(),))
    return lambda v: laid(grad(value, leaves, curve(push(v)), retain_graph=True, materialize_grads=True), v)


def recompute_hessian(f: Scalar, point: Point) -> Product:
    """Computes the gradient and its derivative along the vector anew each time."""

    def product(v: Tensor) -> Tensor:
        with DenseZeros():
            return joined(torch.func.jvp(torch.func.grad(f), (point,), (cut(v, point),))[1])

    return product


def recompute_gauss_newton(f: Vector, c: Criterion, point: Point) -> Product:
    """One pass forward with the tangent, one with the graph to pull back through."""

    def product(v: Tensor) -> Tensor:
        with DenseZeros():
            value, pushed = torch.func.jvp(f, (point,), (cut(v, point),))[:2]
        curve = recompute_hessian(lambda outputs: c(outputs[0]), (value,))
        return joined(torch.func.vjp(f, point)[1](curve(pushed))[0])

    return product


KERNELS: Mapping[str, Kernel] = {
    "vjp": Kernel(vjp_hessian, vjp_gauss_newton),
    "linearize": Kernel(linearize_hessian, linearize_gauss_newton),
    "recompute": Kernel(recompute_hessian, recompute_gauss_newton),
}
