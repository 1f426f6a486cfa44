"""The front doors: viz_lla shows the loss around a point, viz_esd the Hessian at it."""

from lla_func.facades.curvature import Curvature
from lla_func.facades.landscape import LandscapeResult, viz_lla
from lla_func.facades.spectrum import SpectrumResult, viz_esd

__all__ = ["Curvature", "LandscapeResult", "SpectrumResult", "viz_esd", "viz_lla"]
