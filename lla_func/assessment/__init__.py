"""What the numbers say: how sharp a minimum is, and which features of a surface are more than its errors."""

from __future__ import annotations

from lla_func.assessment._average import average
from lla_func.assessment._distances import basin, critical_lr, pac_bayes
from lla_func.assessment._kinds import SHARPNESS, check_options, options_of
from lla_func.assessment._worst_case import asam, asam_max, sam, sam_max

__all__ = [
    "SHARPNESS",
    "asam",
    "asam_max",
    "average",
    "basin",
    "check_options",
    "critical_lr",
    "options_of",
    "pac_bayes",
    "sam",
    "sam_max",
]
