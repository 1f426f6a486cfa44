"""The options of the front doors and of the command, each defined once: name, default, check, help and flags.

A new option is an entry in one of the families and a run of `make signatures`. Nothing here imports torch, so that the
command's help answers at once; what needs the model, its metric or the file system is checked where these are at hand.
"""

from __future__ import annotations

from lla_func.options._connection import Connection
from lla_func.options._evaluation import Evaluation
from lla_func.options._family import Family, brief
from lla_func.options._following import Following
from lla_func.options._interpolation import Interpolation
from lla_func.options._kinds import Flag, Kind, Positive, Whole, Word
from lla_func.options._output import Between, Drawing, Output, Picture, Setup
from lla_func.options._panels import Panels
from lla_func.options._spectrum import Hessian, Products, Spectrum

VIZ_LLA = (Panels, Evaluation, Hessian, Setup, Drawing, Output)
VIZ_ESD = (Spectrum, Setup, Output)
VIZ_PATH = (Interpolation, Following, Evaluation, Between, Picture, Output)

__all__ = [
    "VIZ_ESD",
    "VIZ_LLA",
    "VIZ_PATH",
    "Between",
    "Connection",
    "Drawing",
    "Evaluation",
    "Family",
    "Flag",
    "Following",
    "Hessian",
    "Interpolation",
    "Kind",
    "Output",
    "Panels",
    "Picture",
    "Positive",
    "Products",
    "Setup",
    "Spectrum",
    "Whole",
    "Word",
    "brief",
]
