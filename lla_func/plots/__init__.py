"""Pictures of landscapes and spectra; nothing else imports matplotlib."""

from __future__ import annotations

from lla_func.plots._files import save, show
from lla_func.plots._panel import panel, slices
from lla_func.plots._spectrum import density
from lla_func.plots._surface import contour, profile, quadratic_overlay, surface3d

__all__ = [
    "contour",
    "density",
    "panel",
    "profile",
    "quadratic_overlay",
    "save",
    "show",
    "slices",
    "surface3d",
]
