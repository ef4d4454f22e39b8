"""The verdicts on accuracy as a forest plot, drawn from the stored frame."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.claims.verdicts import Verdict
from eval.figures import BLUE, DASHES, GREY, INK, MARKERS, RED, STYLE, WIDTH, write_figure

_COLOURS = {Verdict.REPRODUCED: BLUE, Verdict.CONTRADICTED: RED, Verdict.NO_DIFFERENCE: INK, Verdict.UNDECIDED: GREY}
_ACCURACY = ("difference", "order", "best")


def draw_claims(frame: pd.DataFrame, out: Path) -> None:
    """Write ``claims.svg`` and ``claims.png`` to a folder, unless no claim on accuracy applies."""
    if not (frame["statistic"].isin(_ACCURACY) & frame["estimate"].notna()).any():
        return
    with mpl.rc_context(STYLE):
        write_figure(claims_figure(frame), out / "claims")


def claims_figure(frame: pd.DataFrame) -> Figure:
    """Draw estimate and corrected interval of each claim on accuracy, a marker a corpus; the paper's figure marked."""
    shown = frame[frame["statistic"].isin(_ACCURACY) & frame["estimate"].notna()]
    labels = dict(zip(shown["claim"], shown["label"], strict=True))
    corpora = list(dict.fromkeys(frame["corpus"]))
    figure = Figure(figsize=(WIDTH, 1.1 + (0.16 + 0.12 * len(corpora)) * len(labels)), layout="constrained")
    axis = figure.subplots()
    axis.axvline(0, color=INK, linewidth=0.9, linestyle=DASHES[2], zorder=1)
    for place, claim in enumerate(labels):
        middle, block = len(labels) - 1 - place, shown[shown["claim"] == claim].set_index("corpus")
        for number, corpus in enumerate(corpora):
            if corpus not in block.index:
                continue
            row, y = block.loc[corpus], middle + 0.3 * ((len(corpora) - 1) / 2 - number)
            colour = _COLOURS.get(row["verdict"], GREY)
            axis.plot([100 * row["low"], 100 * row["high"]], [y, y], color=colour, linewidth=1.6)
            (dot,) = axis.plot(100 * row["estimate"], y, MARKERS[number % len(MARKERS)], color=colour, markersize=5)
            dot.set(markeredgecolor="white", markeredgewidth=0.5)
        of_claim = block.iloc[0]
        least = [100 * of_claim["smallest"]] * 2
        axis.plot(least, [middle - 0.4, middle + 0.4], color="#8c959f", linewidth=1.0, zorder=1)
        if not pd.isna(of_claim["paper"]):
            axis.plot(100 * of_claim["paper"], middle, "*", color="white", markeredgecolor=INK, markersize=8, zorder=4)
    axis.set_ylim(-0.5, max(1, len(labels)) - 0.5)
    axis.set_yticks(range(len(labels))[::-1], list(labels.values()))
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axis.set_xlabel("points of accuracy, as claimed to the right; short line: the smallest effect that matters")
    _legend(figure, axis, corpora, set(shown["verdict"]), bool(shown["paper"].notna().any()))
    return figure


def _legend(figure: Figure, axis: Axes, corpora: Sequence[str], verdicts: set[str], paper: bool) -> None:
    if len(corpora) > 1:
        for number, corpus in enumerate(corpora):
            axis.plot([], [], MARKERS[number % len(MARKERS)], color=INK, markersize=5, label=corpus)
    for verdict, colour in _COLOURS.items():
        if verdict in verdicts:
            axis.plot([], [], color=colour, linewidth=2.4, label=str(verdict))
    if paper:
        axis.plot([], [], "*", color="white", markeredgecolor=INK, markersize=8, linestyle="", label="the paper")
    if axis.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper center", ncols=6, frameon=False)
