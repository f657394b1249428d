"""Pictures: the one door to matplotlib, which is optional and imported here only."""

from __future__ import annotations

from typing import Any

from jaxrec._checks import InputError


def require_matplotlib() -> None:
    """Refuses to plot where matplotlib is missing, before time is spent."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError("a plot needs matplotlib; install it with: pip install 'jaxrec[plots]'.") from None


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches, which needs no screen and leaves pyplot's state alone."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write(figure: Any, path: Any) -> None:
    """Writes a figure to an image file, of the kind that the ending of its name says."""
    try:
        figure.savefig(path, dpi=150)
    except ValueError as error:  # of an ending it does not know
        raise InputError(f"the plot cannot be written to {path}: {error}.") from error
