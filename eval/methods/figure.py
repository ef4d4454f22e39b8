"""Training curves of one arm beside those of the reference arm."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

PANELS = {
    "reward": "reward",
    "entropy": "entropy (nats a token)",
    "response_tokens": "length (tokens)",
    "grad_norm": "gradient norm",
}
_LOGARITHMIC = ("grad_norm",)
_POINTS = 50  # of a curve: a page has many


def curves_beside(
    metrics: pd.DataFrame, arm: tuple[str, str, str], reference: tuple[str, str, str], width: float
) -> Figure:
    """Draw a panel for each quantity that the arm has: means over seeds, and a band from lowest to highest seed.

    Args:
        metrics: a row for each step of each run, with arm, seed and step.
        arm: its name, its label and its colour.
        reference: likewise; drawn once where it is the arm itself.
        width: of the figure, in inches.
    """
    own = metrics[metrics["arm"] == arm[0]]
    present = [key for key in PANELS if key in own and own[key].notna().any()]
    figure = Figure(figsize=(width, 1.75), layout="constrained")
    axes = np.asarray(figure.subplots(1, len(PANELS), squeeze=False)).flat
    drawn = [reference, arm] if arm[0] != reference[0] else [arm]
    for axis, key in zip(axes, [*present, *[""] * (len(PANELS) - len(present))], strict=True):
        if not key:
            axis.axis("off")
            continue
        for name, label, colour in drawn:
            mean, low, high = smoothed(metrics[metrics["arm"] == name], key)
            axis.plot(mean.index, mean, color=colour, linewidth=1.3, label=label)
            axis.fill_between(mean.index, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set_title(PANELS[key], fontsize=7.5)
        # a logarithmic axis without a positive value cannot be drawn
        shown = metrics.loc[metrics["arm"].isin([name for name, *_ in drawn]), key]
        axis.set_yscale("log" if key in _LOGARITHMIC and (shown > 0).any() else "linear")
        axis.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axis.tick_params(labelsize=7)
        axis.margins(x=0.01)
    figure.supxlabel("step", fontsize=7.5)
    lines, labels = axes[0].get_legend_handles_labels()
    figure.legend(lines[::-1], labels[::-1], loc="outside upper left", ncols=2, frameon=False, fontsize=7.5)
    return figure


def smoothed(runs: pd.DataFrame, key: str) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Mean, lowest and highest seed at no more than 50 steps, each averaged over about a twentieth of the run."""
    if key not in runs or runs[key].isna().all():
        nothing = pd.Series(dtype=float)
        return nothing, nothing, nothing
    table = runs.pivot_table(index="step", columns="seed", values=key)
    table = table[table > 0] if key in _LOGARITHMIC else table  # no logarithm of a step without a gradient
    smooth = table.rolling(int(runs["step"].max() + 1) // 20 | 1, min_periods=1, center=True).mean()
    smooth = smooth.iloc[np.unique(np.linspace(0, len(smooth) - 1, _POINTS).round().astype(int))]
    return smooth.mean(axis=1), smooth.min(axis=1), smooth.max(axis=1)
