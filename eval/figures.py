"""Figures, as SVG and PNG, drawn from the stored tables and metrics; identical inputs give identical SVG files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.display import IN_DISTRIBUTION, OOD, heading
from eval.methods.figure import curves_beside
from eval.ranking import figure as ranking
from eval.records import BASE, Runs, labels, load_metrics
from eval.tables import read_tables

# petroff10 (Petroff, arXiv 2107.02270), made for readers with colour-vision deficiencies. Its blue is for the reference
# arm, its red for the arm that the page asks about, its grey for the base.
BLUE, RED, GREY = "#3f90da", "#bd1f01", "#717581"
OTHERS = ("#ffa90e", "#832db6", "#a96b59", "#92dadd", "#e76300", "#b9ac70", "#2a9d6f", "#d36ba8")
INK = "#24292f"
MARKERS = "oDs^vP"
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
MANY = 14
"""Arms whose curves can be told apart by colour and dashes."""
BEHIND: dict[str, Any] = {"color": "#c4c9cf", "linewidth": 0.5, "zorder": 1}


@dataclass(frozen=True, slots=True)
class Source:
    """What the figures of one base corpus are drawn from.

    ``arms`` are the main arms and ``swept`` those with fewer seeds, in table order (name -> label).
    """

    tables: Mapping[str, pd.DataFrame]
    metrics: pd.DataFrame
    arms: Mapping[str, str]
    reference: str
    subject: str | None
    swept: Mapping[str, str] = field(default_factory=dict)

    @property
    def colours(self) -> dict[str, str]:
        """One colour an arm, the same in all figures; arms with fewer seeds share one."""
        fixed = {BASE: GREY, self.reference: BLUE, self.subject: RED}
        rest = [arm for arm in self.arms if arm not in fixed]
        main = {arm: fixed.get(arm) or OTHERS[rest.index(arm) % len(OTHERS)] for arm in self.arms}
        return dict.fromkeys(self.swept, INK) | main

    @property
    def dashes(self) -> dict[str, Any]:
        """Dashes of the lines: solid for the reference and the arm that is asked about."""
        rest = [arm for arm in self.arms if arm not in (self.reference, self.subject)]
        solid, others = DASHES[0], DASHES[1:]
        return {arm: others[rest.index(arm) % len(others)] if arm in rest else solid for arm in self.arms}


def draw_figures(corpora: Mapping[str, Runs], out: Path) -> None:
    """Write svg and png: of each base corpus its :data:`FIGURES` to ``<base>/``, of several also those of both.

    Where arms have fewer seeds than others, they are drawn apart, in ``sweeps``; the curves of each arm by itself stand
    in ``<base>/methods/``.
    """
    sources = {base: read_source(runs) for base, runs in corpora.items()}
    with mpl.rc_context(STYLE):
        for base, source in sources.items():
            for name, draw in FIGURES.items():
                write_figure(draw(source), out / base / name)
            if source.swept:
                write_figure(swept(source), out / base / "sweeps")
            for arm in [arm for arm in {**source.arms, **source.swept} if arm != BASE]:
                write_figure(curves_of(source, arm), out / base / "methods" / arm)
        if len(sources) > 1:
            write_figure(side_by_side(sources), out / "side_by_side")
            if any(source.swept for source in sources.values()):
                write_figure(side_by_side(sources, of_sweeps=True), out / "side_by_side_sweeps")


def read_source(runs: Runs) -> Source:
    """Read what the figures of one base corpus are drawn from."""
    tables, names = read_tables(runs.tables), labels(runs)
    main = {arm: label for arm, label in names.items() if arm not in runs.sweeps}
    few = {arm: names[arm] for arm in runs.sweeps}
    return Source(tables, load_metrics(runs), main, runs.experiment.evaluation.reference, runs.subject, few)


def write_figure(figure: Figure, path: Path) -> None:
    """Write ``<path>.svg`` and ``<path>.png``, without a date or the name of a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by with_suffix, which would cut a name at its dot: `dagrpo.delta0` and `dagrpo.delta5` are two arms.
    figure.savefig(path.with_name(f"{path.name}.svg"), metadata={"Date": None, "Creator": None})
    FigureCanvasAgg(figure).print_png(path.with_name(f"{path.name}.png"), metadata={"Software": None})


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
    """Training metrics over steps: the mean over seeds, and a band from the lowest to the highest seed; of many arms
    those that the page asks about, in front of the others."""
    metrics = source.metrics
    present = [(key, title, scale) for key, title, scale in CURVES if key in metrics and metrics[key].notna().any()]
    figure, axes = _grid(len(present) + 1, across=2, height=1.75)
    # A step is noisy: average over about a twentieth of the run, an odd number of steps.
    window = int(metrics["step"].max() + 1) // 20 | 1
    trained = [arm for arm in source.arms if arm != BASE]
    asked = trained if len(trained) <= MANY else [arm for arm in trained if arm in (source.reference, source.subject)]
    others = [arm for arm in trained if arm not in asked]
    for number, (axis, (key, title, scale)) in enumerate(zip(axes, present, strict=False)):
        for arm in (*others, *asked):
            table = metrics[metrics["arm"] == arm].pivot_table(index="step", columns="seed", values=key) * scale
            if key in LOGARITHMIC:  # a step in which no row had an advantage has no gradient, and no logarithm
                table = table[table > 0]
            smooth = table.rolling(window, min_periods=1, center=True).mean()
            low, high = smooth.min(axis=1), smooth.max(axis=1)
            if arm in others:
                axis.plot(smooth.index, smooth.mean(axis=1), **BEHIND)
                continue
            axis.plot(smooth.index, smooth.mean(axis=1), **_line(source, arm))
            axis.fill_between(smooth.index, low, high, color=source.colours[arm], alpha=0.13, linewidth=0)
        axis.set_title(title)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.margins(x=0.01)
        # a logarithmic axis without a positive value cannot be drawn
        axis.set_yscale("log" if key in LOGARITHMIC and (metrics[key] > 0).any() else "linear")
        axis.set_xlabel("step" if number >= len(present) - 2 else "")
    for axis in axes[len(present) :]:
        axis.axis("off")
    for arm in asked:
        axes[len(present)].plot([], [], label=source.arms[arm], **_line(source, arm))
    if others:
        axes[len(present)].plot([], [], label=f"each of {len(others)} other arms", **BEHIND)
    axes[len(present)].legend(loc="center left", frameon=False, ncols=1 + len(asked) // 10, handlelength=2.8)
    return figure


def swept(source: Source) -> Figure:
    """Averages, and below them differences, of the arms with fewer seeds, under the two arms of the question."""
    arms, titles = _with_asked(source), _averages(source)
    figure, axes = _grid(2 * len(titles), len(titles), height=0.55 + 0.17 * len(arms))
    for number, (axis, (frame, column, zero)) in enumerate(zip(axes, _averages_and_differences(source), strict=True)):
        block = frame[frame["column"] == column].set_index("arm")
        _lines(axis, block, arms, source.colours)
        _mark(axis, 0 if zero else 100 * block.loc[source.reference, "mean"])
        _names(axis, arms, shown=number % len(titles) == 0)
        axis.set_title(titles[column] if zero is None else "difference")
        axis.set_xlabel(zero or "% correct")
    return figure


def side_by_side(sources: Mapping[str, Source], of_sweeps: bool = False) -> Figure:
    """Averages, and below them differences to the reference, of each arm on every base corpus: a marker a corpus."""
    first = next(iter(sources.values()))
    titles = _averages(first)
    arms = _with_asked(first) if of_sweeps else first.arms
    figure, axes = _grid(2 * len(titles), len(titles), height=0.7 + (0.09 + 0.09 * len(sources)) * len(arms))
    for place, (base, source) in enumerate(sources.items()):
        marker, shift = MARKERS[place % len(MARKERS)], 0.3 * ((len(sources) - 1) / 2 - place)
        for axis, (frame, column, zero) in zip(axes, _averages_and_differences(source), strict=True):
            _lines(axis, frame[frame["column"] == column].set_index("arm"), arms, source.colours, marker, shift)
            axis.set_title(titles[column] if zero is None else "difference")
            axis.set_xlabel(zero or "% correct")
            if zero and not place:
                _mark(axis, 0)
        axes[0].plot([], [], marker, color=INK, markersize=4.4, label=base)
    for number, axis in enumerate(axes):
        _names(axis, arms, shown=number % len(titles) == 0)
    figure.legend(loc="outside upper left", ncols=len(sources), frameon=False)
    return figure


def ranked(source: Source) -> Figure:
    """All arms, those with fewer seeds too, sorted by each average, with the letters of those that are not apart."""
    fixed = {arm: source.colours[arm] for arm in (BASE, source.reference, source.subject) if arm is not None}
    return ranking.draw(source.tables["ranking"], fixed, INK, WIDTH)


def curves_of(source: Source, arm: str) -> Figure:
    """Training of one arm beside the reference arm."""
    names = {**source.arms, **source.swept}
    reference = (source.reference, names[source.reference], BLUE)
    own = reference if arm == source.reference else (arm, names[arm], RED)
    return curves_beside(source.metrics, own, reference, WIDTH)


FIGURES: dict[str, Callable[[Source], Figure]] = {
    "averages": averages,
    "differences": differences,
    "ranking": ranked,
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
    arms = {arm: label for arm, label in source.arms.items() if arm in set(frame["arm"])}
    across = min(across, len(titles))
    figure, axes = _grid(len(titles), across, height=0.55 + 0.17 * len(arms))
    for number, (axis, (column, title)) in enumerate(zip(axes, titles.items(), strict=False)):
        block = frame[frame["column"] == column].set_index("arm")
        _lines(axis, block, arms, source.colours)
        _mark(axis, 0 if zero else 100 * block.loc[source.reference, "mean"])
        _names(axis, arms, shown=number % across == 0)
        axis.set_title(title.replace(" (first", "\n(first"))
        if number >= len(titles) - across:
            axis.set_xlabel(zero or "% correct")
    for axis in axes[len(titles) :]:
        axis.axis("off")
    return figure


def _lines(
    axis: Axes,
    block: pd.DataFrame,
    arms: Mapping[str, str],
    colours: Mapping[str, str],
    marker: str = "o",
    shift: float = 0.0,
) -> None:
    """An interval and its estimate for each arm that ``block`` (by arm) has, from the top down."""
    for number, arm in enumerate(arms):
        if arm not in block.index:
            continue
        row, y = block.loc[arm], len(arms) - 1 - number + shift
        ends, width = [100 * row["low"], 100 * row["high"]], 1.2 if shift else 1.8
        axis.plot(ends, [y, y], color=colours[arm], linewidth=width, solid_capstyle="butt")
        axis.plot(
            100 * row["mean"],
            y,
            marker,
            color=colours[arm],
            markersize=4.4,
            markeredgecolor="white",
            markeredgewidth=0.5,
        )


def _mark(axis: Axes, value: float) -> None:
    axis.axvline(value, color="#8c959f", linewidth=0.7, linestyle=DASHES[2], zorder=0)


def _names(axis: Axes, arms: Mapping[str, str], shown: bool) -> None:
    axis.set_ylim(-0.6, len(arms) - 0.4)
    axis.set_yticks(range(len(arms))[::-1], [label if shown else "" for label in arms.values()])
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))


def _grid(count: int, across: int, height: float) -> tuple[Figure, list[Axes]]:
    down = -(-count // across)
    figure = Figure(figsize=(WIDTH, height * down + 0.25), layout="constrained")
    return figure, list(np.asarray(figure.subplots(down, across, squeeze=False)).flat)


def _line(source: Source, arm: str) -> dict[str, Any]:
    """Style of a curve; the two arms of the question stand out."""
    asked = arm in (source.reference, source.subject)
    style = {"color": source.colours[arm], "linestyle": source.dashes[arm]}
    return {**style, "linewidth": 1.8 if asked else 1.0, "zorder": 3 if asked else 2}


def _with_asked(source: Source) -> dict[str, str]:
    """The two arms of the question, then the arms with fewer seeds."""
    return {arm: label for arm, label in source.arms.items() if arm in (source.reference, source.subject)} | dict(
        source.swept
    )


def _averages_and_differences(source: Source) -> list[tuple[pd.DataFrame, str, str | None]]:
    """A panel each: its frame, its column and, of differences, the name of the axis."""
    versus, reference = source.tables["differences"].rename(columns=_VERSUS), source.arms[source.reference]
    both = ((source.tables["main"], None), (versus, f"points over {reference}"))
    return [(frame, column, zero) for frame, zero in both for column in _averages(source)]


def _averages(source: Source) -> dict[str, str]:
    frame = source.tables["main"]
    names = {IN_DISTRIBUTION: "in distribution, average", OOD: "out of distribution, average"}
    limited = " (limited)" if frame["limited"].notna().any() else ""
    return {name: title + limited for name, title in names.items() if name in set(frame["column"])}
