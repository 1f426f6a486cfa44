"""Figures that pyplot knows nothing of: made, written to files and shown."""

from __future__ import annotations

import importlib
import io
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lla_func.files import PathLike, replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE_BACKENDS = ("agg", "cairo", "pdf", "pgf", "ps", "svg", "template")  # matplotlib's, without a window
# what would put the date or the version of the software into a file
UNDATED: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None},
    ".svg": {"Date": None},
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: PathLike, *, dpi: int = 200) -> Path:
    """Writes a figure, whole or not at all; the same figure gives the same PNG, byte for byte.

    Args:
        figure: what to write.
        path: where; its suffix says the format (.png, .pdf, .svg, ...), .png if it has none.
        dpi: the resolution of a PNG.

    Returns:
        The path written.

    Raises:
        ValueError: the suffix is no format of matplotlib's.
        OSError: the file cannot be written.
    """
    path = Path(path)
    path = path if path.suffix else path.with_suffix(".png")
    suffix = path.suffix.lower()
    with replacing(path) as file:
        undated = UNDATED.get(suffix)
        figure.savefig(
            file, format=suffix[1:], dpi=dpi, bbox_inches="tight", pad_inches=0.08, metadata=undated
        )
    return path


def show(figure: Figure) -> bool:
    """Shows a figure in the notebook, or else in a window until that is closed.

    Where there is neither, it warns and says what to do: results are not lost because nobody could look at
    them. The window is the one thing here that goes through pyplot.

    Returns:
        Whether the figure was shown.
    """
    # a notebook has imported IPython already; nobody else needs it
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=110, bbox_inches="tight")
        display = importlib.import_module("IPython.display")
        display.display(display.Image(data=picture.getvalue()))
        return True
    try:
        from matplotlib import pyplot

        backend = pyplot.get_backend()
        if backend.lower() in FILE_BACKENDS:
            raise ImportError(f"matplotlib's backend is {backend!r}, which only writes files")
        adopt: Any = lambda **_: figure  # noqa: E731
        pyplot.figure(FigureClass=adopt)
    except ImportError as error:
        warnings.warn(
            f"there is no display to show the figure on ({error}); save it to a file instead", stacklevel=2
        )
        return False
    pyplot.show(block=True)
    pyplot.close(figure)
    return True
