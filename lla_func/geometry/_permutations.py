"""Permutations of units that a network does not notice, and those that bring its weights next to another's."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lla_func.graph import Factor, Symmetry

Assign = Callable[[Tensor], Tensor]
"""Maps scores [n, n] float64 to the permutation [n] whose scores[i, permutation[i]] have the largest sum."""

SWEEPS = 100
"""Passes over the groups at most; a dozen is usual."""

GAIN = 1e-12
"""What a permutation has to gain to be taken, relative to the norms of the weights that it moves: above rounding."""


class Matching(NamedTuple):
    """Permutations that align weights.

    Attributes:
        permutations: of each group, [n] int64: unit i of the aligned weights is unit permutations[i] of the given ones.
        similarity: the inner product of the reference's weights with the aligned ones; their squared distance is the
            sum of both squared norms less twice this.
        before: the inner product with the given ones.
        restarts: the similarity that each start has led to.
    """

    permutations: tuple[Tensor, ...]
    similarity: float
    before: float
    restarts: tuple[float, ...]


def permuted(
    tensors: Mapping[str, Tensor], symmetry: Symmetry, permutations: Sequence[Tensor]
) -> dict[str, Tensor]:
    """The tensors with their units permuted; those that the symmetry does not know as they are.

    Args:
        tensors: by name.
        symmetry: says of which factors their axes are.
        permutations: of each group, [n] int64.

    Example:
        >>> both = Symmetry({"w": ((Factor(2, 0), Factor(2, None)),)}, (2,))
        >>> permuted({"w": torch.arange(4)}, both, [torch.tensor([1, 0])])["w"]
        tensor([2, 3, 0, 1])
    """
    return {
        name: _permuted(tensor, symmetry.axes[name], permutations) if name in symmetry.axes else tensor
        for name, tensor in tensors.items()
    }


def random_permutations(symmetry: Symmetry, generator: torch.Generator) -> list[Tensor]:
    """A permutation of each group, uniform."""
    return [torch.randperm(size, generator=generator) for size in symmetry.sizes]


def match(
    reference: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    symmetry: Symmetry,
    assign: Assign,
    *,
    restarts: int = 1,
    generator: torch.Generator,
) -> Matching:
    """The permutations that bring the given weights nearest to the reference's, as coordinate ascent finds them.

    One group at a time is permuted in the best way for all others as they are, in random order, until none gains any
    more. That is a local optimum; further starts, from random permutations, may find better ones, and the best is kept.

    Args:
        reference, given: weights by name.
        symmetry: of the network, with axes of all these names.
        assign: solves a linear assignment problem.
        restarts: starts, the first from no permutation.
        generator: of the orders and the starts.

    Source:
        Ainsworth, Hayase and Srinivasa, Git Re-Basin: merging models modulo permutation symmetries (2022), algorithm 1.
    """
    a = {name: tensor.detach().double() for name, tensor in reference.items()}
    b = {name: tensor.detach().double() for name, tensor in given.items()}
    places = _places(symmetry, list(a))
    found: list[tuple[float, list[Tensor]]] = []
    for start in range(restarts):
        current = [torch.arange(size) for size in symmetry.sizes]
        if start:
            current = random_permutations(symmetry, generator)
        for _ in range(SWEEPS):
            order = torch.randperm(len(current), generator=generator).tolist()
            gained = [_improve(a, b, symmetry, current, group, places[group], assign) for group in order]
            if not any(gained):
                break
        found.append((_product(a, permuted(b, symmetry, current)), current))
    best, permutations = max(found, key=lambda each: each[0])
    return Matching(tuple(permutations), best, _product(a, b), tuple(score for score, _ in found))


def _improve(
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    symmetry: Symmetry,
    current: list[Tensor],
    group: int,
    places: Sequence[tuple[str, int, int]],
    assign: Assign,
) -> bool:
    """Permutes a group in the best way for all others as they are; whether that gained anything.

    Where the group is on several factors of one tensor its inner product is quadratic in the permutation. Then the
    others of these count as they are, or such tensors are left out, and what gains more is taken, if it gains.
    """
    counts = Counter(name for name, _, _ in places)
    alone = [place for place in places if counts[place[0]] == 1]
    theirs, mine = ({name: tensors[name] for name in counts} for tensors in (a, b))
    before = _product(a, permuted(mine, symmetry, current))
    least = GAIN * math.sqrt(_product(theirs, theirs) * _product(mine, mine))
    best, taken = before + least, None
    for used in [places] if len(alone) == len(places) else [places, alone]:
        tried = list(current)
        tried[group] = assign(_scores(a, b, symmetry, current, group, used))
        if (score := _product(a, permuted(mine, symmetry, tried))) > best:
            best, taken = score, tried[group]
    if taken is not None:
        current[group] = taken
    return taken is not None


def _scores(
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    symmetry: Symmetry,
    current: Sequence[Tensor],
    group: int,
    places: Sequence[tuple[str, int, int]],
) -> Tensor:
    """The inner product [n, n] of each unit of the reference with each of the given ones, all else as permuted."""
    size = symmetry.sizes[group]
    total = torch.zeros(size, size, dtype=torch.float64)
    for name, axis, position in places:
        shape = [factor.size for factors in symmetry.axes[name] for factor in factors]
        here = sum(len(factors) for factors in symmetry.axes[name][:axis]) + position
        others = [
            [Factor(f.size, None) if (i, j) == (axis, position) else f for j, f in enumerate(factors)]
            for i, factors in enumerate(symmetry.axes[name])
        ]
        moved = _permuted(b[name], others, current)
        rows = [x.reshape(shape).movedim(here, 0).reshape(size, -1) for x in (a[name], moved)]
        total += (rows[0] @ rows[1].T).cpu()
    return total


def _permuted(tensor: Tensor, axes: Sequence[Sequence[Factor]], permutations: Sequence[Tensor]) -> Tensor:
    factors = [factor for axis in axes for factor in axis]
    if all(factor.group is None for factor in factors):
        return tensor
    found = tensor.reshape([factor.size for factor in factors])
    for dim, factor in enumerate(factors):
        if factor.group is not None:
            found = found.index_select(dim, permutations[factor.group].to(tensor.device))
    return found.reshape(tensor.shape)


def _places(symmetry: Symmetry, names: Sequence[str]) -> list[list[tuple[str, int, int]]]:
    """Where each group occurs: the tensor, the axis and the position of the factor in it."""
    found: list[list[tuple[str, int, int]]] = [[] for _ in symmetry.sizes]
    for name in names:
        for i, axis in enumerate(symmetry.axes[name]):
            for j, factor in enumerate(axis):
                if factor.group is not None:
                    found[factor.group].append((name, i, j))
    return found


def _product(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return sum(float(a[name].reshape(-1) @ tensor.reshape(-1)) for name, tensor in b.items())
