"""The front doors: viz_lla shows the loss around a point, viz_esd the Hessian at it."""

from lla_func.facades.landscape import LandscapeResult, viz_lla

__all__ = ["LandscapeResult", "viz_lla"]
