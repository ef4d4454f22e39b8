"""Figures, as SVG and PNG, drawn from the stored tables and metrics; identical inputs give identical SVG files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.display import INSIDE, OUTSIDE, heading
from eval.records import BASE, Runs, labels, load_metrics
from eval.tables import read_tables

# petroff10 (Petroff, arXiv 2107.02270), made for readers with colour-vision deficiencies. Its blue is for the reference
# arm, its red for the arm that the page asks about, its grey for the base.
BLUE, RED, GREY = "#3f90da", "#bd1f01", "#717581"
OTHERS = ("#ffa90e", "#832db6", "#a96b59", "#92dadd", "#e76300", "#b9ac70", "#2a9d6f", "#d36ba8")
INK = "#24292f"
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
STYLE = {
    "svg.hashsalt": "dagrpo",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#8c959f",
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceef0",
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "figure.facecolor": "white",
    "savefig.dpi": 160,
}
WIDTH = 7.4
CURVES = (
    ("reward", "reward", 1.0),
    ("grad_norm", "gradient norm before clipping", 1.0),
    ("response_tokens", "response length (tokens)", 1.0),
    ("entropy", "entropy (nats a token)", 1.0),
    ("masked_share", "rows masked (%)", 100.0),
)
LOGARITHMIC = ("grad_norm",)


@dataclass(frozen=True, slots=True)
class Source:
    """What figures are drawn from: the tables, the metrics, and the arms in table order (name -> label)."""

    tables: Mapping[str, pd.DataFrame]
    metrics: pd.DataFrame
    arms: Mapping[str, str]
    reference: str
    subject: str | None

    @property
    def colours(self) -> dict[str, str]:
        """One colour an arm, the same in all figures."""
        fixed = {BASE: GREY, self.reference: BLUE, self.subject: RED}
        rest = [arm for arm in self.arms if arm not in fixed]
        return {arm: fixed.get(arm) or OTHERS[rest.index(arm) % len(OTHERS)] for arm in self.arms}

    @property
    def dashes(self) -> dict[str, Any]:
        """Dashes of the lines: solid for the reference and the arm that is asked about."""
        rest = [arm for arm in self.arms if arm not in (self.reference, self.subject)]
        solid, others = DASHES[0], DASHES[1:]
        return {arm: others[rest.index(arm) % len(others)] if arm in rest else solid for arm in self.arms}


def draw_figures(runs: Runs, out: Path) -> None:
    """Write ``<name>.svg`` and ``<name>.png`` of each of :data:`FIGURES`."""
    tables, reference = read_tables(runs.results / "tables"), runs.experiment.evaluation.reference
    source = Source(tables, load_metrics(runs), labels(runs), reference, runs.subject)
    out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, draw in FIGURES.items():
            figure = draw(source)
            figure.savefig(out / f"{name}.svg", metadata={"Date": None, "Creator": None})
            FigureCanvasAgg(figure).print_png(out / f"{name}.png", metadata={"Software": None})


def accuracy(source: Source) -> Figure:
    """Accuracy of each arm, one panel a column of the main table."""
    frame = source.tables["main"]
    titles = {str(name): heading(block) for name, block in frame.groupby("column", sort=False)}
    return _panels(source, frame, titles, across=4)


def averages(source: Source) -> Figure:
    """Macro averages in and out of distribution."""
    return _panels(source, source.tables["main"], _averages(source), across=2)


def differences(source: Source) -> Figure:
    """Paired differences of the averages to the reference arm."""
    frame = source.tables["differences"].rename(columns=_VERSUS)
    return _panels(source, frame, _averages(source), across=2, zero=f"points over {source.arms[source.reference]}")


def difficulty(source: Source) -> Figure:
    """Accuracy on routine and on hard prompts; where levels are unknown, by what the base got right."""
    frame = source.tables["difficulty"].rename(columns={"prompts": "column"})
    present = set(frame["column"])
    titles = {"level 0": "routine prompts (level 0)", "hard": "hard prompts (level 2 and up)"}
    if not set(titles) <= present:
        titles = {
            "base always right": "prompts the base always solved",
            "base never right": "prompts the base never solved",
        }
    return _panels(source, frame, {name: title for name, title in titles.items() if name in present}, across=2)


def curves(source: Source) -> Figure:
    """Training metrics over steps: the mean over seeds, and a band from the lowest to the highest seed."""
    metrics = source.metrics
    present = [(key, title, scale) for key, title, scale in CURVES if key in metrics and metrics[key].notna().any()]
    figure, axes = _grid(len(present) + 1, across=2, height=1.75)
    # A step is noisy: average over about a twentieth of the run, an odd number of steps.
    window = int(metrics["step"].max() + 1) // 20 | 1
    trained = [arm for arm in source.arms if arm != BASE]
    for number, (axis, (key, title, scale)) in enumerate(zip(axes, present, strict=False)):
        for arm in trained:
            table = metrics[metrics["arm"] == arm].pivot_table(index="step", columns="seed", values=key) * scale
            if key in LOGARITHMIC:  # a step in which no row had an advantage has no gradient, and no logarithm
                table = table[table > 0]
            smooth = table.rolling(window, min_periods=1, center=True).mean()
            low, high = smooth.min(axis=1), smooth.max(axis=1)
            axis.plot(smooth.index, smooth.mean(axis=1), **_line(source, arm))
            axis.fill_between(smooth.index, low, high, color=source.colours[arm], alpha=0.13, linewidth=0)
        axis.set_title(title)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.margins(x=0.01)
        axis.set_yscale("log" if key in LOGARITHMIC else "linear")
        axis.set_xlabel("step" if number >= len(present) - 2 else "")
    for axis in axes[len(present) :]:
        axis.axis("off")
    for arm in trained:
        axes[len(present)].plot([], [], label=source.arms[arm], **_line(source, arm))
    axes[len(present)].legend(loc="center left", frameon=False, ncols=1 + len(trained) // 10, handlelength=2.8)
    return figure


FIGURES: dict[str, Callable[[Source], Figure]] = {
    "averages": averages,
    "differences": differences,
    "accuracy": accuracy,
    "difficulty": difficulty,
    "curves": curves,
}
_VERSUS = {"difference": "mean", "difference_low": "low", "difference_high": "high"}


def _panels(
    source: Source, frame: pd.DataFrame, titles: Mapping[str, str], across: int, zero: str | None = None
) -> Figure:
    """Dots and intervals: a panel for each column, a line for each arm.

    A thin line stands at a tie where the values are differences (``zero`` names their axis), else at the reference arm.
    """
    arms = [arm for arm in source.arms if arm in set(frame["arm"])]
    places = {arm: len(arms) - 1 - number for number, arm in enumerate(arms)}
    across = min(across, len(titles))
    figure, axes = _grid(len(titles), across, height=0.55 + 0.17 * len(arms))
    for number, (axis, (column, title)) in enumerate(zip(axes, titles.items(), strict=False)):
        block = frame[frame["column"] == column].set_index("arm")
        for arm, y in places.items():
            row, colour = block.loc[arm], source.colours[arm]
            axis.plot([100 * row["low"], 100 * row["high"]], [y, y], color=colour, linewidth=1.8, solid_capstyle="butt")
            axis.plot(
                100 * row["mean"], y, "o", color=colour, markersize=4.4, markeredgecolor="white", markeredgewidth=0.5
            )
        mark = 0 if zero else 100 * block.loc[source.reference, "mean"]
        axis.axvline(mark, color="#8c959f", linewidth=0.7, linestyle=DASHES[2], zorder=0)
        axis.set_title(title.replace(" (first", "\n(first"))
        axis.set_ylim(-0.6, len(arms) - 0.4)
        axis.set_yticks(list(places.values()), [source.arms[arm] if number % across == 0 else "" for arm in arms])
        axis.tick_params(axis="y", length=0)
        axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if number >= len(titles) - across:
            axis.set_xlabel(zero or "% correct")
    for axis in axes[len(titles) :]:
        axis.axis("off")
    return figure


def _grid(count: int, across: int, height: float) -> tuple[Figure, list[Axes]]:
    down = -(-count // across)
    figure = Figure(figsize=(WIDTH, height * down + 0.25), layout="constrained")
    return figure, list(np.asarray(figure.subplots(down, across, squeeze=False)).flat)


def _line(source: Source, arm: str) -> dict[str, Any]:
    """Style of a curve; the two arms of the question stand out."""
    asked = arm in (source.reference, source.subject)
    style = {"color": source.colours[arm], "linestyle": source.dashes[arm]}
    return {**style, "linewidth": 1.8 if asked else 1.0, "zorder": 3 if asked else 2}


def _averages(source: Source) -> dict[str, str]:
    frame = source.tables["main"]
    names = {INSIDE: "in distribution, average", OUTSIDE: "out of distribution, average"}
    limited = " (limited)" if frame["limited"].notna().any() else ""
    return {name: title + limited for name, title in names.items() if name in set(frame["column"])}
