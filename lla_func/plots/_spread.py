"""How much landscapes along random directions differ: their mean, with its spread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lla_func.landscape import Landscape
from lla_func.plots._contour import contour
from lla_func.plots._files import new_figure
from lla_func.plots._marks import profiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EACH: dict[str, Any] = {
    "color": "0.6",
    "linewidth": 0.6,
    "alpha": 0.7,
    "zorder": 1,
    "scalex": False,
    "scaley": False,
}


def spread(landscape: Landscape, **options: Any) -> Figure:
    """Draws a mean over random directions with its spread: lines as a band, planes as a second panel.

    Args:
        landscape: of :func:`lla_func.variation`.
        options: of the pictures (:class:`lla_func.plots.Look`).

    Returns:
        A new figure.

    Raises:
        ValueError: the landscape has no spread.

    Example:
        >>> import torch
        >>> from lla_func import from_loss, variation
        >>> bowl = from_loss(lambda theta, _: theta.square().sum(), torch.ones(9))
        >>> found = variation(bowl, count=3, steps=5, normalization="model", seed=0)
        >>> len(spread(found).axes)
        1
    """
    if "spread" not in landscape.metrics:
        raise ValueError("the landscape has no spread; it is a metric of what lla_func.variation returns")
    deviation = landscape.metrics["spread"]
    count = landscape.metrics["each"].shape[1]
    mean = landscape._replace(errors={"loss": deviation})
    if landscape.coords.shape[1] == 1:
        name = f"mean of {count} random lines"
        ax = profiles({name: mean}, band="standard deviation", **options)
        if not options.get("log"):
            for column in landscape.metrics["each"].T:
                ax.plot(landscape.coords[:, 0], column, **EACH)
        figure: Any = ax.figure
        return figure
    figure = new_figure(9.6, 4.2)
    first, second = figure.subplots(1, 2)
    contour(landscape, first, **{"title": f"mean of {count} random planes", **options})
    plain = {name: value for name, value in options.items() if name not in ("cap", "limits")}
    apart = landscape._replace(
        losses=deviation, center=float("nan"), chart={**landscape.chart, "center": None}
    )
    contour(apart, second, **{**plain, "title": "standard deviation"})
    return figure
