"""Pictures of landscapes and spectra, alone and side by side; nothing else imports matplotlib.

Every function that draws takes the Axes to draw in, or makes a figure of its own, and returns the Axes
(``panel`` the figure). None touches pyplot's global state: its current figure, its backend, rcParams.
matplotlib is imported only when something is drawn.

All pictures of landscapes show in one way what is special: the center is a marked point, losses that are not
finite are holes, and losses above ``cap`` are flat and gray. None of these is silent: a legend names them.

Example:
    >>> import torch
    >>> from lla_func import Landscape, chart
    >>> axis = torch.linspace(-1, 1, 5)
    >>> coords = chart.mesh(axis, axis)
    >>> bowl = Landscape(coords, coords.square().sum(dim=1), {"center": [0.0, 0.0]}, {}, center=0.0)
    >>> contour(bowl, title="a bowl").get_title()
    'a bowl'
    >>> figure = panel([bowl, bowl], ["from above", "twice"], style="contour")
"""

from __future__ import annotations

from lla_func.plots._contour import contour, profile, quadratic_overlay
from lla_func.plots._files import save, show
from lla_func.plots._look import Look
from lla_func.plots._marks import mark_barrier, mark_heights, mark_points, profiles
from lla_func.plots._panel import panel, slices
from lla_func.plots._spectrum import density
from lla_func.plots._spread import spread
from lla_func.plots._surface import surface3d
from lla_func.plots._topology import barcode, diagram
from lla_func.plots._trajectory import animation, off_plane, path

__all__ = [
    "Look",
    "animation",
    "barcode",
    "contour",
    "density",
    "diagram",
    "mark_barrier",
    "mark_heights",
    "mark_points",
    "off_plane",
    "panel",
    "path",
    "profile",
    "profiles",
    "quadratic_overlay",
    "save",
    "show",
    "slices",
    "spread",
    "surface3d",
]
