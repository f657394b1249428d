"""Pictures: the one door to matplotlib, which is optional and imported here only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxrec._checks import InputError


def check_plot_target(path: Any) -> None:
    """Refuses to plot if matplotlib is missing, or to a file of unknown kind, before time is spent."""
    _require_matplotlib()
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".").lower() not in known:
        raise InputError(f"the plot cannot be written to {path}; give one of the endings {', '.join(sorted(known))}.")


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError("a plot needs matplotlib; install it with: pip install 'jaxrec[plots]'.") from None


def new_figure(width: float, height: float) -> Any:
    """An empty figure of so many inches, which needs no screen and leaves pyplot's state alone."""
    _require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write(figure: Any, path: Any) -> None:
    """Writes a figure to an image file, of the kind that the ending of its name says."""
    check_plot_target(path)
    figure.savefig(path, dpi=150)
