"""Persistence by its definition, slowly: the components of every sublevel set, labeled from scratch."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

__all__ = ["pairs_by_definition"]


def pairs_by_definition(values, connectivity):
    """The pairs (minimum, saddle or None) of positive persistence, sorted; non-finite values are holes.

    Points enter in the order (value, index). A component is named by its first point. Where a point joins several,
    all but the one with the earliest name end.
    """
    structure = ndimage.generate_binary_structure(
        values.ndim, 1 if connectivity == 2 * values.ndim else values.ndim
    )
    flat = values.ravel()
    order = [int(i) for i in np.argsort(flat, kind="stable") if np.isfinite(flat[i])]
    place = {point: number for number, point in enumerate(order)}
    present = np.zeros(values.shape, dtype=bool)
    found, before = [], {}
    for point in order:
        present.flat[point] = True
        labels, count = ndimage.label(present, structure)
        inside = [np.flatnonzero(labels.ravel() == label).tolist() for label in range(1, count + 1)]
        now = {min(members, key=place.get): members for members in inside}
        ended = sorted(set(before) - set(now), key=place.get)
        found += [(least, point) for least in ended if flat[least] < flat[point]]
        before = now
    return sorted(found + [(least, None) for least in before], key=repr)
