"""The front doors: viz_lla shows the loss around a point, viz_esd the Hessian at it."""

from __future__ import annotations

from lla_func.facades._landscape import check_request, viz_lla
from lla_func.facades._result import LandscapeResult, SpectrumResult
from lla_func.facades._spectrum import viz_esd

__all__ = ["LandscapeResult", "SpectrumResult", "check_request", "viz_esd", "viz_lla"]
