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
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import grad

from lla_func.graph import DenseZeros, linearize

Scalar = Callable[[Tensor], Tensor]
"""A function of a vector [P] whose value is a scalar."""
Vector = Callable[[Tensor], Tensor]
"""A function of a vector [P] whose value is a vector [M]."""
Product = Callable[[Tensor], Tensor]
"""A linear map [P] -> [P]."""


class Kernel(NamedTuple):
    """The products that one way of differentiating offers.

    Attributes:
        hessian: of a scalar function at a point.
        gauss_newton: J^T H J with the Jacobian J of a function ``f`` at a point, and the Hessian H of a scalar function
            ``c`` at its value.
    """

    hessian: Callable[[Scalar, Tensor], Product]
    gauss_newton: Callable[[Vector, Scalar, Tensor], Product]


def gradient(f: Scalar, x: Tensor) -> Tensor:
    """The gradient [P] of a scalar function by reverse mode."""
    leaf = x.detach().requires_grad_()
    return grad(f(leaf), leaf, materialize_grads=True)[0]


def vjp_hessian(f: Scalar, x: Tensor) -> Product:
    """Pulls vectors back through the kept graph of the gradient."""
    leaf = x.detach().requires_grad_()
    value = f(leaf)
    if not value.requires_grad:  # restricted to parameters that this loss does not use
        return torch.zeros_like
    seed = torch.ones_like(value).requires_grad_()
    slope = grad(value, leaf, seed, create_graph=True, materialize_grads=True)[0]
    if not _recorded(slope, seed):
        return torch.zeros_like
    return lambda v: grad(slope, leaf, v, retain_graph=True, materialize_grads=True)[0]


def _recorded(pulled: Tensor, dual: Tensor) -> bool:
    """Whether J^T u has a graph, and if so, that the graph is complete.

    A backward pass that can be differentiated only once counts as constant, without a word, and would be missing in
    every product. But J^T u is linear in u: its derivative along u must be J^T u itself.
    """
    if not pulled.requires_grad and not pulled.any():
        return False
    if pulled.requires_grad:
        image, u = pulled.detach(), dual.detach()
        along = grad(pulled, dual, image, retain_graph=True, materialize_grads=True)[0]
        found, expected = float((along * u).sum()), float(image.square().sum())
        if not abs(found - expected) > torch.finfo(dual.dtype).eps ** 0.5 * expected:
            return True
    raise RuntimeError(
        "a backward pass in the loss is once_differentiable, or runs without recording its graph"
    )


def vjp_gauss_newton(f: Vector, c: Scalar, x: Tensor) -> Product:
    """Both J and J^T from one kept graph: J v is the derivative of u -> J^T u, which is linear, pulled back."""
    leaf = x.detach().requires_grad_()
    value = f(leaf)
    if not value.requires_grad:
        return torch.zeros_like
    dual = torch.linspace(1, 2, len(value), dtype=value.dtype, device=value.device).requires_grad_()
    pulled = grad(value, leaf, dual, create_graph=True, materialize_grads=True)[0]
    if not _recorded(pulled, dual):
        return torch.zeros_like
    curve = vjp_hessian(c, value.detach())

    def product(v: Tensor) -> Tensor:
        pushed = grad(pulled, dual, v, retain_graph=True, materialize_grads=True)[0]
        return grad(value, leaf, curve(pushed), retain_graph=True, materialize_grads=True)[0]

    return product


def linearize_hessian(f: Scalar, x: Tensor) -> Product:
    """Replays what the derivative of the gradient does to a tangent."""
    return linearize(torch.func.grad(f), x)


def linearize_gauss_newton(f: Vector, c: Scalar, x: Tensor) -> Product:
    """Replays J and H; J^T is the pullback through the kept graph of f."""
    leaf = x.detach().requires_grad_()
    value = f(leaf)
    if not value.requires_grad:
        return torch.zeros_like
    push, curve = linearize(f, x.detach()), linearize_hessian(c, value.detach())
    return lambda v: grad(value, leaf, curve(push(v)), retain_graph=True, materialize_grads=True)[0]


def recompute_hessian(f: Scalar, x: Tensor) -> Product:
    """Computes the gradient and its derivative along the vector anew each time."""

    def product(v: Tensor) -> Tensor:
        with DenseZeros():
            return torch.func.jvp(torch.func.grad(f), (x,), (v,))[1]

    return product


def recompute_gauss_newton(f: Vector, c: Scalar, x: Tensor) -> Product:
    """One pass forward with the tangent, one with the graph to pull back through."""

    def product(v: Tensor) -> Tensor:
        with DenseZeros():
            value, pushed = torch.func.jvp(f, (x,), (v,))[:2]
        return torch.func.vjp(f, x)[1](recompute_hessian(c, value)(pushed))[0]

    return product


KERNELS: Mapping[str, Kernel] = {
    "vjp": Kernel(vjp_hessian, vjp_gauss_newton),
    "linearize": Kernel(linearize_hessian, linearize_gauss_newton),
    "recompute": Kernel(recompute_hessian, recompute_gauss_newton),
}
