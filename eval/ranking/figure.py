"""The ranking as a picture: sorted dots, their intervals, and a column for each letter."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory

from eval.ranking.table import words


def draw(frame: pd.DataFrame, colours: Mapping[str, str], ink: str, width: float) -> Figure:
    """Draw a panel for each average, one below the other, each sorted by itself.

    Args:
        frame: the ranking.
        colours: of the arms that stand out; all others are drawn in ``ink``.
        ink: colour of text and of other arms.
        width: of the figure, in inches.
    """
    blocks = dict(list(frame.groupby("column", sort=False)))
    height = len(blocks) * (0.6 + 0.16 * frame["arm"].nunique())
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = np.asarray(figure.subplots(len(blocks), 1, squeeze=False)).flat
    for axis, (column, block) in zip(axes, blocks.items(), strict=True):
        _panel(axis, block, colours, ink)
        axis.set_title(words(column))
    return figure


def _panel(axis: Axes, block: pd.DataFrame, colours: Mapping[str, str], ink: str) -> None:
    every = sorted({letter for found in block["letters"] for letter in found.split()}, key=_place)
    beside = blended_transform_factory(axis.transAxes, axis.transData)
    for place, (_, row) in enumerate(block.iterrows()):
        y, colour = len(block) - 1 - place, colours.get(row["arm"], ink)
        ends = [100 * row["low"], 100 * row["high"]]
        axis.plot(ends, [y, y], color=colour, linewidth=1.6, solid_capstyle="butt")
        axis.plot(100 * row["mean"], y, "o", color=colour, markersize=4.2, markeredgecolor="white", markeredgewidth=0.5)
        for letter in row["letters"].split():
            right = (7 + 7 * every.index(letter), 0)  # points
            axis.annotate(letter, (1, y), right, beside, "offset points", fontsize=7, va="center", ha="center")
    axis.set_ylim(-0.6, len(block) - 0.4)
    axis.set_yticks(range(len(block))[::-1], list(block["label"]))
    axis.tick_params(axis="y", length=0, labelsize=7)
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axis.set_xlabel("% correct")


def _place(letter: str) -> tuple[int, bool, str]:
    """Sort a to z, A to Z, then a2 and so on."""
    return (int(letter[1:] or 1), letter[0].isupper(), letter)
