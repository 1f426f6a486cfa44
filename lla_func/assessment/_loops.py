"""Loops of sublevel sets, such as a valley around a hill: by gudhi, which is an extra."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

INSTALL = "loops need gudhi, which is not installed; python -m pip install 'lla-func[topology]'"


class Loop(NamedTuple):
    """A loop: it closes at one level and is filled at another.

    Attributes:
        birth: the level at which it closes.
        death: the level at which it is filled; infinite where it goes around a hole.
    """

    birth: float
    death: float

    @property
    def persistence(self) -> float:
        """Death less birth."""
        return self.death - self.birth


def loops(values: np.ndarray, connectivity: int) -> tuple[Loop, ...]:
    """The loops of the sublevel sets of values on a grid [n_1, ..., n_C], the most persistent first.

    Args:
        values: those that are not finite are holes.
        connectivity: across faces values stand at the corners of cubes, around corners in the cubes themselves.

    Raises:
        ImportError: gudhi is not installed; the message says what to install.
    """
    cubical: Any = _gudhi().CubicalComplex
    heights = np.where(np.isfinite(values), values, np.inf)
    where = "vertices" if connectivity == 2 * values.ndim else "top_dimensional_cells"
    complex_ = cubical(**{where: heights})
    complex_.compute_persistence()
    found = [Loop(*map(float, pair)) for pair in complex_.persistence_intervals_in_dimension(1)]
    found = [loop for loop in found if loop.birth < loop.death]
    return tuple(sorted(found, key=lambda loop: (-loop.persistence, loop.birth)))


def _gudhi() -> Any:
    try:
        import gudhi
    except ImportError as error:
        raise ImportError(INSTALL) from error
    return gudhi
