"""Heat maps of cosines beside each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxrec._checks import InputError
from jaxrec.runtime.plots import new_figure, write

PANEL_INCHES = 3.0


def heat_maps(
    panels: Mapping[str, Any], path: Any, *, clusters: Any = None, title: str | None = None, per_row: int = 5
) -> None:
    """Writes similarities of items as heat maps on one scale, from -1 to 1, to an image file; needs matplotlib.

    Args:
      panels: [I, I] similarities by the title above them; NaN is drawn grey.
      path: of the image file; its ending says of what kind.
      clusters: [I] a number for each item, in ascending order: thin lines are drawn between clusters. Or None.
      title: above all, or None.
      per_row: panels in a row.

    Raises:
      InputError: there is nothing to draw, matplotlib is missing, or the file name has no known ending.
    """
    if not panels:
        raise InputError("heat_maps needs at least one panel.")
    columns = min(per_row, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(PANEL_INCHES * columns + 0.6, (PANEL_INCHES + 0.35) * rows + (0.4 if title else 0))
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, (name, values) in zip(axes, panels.items(), strict=False):
        values = np.asarray(values)
        # White is 0. Where a pixel holds several pairs their mean is drawn: mixing red and blue would make purple.
        image = place.imshow(
            values, vmin=-1, vmax=1, cmap="RdBu_r", interpolation="antialiased", interpolation_stage="data"
        )
        place.set_facecolor("0.8")  # shows where a similarity is NaN, which is drawn transparent
        place.set_title(name, fontsize=10)
        place.set(xticks=[], yticks=[])
        if clusters is not None:
            for border in np.flatnonzero(np.diff(np.asarray(clusters))) + 0.5:
                place.axhline(border, color="black", linewidth=0.4)
                place.axvline(border, color="black", linewidth=0.4)
    for place in axes[len(panels) :]:
        place.set_axis_off()
    figure.colorbar(image, ax=axes.tolist(), label="similarity", shrink=0.8, pad=0.01)
    if title:
        figure.suptitle(title, fontsize=12)
    write(figure, path)
