"""Factors of axes: pieces that axes of tensors are made of, which operations tie to each other or keep in place.

An axis of a tensor is a product of factors, the first one outermost: flattening channels and pixels makes an axis of
two, heads times width is one axis until a view takes it apart. Factors that are tied have to be permuted alike; those
that are fixed, not at all. A factor can be split later, in all places at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Axis = tuple[int, ...]
"""The factors that an axis is a product of; empty for an axis of length one."""


class Factors:
    """Union-find over factors that can be split.

    Example:
        >>> factors = Factors()
        >>> flat, channels, pixels = factors.axis(12), factors.axis(3), factors.axis(4, fixed=True)
        >>> factors.tie(flat, channels + pixels)
        >>> [(factors.size(f), factors.is_fixed(f)) for f in factors.leaves(flat)]
        [(3, False), (4, True)]
        >>> factors.leaves(flat) == factors.leaves(channels + pixels)
        True
    """

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._size: list[int] = []
        self._fixed: list[bool] = []
        self._parts: list[Axis] = []  # of a factor that was split

    def axis(self, size: int, *, fixed: bool = False) -> Axis:
        """A new axis of one factor."""
        if size == 1:
            return ()
        self._parent.append(len(self._parent))
        self._size.append(size)
        self._fixed.append(fixed)
        self._parts.append(())
        return (len(self._parent) - 1,)

    def leaves(self, axis: Iterable[int]) -> Axis:
        """The factors of an axis as they are by now: one for all that are tied, parts in place of what was split."""
        found: list[int] = []
        for factor in axis:
            root = self._root(factor)
            found += self.leaves(self._parts[root]) if self._parts[root] else (root,)
        return tuple(found)

    def size(self, factor: int) -> int:
        """The length of a factor."""
        return self._size[self._root(factor)]

    def is_fixed(self, factor: int) -> bool:
        """Whether a factor must not be permuted; of one of the leaves."""
        return self._fixed[self._root(factor)]

    def fix(self, axis: Iterable[int]) -> None:
        """Keeps all factors of an axis in place."""
        for factor in self.leaves(axis):
            self._fixed[factor] = True

    def tie(self, first: Axis, second: Axis) -> None:
        """Makes two axes of one length the same product of factors; where they have no common one, all is fixed."""
        while True:
            a, b = self.leaves(first), self.leaves(second)
            while a and b and a[0] == b[0]:
                a, b = a[1:], b[1:]
            if not a or not b:
                return
            if self.size(a[0]) == self.size(b[0]):
                self._parent[b[0]] = a[0]
                self._fixed[a[0]] |= self._fixed[b[0]]
                continue
            longer, shorter = (a[0], b[0]) if self.size(a[0]) > self.size(b[0]) else (b[0], a[0])
            if self.size(longer) % self.size(shorter):
                self.fix(a + b)
                return
            self._split(longer, self.size(shorter))

    def cut(self, axes: Sequence[Axis], lengths: Sequence[int]) -> list[Axis]:
        """The axes of a tensor after a view of it with other lengths.

        Where a new axis ends within a factor that cannot be split there, everything is fixed, and so is what results.
        """
        flat = tuple(factor for axis in axes for factor in axis)
        found: list[Axis] = []
        for length in lengths:
            mine: list[int] = []
            while length > 1:
                flat = self.leaves(flat)
                size = self.size(flat[0])
                if size > length and size % length == 0:
                    self._split(flat[0], length)
                elif length % size == 0:
                    mine.append(flat[0])
                    length, flat = length // size, flat[1:]
                else:
                    for axis in axes:
                        self.fix(axis)
                    return [self.axis(n, fixed=True) for n in lengths]
            found.append(tuple(mine))
        return found

    def _root(self, factor: int) -> int:
        while self._parent[factor] != factor:
            self._parent[factor] = self._parent[self._parent[factor]]
            factor = self._parent[factor]
        return factor

    def _split(self, factor: int, outer: int) -> None:
        """Splits a factor into one of this length and the rest."""
        fixed = self._fixed[factor]
        rest = self._size[factor] // outer
        self._parts[factor] = self.axis(outer, fixed=fixed) + self.axis(rest, fixed=fixed)
