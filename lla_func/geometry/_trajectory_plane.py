"""The plane of a training: two directions from its checkpoints, and how far each checkpoint is from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lla_func.errors import finite_number, finite_tensor, instance, one_of, positive_int, shown
from lla_func.geometry._chart import Chart, mesh, plane
from lla_func.geometry._trajectory import Trajectory, same_layout

KINDS = ("pca", "ends")
CENTERS = ("mean", "start", "end")
BUDGET = 2**28


class TrajectoryPlane(NamedTuple):
    """A plane through weight space, and where the checkpoints of some trainings are beside it.

    Attributes:
        chart: the plane, with an orthonormal basis [2, P]; of random projections a plane in R^K.
        coordinates: of each run's checkpoints, projected onto the plane, [T, 2] float64.
        explained: the share of the checkpoints' squared distances from the origin that lies along each axis, [2].
        distances: of each run's checkpoints from the plane, [T] float64.
        kind: ``"pca"``, ``"ends"`` or ``"given"``.
        fitted: how many checkpoints the directions were made of.
    """

    chart: Chart
    coordinates: tuple[Tensor, ...]
    explained: Tensor
    distances: tuple[Tensor, ...]
    kind: str
    fitted: int


def trajectory_plane(
    paths: Trajectory | Sequence[Trajectory],
    *,
    axes: str | Tensor = "pca",
    center: str | None = None,
    memory_budget: int = BUDGET,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> TrajectoryPlane:
    """The plane that shows most of one or several trainings, or another one that is asked for.

    - ``"pca"``: the principal components of all checkpoints of all runs, from the Gram matrix [T, T] of the centered
      checkpoints, summed in float64 over blocks of parameters: never [P, P], and never all of [T, P] in memory. Li et
      al. (2018), section 7, take them about the end (``center="end"``); about the mean they are those of scikit-learn.
    - ``"ends"``: from the start of the first run to its end, which both lie in the plane, and the direction in the
      orthogonal complement along which all checkpoints lie farthest.
    - directions [2, P] of your own, made orthonormal.

    An axis points to where the first run ends, as seen from its start.

    Args:
        paths: one or several, of one architecture.
        axes: which directions.
        center: where the plane goes through: the ``"mean"`` of all checkpoints (for ``"pca"``), the ``"start"`` of
            the first run (for ``"ends"``), or its ``"end"`` (for given directions).
        memory_budget: bytes for everything but the vectors of length P that are returned. With more checkpoints than
            a Gram matrix within it holds, directions are made of a part of them, evenly spread (``fitted``);
            coordinates and distances are of all.
        dtype: of the chart; by default that of the checkpoints, float32 where this is coarser.
        device: of the chart.

    Returns:
        the plane, the checkpoints' coordinates and distances, and what the axes explain.

    Raises:
        ValueError: the runs are of different models, do not move, or move along a line only; a checkpoint is not
            finite, which is named.

    Example:
        >>> turn = torch.linspace(0, 1, 9, dtype=torch.float64)[:, None]
        >>> thetas = turn * torch.tensor([3.0, 0.0, 4.0, 0.0]) + turn**2 * torch.tensor([0.0, 1.0, 0.0, 0.0])
        >>> found = trajectory_plane(Trajectory.of(thetas))
        >>> bool(found.distances[0].max() < 1e-12), bool((found.explained.sum() - 1).abs() < 1e-12)
        (True, True)
    """
    rows = _Rows(_checked(paths), positive_int("memory_budget", memory_budget, least=2**16))
    first = rows.paths[0]
    kind = axes if isinstance(axes, str) else "given"
    if isinstance(axes, str):
        one_of("axes", axes, KINDS)
    else:
        finite_tensor("axes", axes, (2, first.width))
    usual = {"pca": "mean", "ends": "start", "given": "end"}[kind]
    center = usual if center is None else center
    one_of("center", center, CENTERS)
    if kind == "ends" and center != "start":
        raise ValueError(
            f"center={center!r} cannot be used with axes='ends', whose plane goes through start and end"
        )
    chosen = rows.fitted()
    origin = rows.center(center, chosen)
    if kind == "pca":
        basis = _principal(rows, chosen, origin, 2)
    elif kind == "ends":
        along = rows.one(len(first) - 1) - origin
        if not bool(along.norm() > 0):
            raise ValueError(
                f"axes='ends' needs a start and an end that differ; those of {first!r} are the same"
            )
        along /= along.norm()
        basis = torch.stack([along, _principal(rows, chosen, origin, 1, without=along)[0]])
    else:
        basis = axes.to("cpu", torch.float64, copy=True)  # type: ignore[union-attr]
    _orthonormalize(basis)
    exact = torch.float64 if first.projection is not None else first.dtype
    dtype = dtype or (exact if exact in (torch.float32, torch.float64) else torch.float32)
    origin = origin.to(dtype)
    basis = basis.to(dtype)
    coordinates = rows.split(rows.coordinates(origin, basis))
    basis, coordinates = _turned(basis, coordinates)
    squares = rows.residuals(origin, basis, torch.cat(coordinates))
    along_axes = torch.cat(coordinates).square().sum(0)
    explained = along_axes / (along_axes.sum() + squares.sum())
    chart = plane(origin.to(device), *basis.to(device))._replace(labels=_labels(kind, explained))
    return TrajectoryPlane(*(chart, coordinates, explained, rows.split(squares.sqrt())), kind, len(chosen))


def plane_coords(found: TrajectoryPlane, steps: int, *, margin: float = 0.15) -> Tensor:
    """A mesh [steps^2, 2] over all checkpoints on a plane, with a margin on each side as a share of their extent."""
    instance("found", found, TrajectoryPlane, "what trajectory_plane returns")
    positive_int("steps", steps, least=2)
    finite_number("margin", margin, least=0)
    every = torch.cat(found.coordinates)
    low, high = every.min(0).values, every.max(0).values
    extent = high - low
    extent = torch.where(extent > 0, extent, extent.max())
    room = margin * extent + (extent - (high - low)) / 2
    ends = zip((low - room).tolist(), (high + room).tolist(), strict=True)
    return mesh(*(torch.linspace(a, b, steps, dtype=torch.float64) for a, b in ends))


class _Rows:
    """The checkpoints of all runs as the rows of one matrix [N, P], read in blocks within a budget."""

    def __init__(self, paths: Sequence[Trajectory], budget: int) -> None:
        self.paths, self.budget, self.width = paths, budget, paths[0].width
        self.places = [(run, t) for run, path in enumerate(paths) for t in range(len(path))]

    def fitted(self) -> list[int]:
        """The rows that directions are made of: all whose Gram matrix, and what its eigenvectors take, fits."""
        most = max(3, int((self.budget / 64) ** 0.5))
        count = len(self.places)
        if count <= most:
            return list(range(count))
        return torch.linspace(0, count - 1, most, dtype=torch.float64).round().long().unique().tolist()

    def block(self, rows: Sequence[int], start: int, stop: int) -> Tensor:
        """Some columns of some rows, [n, stop - start] float64."""
        parts = []
        for run, path in enumerate(self.paths):
            if mine := [self.places[row][1] for row in rows if self.places[row][0] == run]:
                parts.append(path.columns(start, stop, mine))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def blocks(self, rows: Sequence[int]) -> Iterator[tuple[slice, Tensor]]:
        """All columns of some rows, block after block; a block, and two copies of it, take half of the budget."""
        columns = max(1, self.budget // (2 * 3 * 8 * len(rows)))
        for start in range(0, self.width, columns):
            stop = min(start + columns, self.width)
            yield slice(start, stop), self.block(rows, start, stop)

    def pieces(self) -> Iterator[list[int]]:
        """All rows, as many at once as directions are made of."""
        step = max(len(self.fitted()), 1)
        for start in range(0, len(self.places), step):
            yield list(range(start, min(start + step, len(self.places))))

    def one(self, row: int) -> Tensor:
        """One row, [P] float64."""
        return self.block([row], 0, self.width)[0]

    def center(self, kind: str, chosen: Sequence[int]) -> Tensor:
        """The point that the plane goes through, [P] float64; raises where a checkpoint is not finite."""
        total = torch.zeros(self.width, dtype=torch.float64)
        for rows in self.pieces():
            for columns, block in self.blocks(rows):
                total[columns] += block.sum(0)
                if not bool(total[columns].isfinite().all()):
                    self._refuse(rows, block)
        if kind == "mean" and len(chosen) == len(self.places):
            return total / len(self.places)
        if kind == "mean":
            for columns, block in self.blocks(chosen):
                total[columns] = block.mean(0)
            return total
        return self.one(0 if kind == "start" else len(self.paths[0]) - 1)

    def coordinates(self, origin: Tensor, basis: Tensor) -> Tensor:
        """The coordinates of all rows by least squares, [N, 2]."""
        found = torch.zeros(len(self.places), 2, dtype=torch.float64)
        inner = torch.zeros(2, 2, dtype=torch.float64)
        for piece, rows in enumerate(self.pieces()):
            for columns, block in self.blocks(rows):
                axes = basis[:, columns].double()
                found[rows] += block.sub_(origin[columns].double()) @ axes.T
                if piece == 0:
                    inner += axes @ axes.T
        return torch.linalg.solve(inner, found.T).T

    def residuals(self, origin: Tensor, basis: Tensor, coordinates: Tensor) -> Tensor:
        """The squared distances of all rows from the plane, [N], of differences: exact also where they vanish."""
        found = torch.zeros(len(self.places), dtype=torch.float64)
        for rows in self.pieces():
            for columns, block in self.blocks(rows):
                block -= origin[columns].double()
                block -= coordinates[rows] @ basis[:, columns].double()
                found[rows] += block.square_().sum(1)
        return found

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Values of all rows by run."""
        return values.split([len(path) for path in self.paths])

    def _refuse(self, rows: Sequence[int], block: Tensor) -> None:
        wrong = (~block.isfinite()).any(1).nonzero().flatten()
        if not len(wrong):
            raise ValueError(f"the checkpoints of {self.paths[0]!r} are too large to be summed")
        run, t = self.places[rows[int(wrong[0])]]
        path = self.paths[run]
        raise ValueError(
            f"checkpoint {t} (step {path.entries[t].step}) of {path!r} has NaN or infinite values; take those "
            f"before it, path[:{t}]"
        )


def _checked(paths: Any) -> list[Trajectory]:
    found = [paths] if isinstance(paths, Trajectory) else paths
    if not isinstance(found, (list, tuple)) or not found:
        raise TypeError(
            f"paths={shown(paths)} is no trajectory; pass Trajectory.open(folder), or a list of them"
        )
    for number, path in enumerate(found):
        instance(f"paths[{number}]", path, Trajectory, "a Trajectory: Trajectory.open(folder)")
        same_layout(found[0], path, f"paths[{number}]")
        if path.projection != found[0].projection:
            mine, theirs = (x.projection or "whole thetas" for x in (path, found[0]))
            raise ValueError(
                f"paths[{number}] keeps {mine}, paths[0] {theirs}; record all runs with one project= and seed="
            )
        if not len(path):
            raise ValueError(f"{path!r} has no checkpoint; record at least one")
    if sum(map(len, found)) < 2:
        raise ValueError(
            f"{found[0]!r} has one checkpoint; a plane needs at least three, or two and directions"
        )
    return list(found)


def _principal(
    rows: _Rows, chosen: Sequence[int], origin: Tensor, count: int, *, without: Tensor | None = None
) -> Tensor:
    """The directions along which rows lie farthest from the origin, [count, P], perhaps orthogonal to one."""
    shares: Tensor | None = None
    if without is not None:
        shares = torch.zeros(len(chosen), dtype=torch.float64)
        for columns, block in rows.blocks(chosen):
            shares += (block - origin[columns]) @ without[columns]

    def centered() -> Iterator[tuple[slice, Tensor]]:
        for columns, block in rows.blocks(chosen):
            block -= origin[columns]
            if without is not None and shares is not None:
                block.addr_(shares, without[columns], alpha=-1)
            yield columns, block

    gram = torch.zeros(len(chosen), len(chosen), dtype=torch.float64)
    scale = 0.0 if shares is None else float(shares.square().sum())
    for _, block in centered():
        numbers = block.numpy()
        gram += torch.from_numpy(
            numbers @ numbers.T
        )  # NumPy sees that it is symmetric, which halves the work
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values[-count:].flip(0), vectors[:, -count:].flip(1)
    scale += float(gram.diagonal().sum())
    rounding = len(chosen) * (4 * torch.finfo(torch.float64).eps * float(origin.norm())) ** 2
    if not scale > rounding:
        raise ValueError(f"{rows.paths[0]!r} does not move: all its checkpoints are the same")
    if len(chosen) < count + 1 or not float(values[-1]) > 1e-14 * scale:
        raise ValueError(
            f"{rows.paths[0]!r} moves along a line only, which makes no plane; record more checkpoints, or pass "
            "directions as axes"
        )
    found = torch.zeros(count, rows.width, dtype=torch.float64)
    for columns, block in centered():
        found[:, columns] = vectors.T @ block
    return found.div_(values.sqrt()[:, None])


def _orthonormalize(basis: Tensor) -> None:
    """Two directions [2, P] made orthonormal in place; twice is enough."""
    lengths = basis.norm(dim=1)
    if not bool((lengths > 0).all()):
        raise ValueError("axes has a direction of length zero; pass two that differ")
    basis /= lengths[:, None]
    for _ in range(2):
        basis[1] -= (basis[1] @ basis[0]) * basis[0]
        if not float(length := basis[1].norm()) > 1e-10:
            raise ValueError("axes has two directions along one line; pass two that differ")
        basis[1] /= length


def _turned(basis: Tensor, coordinates: Sequence[Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The same plane with axes that point to where the first run ends.

    Along an axis on which it ends about where it began, that end is on the positive side; where that is in the middle,
    too, the checkpoint that is farthest out.
    """
    first = coordinates[0]
    extent = first.abs().max(0).values
    farthest = first.gather(0, first.abs().argmax(0, keepdim=True))[0]
    signs = torch.zeros_like(extent)
    for rule in (first[-1] - first[0], first[-1] + first[0], farthest):
        signs = torch.where((signs == 0) & (rule.abs() > 0.1 * extent), rule.sign(), signs)
    signs = torch.where(signs == 0, torch.ones_like(signs), signs)
    return basis * signs[:, None].to(basis.dtype), tuple(part * signs for part in coordinates)


def _labels(kind: str, explained: Tensor) -> tuple[str, str]:
    names: Callable[[int], str] = {
        "pca": lambda i: f"principal component {i + 1}",
        "ends": lambda i: ("start to end", "across")[i],
        "given": lambda i: f"direction {i + 1}",
    }[kind]
    first, second = (f"{names(i)} ({100 * float(share):.3g} %)" for i, share in enumerate(explained))
    return first, second
