"""Figures, as SVG and PNG, drawn from the stored tables and metrics; identical inputs give identical SVG files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from eval.display import heading
from eval.records import BASE, Runs, load_metrics
from eval.tables import INSIDE, OUTSIDE, read_tables

# petroff10 (Petroff, arXiv 2107.02270) tells ten colours apart under colour-vision deficiencies; its greys go to the base.
PALETTE = ("#3f90da", "#ffa90e", "#bd1f01", "#832db6", "#a96b59", "#e76300", "#2a9d6f", "#92dadd", "#b9ac70", "#d36ba8")
GREY, INK = "#717581", "#24292f"
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
    "grid.color": "#e6e8eb",
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


def draw_figures(runs: Runs, out: Path) -> None:
    """Write ``<name>.svg`` and ``<name>.png`` of each of :data:`FIGURES`."""
    tables = read_tables(runs.results / "tables")
    metrics = load_metrics(runs)
    out.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        for name, draw in FIGURES.items():
            figure = draw(tables, metrics)
            figure.savefig(out / f"{name}.svg", metadata={"Date": None, "Creator": None})
            FigureCanvasAgg(figure).print_png(out / f"{name}.png", metadata={"Software": None})


def accuracy(tables: Mapping[str, pd.DataFrame], metrics: pd.DataFrame) -> Figure:
    """Accuracy of each arm, one panel a column of the main table."""
    return _panels(tables["main"], _titles(tables["main"]), across=4)


def averages(tables: Mapping[str, pd.DataFrame], metrics: pd.DataFrame) -> Figure:
    """Macro averages in and out of distribution."""
    frame = tables["main"]
    chosen = frame[frame["column"].isin([INSIDE, OUTSIDE])]
    return _panels(chosen, _average_titles(chosen), across=2)


def differences(tables: Mapping[str, pd.DataFrame], metrics: pd.DataFrame) -> Figure:
    """Paired differences of the averages to the reference arm."""
    frame = tables["differences"]
    chosen = frame[frame["column"].isin([INSIDE, OUTSIDE])]
    renamed = chosen.rename(columns={"difference": "mean", "difference_low": "low", "difference_high": "high"})
    reference = str(frame["reference"].iloc[0])
    return _panels(renamed, _average_titles(chosen), across=2, zero=f"points over {reference}", order=_order(tables))


def difficulty(tables: Mapping[str, pd.DataFrame], metrics: pd.DataFrame) -> Figure:
    """Accuracy on routine and on hard prompts; where levels are unknown, by what the base got right."""
    frame = tables["difficulty"].rename(columns={"prompts": "column"})
    wanted = {"level 0": "routine prompts (level 0)", "hard": "hard prompts (level 2 and up)"}
    if not set(wanted) <= set(frame["column"]):
        wanted = {"base always right": "prompts the base always gets right", "base never right": "prompts the base never gets right"}
    titles = {name: title for name, title in wanted.items() if name in set(frame["column"])}
    return _panels(frame[frame["column"].isin(titles)], titles, across=2)


def curves(tables: Mapping[str, pd.DataFrame], metrics: pd.DataFrame) -> Figure:
    """Training metrics over steps: the mean over seeds, and a band from the lowest to the highest seed."""
    order = _order(tables)
    present = [(key, title, scale) for key, title, scale in CURVES if key in metrics and metrics[key].notna().any()]
    figure, axes = _grid(len(present) + 1, across=2, height=1.75)
    colours, window = _colours(order), _window(metrics)
    for axis, (key, title, scale) in zip(axes, present, strict=False):
        for number, (arm, _) in enumerate(order):
            if arm != BASE:
                _curve(axis, metrics[metrics["arm"] == arm], key, scale, window, colours[arm], DASHES[number % len(DASHES)])
        axis.set_title(title)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.margins(x=0.01)
        if key == "grad_norm":
            axis.set_yscale("log")
    for axis in axes[max(0, len(present) - 2) : len(present)]:
        axis.set_xlabel("step")
    _legend(axes[len(present)], [(label, colours[arm], DASHES[n % len(DASHES)]) for n, (arm, label) in enumerate(order) if arm != BASE])
    for axis in axes[len(present) + 1 :]:
        axis.axis("off")
    return figure


FIGURES: dict[str, Callable[[Mapping[str, pd.DataFrame], pd.DataFrame], Figure]] = {
    "averages": averages,
    "differences": differences,
    "accuracy": accuracy,
    "difficulty": difficulty,
    "curves": curves,
}


def _panels(
    frame: pd.DataFrame,
    titles: Mapping[str, str],
    across: int,
    zero: str | None = None,
    order: Sequence[tuple[str, str]] | None = None,
) -> Figure:
    """Dots and intervals, one panel a column, one line an arm; ``zero`` names the axis of differences and marks a tie."""
    order = order or list(frame.drop_duplicates("arm")[["arm", "label"]].itertuples(index=False, name=None))
    colours = _colours(order)
    shown = [(arm, label) for arm, label in order if arm in set(frame["arm"])]
    places = {arm: len(shown) - 1 - number for number, (arm, _) in enumerate(shown)}
    across = min(across, len(titles))
    figure, axes = _grid(len(titles), across, height=0.55 + 0.17 * len(shown))
    for number, (axis, (column, title)) in enumerate(zip(axes, titles.items(), strict=False)):
        block = frame[frame["column"] == column]
        for row in block.itertuples():
            y, colour = places[row.arm], colours[row.arm]
            axis.plot([100 * row.low, 100 * row.high], [y, y], color=colour, linewidth=1.8, solid_capstyle="butt")
            axis.plot(100 * row.mean, y, "o", color=colour, markersize=4.2, markeredgecolor="white", markeredgewidth=0.5)
        axis.set_title(title)
        axis.set_ylim(-0.6, len(shown) - 0.4)
        axis.set_yticks(list(places.values()), [label for _, label in shown] if number % across == 0 else [""] * len(shown))
        axis.tick_params(axis="y", length=0)
        axis.grid(visible=False, axis="y")
        axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if zero:
            axis.axvline(0, color=INK, linewidth=0.8, zorder=0)
        if number >= len(titles) - across:
            axis.set_xlabel(zero or "% correct")
    for axis in axes[len(titles) :]:
        axis.axis("off")
    return figure


def _grid(count: int, across: int, height: float) -> tuple[Figure, list[Axes]]:
    down = -(-count // across)
    figure = Figure(figsize=(WIDTH, height * down + 0.25), layout="constrained")
    return figure, list(np.asarray(figure.subplots(down, across, squeeze=False)).flat)


def _curve(axis: Axes, frame: pd.DataFrame, key: str, scale: float, window: int, colour: str, dashes: Any) -> None:
    table = frame.pivot_table(index="step", columns="seed", values=key, dropna=True) * scale
    if table.empty:
        return
    smooth = table.rolling(window, min_periods=1, center=True).mean()
    axis.plot(smooth.index, smooth.mean(axis=1), color=colour, linewidth=1.2, linestyle=dashes)
    axis.fill_between(smooth.index, smooth.min(axis=1), smooth.max(axis=1), color=colour, alpha=0.13, linewidth=0)


def _window(metrics: pd.DataFrame) -> int:
    """Steps that a curve averages over: about a twentieth of the run, odd."""
    return max(1, int(metrics["step"].max() + 1) // 20) | 1


def _legend(axis: Axes, entries: Sequence[tuple[str, str, Any]]) -> None:
    axis.axis("off")
    for label, colour, dashes in entries:
        axis.plot([], [], color=colour, linestyle=dashes, linewidth=1.6, label=label)
    axis.legend(loc="center left", frameon=False, ncols=1 if len(entries) <= 10 else 2, handlelength=2.6)


def _order(tables: Mapping[str, pd.DataFrame]) -> list[tuple[str, str]]:
    return list(tables["main"].drop_duplicates("arm")[["arm", "label"]].itertuples(index=False, name=None))


def _colours(order: Sequence[tuple[str, str]]) -> dict[str, str]:
    """One colour an arm in all figures, by its place among the trained arms."""
    trained = [arm for arm, _ in order if arm != BASE]
    return {BASE: GREY, **{arm: PALETTE[number % len(PALETTE)] for number, arm in enumerate(trained)}}


def _titles(frame: pd.DataFrame) -> dict[str, str]:
    return {str(name): heading(block) for name, block in frame.groupby("column", sort=False)}


def _average_titles(frame: pd.DataFrame) -> dict[str, str]:
    names = {INSIDE: "in distribution, average", OUTSIDE: "out of distribution, average"}
    limited = " (limited)" if frame["limited"].notna().any() else ""
    return {name: title + limited for name, title in names.items() if name in set(frame["column"])}
