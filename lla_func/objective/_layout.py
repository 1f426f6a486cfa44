"""Layout: how named parameters lie one after another in a flat vector theta."""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from lla_func.errors import instance, names, one_of, positive_int


@dataclass(frozen=True)
class Layout:
    """The names, shapes and meaning of the parameters that make up theta [P], in order.

    Attributes:
        names: the parameters' names; each parameter appears once.
        shapes: their shapes.
        roles: what each one is, ``"weight"``, ``"bias"`` or ``"norm"`` (scale and shift of a normalization layer).
        filter_axes: the axis of each parameter that counts its filters: 0 for linear and convolution weights,
            1 for transposed convolutions, None where the whole tensor is one filter (biases).

    Example:
        >>> layout = Layout.of({"weight": torch.ones(3, 2), "bias": torch.zeros(3)})
        >>> theta = layout.ravel({"weight": torch.ones(3, 2), "bias": torch.zeros(3)})
        >>> theta
        tensor([1., 1., 1., 1., 1., 1., 0., 0., 0.])
        >>> layout.unravel(theta)["weight"].shape
        torch.Size([3, 2])
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    roles: tuple[str, ...]
    filter_axes: tuple[int | None, ...]

    @classmethod
    def of(
        cls,
        tensors: Mapping[str, Tensor],
        *,
        roles: Mapping[str, str] | None = None,
        filter_axes: Mapping[str, int | None] | None = None,
    ) -> Layout:
        """The layout of named tensors, in the mapping's order.

        What is not said in ``roles`` and ``filter_axes`` follows from the number of axes, as in Li et al. (2018),
        section 4: a tensor with at most one axis is a bias and a single filter, any other is a weight whose first
        axis counts its filters.
        """
        instance("tensors", tensors, Mapping, "a dict of named tensors")
        for name, tensor in tensors.items():
            instance("the name of a parameter", name, str, "a str")
            instance(f"parameter {name!r}", tensor, Tensor, "a tensor")
        for what, given in (("roles", roles), ("filter_axes", filter_axes)):
            if unknown := sorted(map(str, set(given or {}) - set(tensors))):
                raise ValueError(
                    f"{what} names {unknown[0]!r}, which is none of the parameters {list(tensors)}"
                )
        for name, role in (roles or {}).items():
            one_of(f"roles[{name!r}]", role, ("weight", "bias", "norm"))
        for name, axis in (filter_axes or {}).items():
            if axis is not None:
                positive_int(f"filter_axes[{name!r}]", axis, least=0, most=max(tensors[name].ndim - 1, 0))
        if not tensors:
            raise ValueError("there is no parameter to move: at least one tensor is needed")
        roles, filter_axes = roles or {}, filter_axes or {}
        return cls(
            names=tuple(tensors),
            shapes=tuple(tuple(tensor.shape) for tensor in tensors.values()),
            roles=tuple(roles.get(name, "bias" if t.ndim <= 1 else "weight") for name, t in tensors.items()),
            filter_axes=tuple(
                filter_axes.get(name, None if t.ndim <= 1 else 0) for name, t in tensors.items()
            ),
        )

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of elements of each parameter."""
        return tuple(math.prod(shape) for shape in self.shapes)

    @property
    def numel(self) -> int:
        """P, the length of theta."""
        return sum(self.sizes)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each parameter lies in theta."""
        ends = itertools.accumulate(self.sizes)
        return tuple(slice(end - size, end) for size, end in zip(self.sizes, ends, strict=True))

    def ravel(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Lays the named tensors one after another.

        Args:
            tensors: a tensor of the right shape for every name, all of one floating dtype on one device.

        Returns:
            theta [P]; a view if there is a single contiguous tensor, otherwise a new tensor.

        Raises:
            ValueError: a tensor is missing, unknown, of another shape, dtype or device; it is named.
        """
        instance("tensors", tensors, Mapping, "a dict of named tensors")
        if set(tensors) != set(self.names):
            missing, unknown = set(self.names) - set(tensors), set(tensors) - set(self.names)
            raise ValueError(
                f"parameters do not match the layout: missing {sorted(missing)}, unknown {sorted(unknown)}"
            )
        first = tensors[self.names[0]]
        for name, shape in zip(self.names, self.shapes, strict=True):
            tensor = tensors[name]
            instance(f"parameter {name!r}", tensor, Tensor, "a tensor")
            if tuple(tensor.shape) != shape:
                raise ValueError(
                    f"parameter {name!r} has shape {list(tensor.shape)}, the layout says {list(shape)}"
                )
            if not tensor.is_floating_point():
                raise ValueError(
                    f"parameter {name!r} has dtype {tensor.dtype}; only real floating dtypes can be moved"
                )
            for what in ("dtype", "device"):
                if getattr(tensor, what) != getattr(first, what):
                    raise ValueError(
                        f"parameter {name!r} has {what} {getattr(tensor, what)}, but {self.names[0]!r} has "
                        f"{getattr(first, what)}; convert the model to one {what} first (model.to(...))"
                    )
        flat = [tensors[name].reshape(-1) for name in self.names]
        return flat[0] if len(flat) == 1 else torch.cat(flat)

    def unravel(self, theta: Tensor | Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Cuts theta [..., P] into named views [..., *shape]; the inverse of :meth:`ravel`.

        Named tensors pass as they are, so that a loss of theta is also a loss of its parts, some of them constant.
        """
        if isinstance(theta, Mapping):
            return dict(theta)
        instance("theta", theta, Tensor, "a tensor [P], or named tensors")
        if theta.ndim == 0:
            raise ValueError(f"theta has no axes; the layout needs [..., {self.numel}]")
        if theta.shape[-1] != self.numel:
            raise ValueError(
                f"theta has {theta.shape[-1]} elements on its last axis, the layout has P={self.numel}"
            )
        # One split, whose derivative is one concatenation. Each slice would have a derivative of its own, a vector of
        # length P that is zero nearly everywhere.
        lead, pieces = theta.shape[:-1], theta.split(self.sizes, -1)
        return {
            name: piece.view((*lead, *shape))
            for name, piece, shape in zip(self.names, pieces, self.shapes, strict=True)
        }

    def filters(self, vectors: Tensor) -> Iterator[Tensor]:
        """Views of each parameter's filters in vectors [K, P], one [K, filters, elements of a filter] a parameter.

        A view is strided where filters lie on another axis than the first, so that writing to it writes to
        ``vectors`` (the elements of a filter are then spread over several trailing axes: [K, filters, ...]).
        """
        for tensor, axis in zip(self.unravel(vectors).values(), self.filter_axes, strict=True):
            yield rearrange(tensor, "k ... -> k 1 (...)") if axis is None else tensor.movedim(axis + 1, 1)

    def matching(self, patterns: str | Iterable[str], *, name: str = "patterns") -> tuple[int, ...]:
        """The indices of the parameters whose name matches a shell-style pattern such as ``"features.*"``.

        Args:
            patterns: one or more.
            name: of the argument that they came in, for messages.

        Raises:
            TypeError: a pattern is no str.
            ValueError: there is none, or one matches nothing; it is named together with the names there are.
        """
        matched: set[int] = set()
        for pattern in names(name, patterns):
            hits = {i for i, own in enumerate(self.names) if fnmatch.fnmatchcase(own, pattern)}
            if not hits:
                raise ValueError(
                    f"{name}: pattern {pattern!r} matches no parameter; there are {', '.join(self.names)}"
                )
            matched |= hits
        return tuple(sorted(matched))

    def only(self, indices: Iterable[int]) -> Layout:
        """The layout of the parameters with these indices alone.

        Example:
            >>> Layout.of({"a": torch.ones(3, 2), "b": torch.ones(3), "c": torch.ones(2)}).only([0, 2]).names
            ('a', 'c')
        """
        chosen = self._known(indices)
        fields = (self.names, self.shapes, self.roles, self.filter_axes)
        return Layout(*(tuple(field[i] for i in chosen) for field in fields))  # type: ignore[arg-type]

    def _known(self, indices: Iterable[int]) -> tuple[int, ...]:
        """The indices, if they are those of parameters."""
        instance("indices", indices, Iterable, "the indices of parameters")
        return tuple(positive_int("index", i, least=0, most=len(self.names) - 1) for i in indices)

    def mask(self, indices: Iterable[int], *, device: torch.device | str = "cpu") -> Tensor:
        """A boolean vector [P] that is True on the parameters with these indices."""
        mask = torch.zeros(self.numel, dtype=torch.bool, device=device)
        for index in self._known(indices):
            mask[self.slices[index]] = True
        return mask
