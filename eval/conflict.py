"""What the gradients of a group do to each other: frames and figures from the lines that ``dagrpo conflict`` writes.

A group is one prompt of one snapshot of one run, with rows of both signs. Intervals are central 95 % of draws of whole
groups with replacement. They hold for the runs that were measured: that other seeds would give other groups is in
them, that other seeds would train to another place is not.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dagrpo.seeds import generator
from eval.figures import BLUE, DASHES, GREY, INK, OTHERS, RED, _grid
from eval.statistics import CONFIDENCE

GAPS = (-9.0, -6.0, -4.5, -3.0, -1.5, 0.0, 1.5, 3.0, 4.5, 6.0, 7.5, 9.0)
"""Edges of the bins of the score gap; a bin holds its lower edge, as the mask keeps a gap of exactly its margin."""

CONFLICTS = ("conflict_before", "conflict_after", "conflict_random", "conflict_random_by_side")
RESAMPLES = 1000
DRAWN = 1500
FEWEST = 5
_TIE = 1e-5
_RUN = ["base", "arm", "seed", "step"]


@dataclass(frozen=True, slots=True)
class Measured:
    """Frames with a row for each group, and for each positive-negative pair; ``group`` in ``pairs`` numbers ``groups``.

    Both name base, arm, seed and step. The other columns are those of :func:`dagrpo.measurements.conflict.describe`.
    """

    groups: pd.DataFrame
    pairs: pd.DataFrame


def measured_groups(runs: Iterable[tuple[tuple[str, str, int], Sequence[Mapping[str, Any]]]]) -> Measured:
    """Put together the measured groups of runs, each named by base, arm and seed; a run without snapshots has none."""
    groups: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for names, lines in runs:
        for line in lines:
            run = dict(zip(_RUN, (*names, line["step"]), strict=True))
            pairs += [{**run, "group": len(groups), **pair} for pair in line["pairs"]]
            groups.append({**run, **{key: value for key, value in line.items() if key != "pairs"}})
    empty = {"groups": [*_RUN, *CONFLICTS], "pairs": [*_RUN, "group", "cosine", "score_gap", "overlap"]}
    return Measured(
        pd.DataFrame(groups, columns=None if groups else empty["groups"]),
        pd.DataFrame(pairs, columns=None if pairs else empty["pairs"]).astype(
            {"cosine": float, "score_gap": float, "overlap": float}
        ),
    )


def summarise(measured: Measured, resamples: int = RESAMPLES) -> pd.DataFrame:
    """Give each statistic for every base and arm, by step and over all steps.

    ======================  ============================================================================================
    ``cosine``              median cosine of the pairs' pushes, in bins of the score gap (``gap_low`` to ``gap_high``)
    ``cosine_with_gap``     rank correlation of cosine and score gap; ``within``: of both less their group's mean
    ``cosine_with_overlap`` the same with the overlap of the two responses
    ``..._given_...``       the rank correlation with the one at equal ranks of the other (partial)
    ``opposed``             share of the pairs whose pushes oppose each other: a cosine below 0
    ``conflict``            mean conflict index of all groups, before the mask
    ``conflict_before``     ... of the groups of which the mask leaves some rows and drops some, before it
    ``conflict_after``      ... of the same groups, after it; ``_random``: after the same weights fell to random rows;
                            ``_random_by_side``: to random rows of the same side
    ``after_minus_...``     the differences of these, group by group; below 0 the mask lowers conflict more
    ``masked_whole``        share of groups that the mask drops whole; ``masked_in_part``: of which it leaves some rows;
                            ``masked_to_one_side``: of which it leaves rows of one sign only
    ``common_net_before``   mean absolute net coefficient on tokens that all rows share, in groups with such tokens;
    ``common_net_after``    the same after the mask: what it adds is drift
    ======================  ============================================================================================

    Returns:
        Columns base, arm, step (NA: all steps), statistic, gap_low, gap_high, value, low, high, groups, pairs. A
        statistic without a group is left out.
    """
    rows: list[dict[str, Any]] = []
    for (base, arm), block in measured.groups.groupby(["base", "arm"], sort=False):
        steps = [None, *sorted(block["step"].unique())]
        for step in steps if len(steps) > 2 else steps[:1]:
            groups = block if step is None else block[block["step"] == step]
            pairs = measured.pairs[measured.pairs["group"].isin(groups.index)]
            for name, found in _statistics(groups, pairs, resamples, f"{base} {arm} {step}"):
                rows.append({"base": base, "arm": arm, "step": step, "statistic": name, **found})
    columns = ["base", "arm", "step", "statistic", "gap_low", "gap_high", "value", "low", "high", "groups", "pairs"]
    return pd.DataFrame(rows, columns=columns).astype({"step": "Int64"})


def _statistics(
    groups: pd.DataFrame, pairs: pd.DataFrame, resamples: int, key: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    def over(name: str, frame: pd.DataFrame, group: pd.Series, statistic: "Statistic") -> Iterator[tuple[str, Any]]:
        """One statistic of the rows of ``frame``, with its interval over groups."""
        if len(frame):
            codes, names = pd.factorize(group)
            counts = generator("conflict", key, name).multinomial(
                len(names), np.full(len(names), 1 / len(names)), size=resamples
            )
            value = statistic(frame, codes, np.ones((1, len(names))))[0]
            draws = statistic(frame, codes, counts)
            known_draws = draws[~np.isnan(draws)]  # of a few groups alike, some draws have no correlation
            tails = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
            low, high = np.quantile(known_draws, tails) if len(known_draws) else (value, value)
            yield name, {"value": value, "low": low, "high": high, "groups": len(names), "pairs": len(frame)}

    def mean(name: str, values: pd.Series) -> Iterator[tuple[str, Any]]:
        values = values.dropna().astype(float)
        for found, row in over(name, values.to_frame("x"), values.index.to_series(), _mean("x")):
            yield found, {**row, "pairs": None}

    known = pairs[pairs["cosine"].notna() & pairs["score_gap"].notna()]
    for low, high in pairwise(GAPS):
        top = np.inf if high == GAPS[-1] else high - _TIE
        inside = known[(known["score_gap"] >= low - _TIE) & (known["score_gap"] < top)]
        for _, row in over(f"cosine {low}", inside, inside["group"], _median("cosine")):
            yield "cosine", {**row, "gap_low": low, "gap_high": high}
    for name, other in (("gap", "score_gap"), ("overlap", "overlap")):
        ranks = known[["cosine", other, "group"]].assign(x=known["cosine"].rank(), y=known[other].rank())
        inner = known[["cosine", other]] - known.groupby("group")[["cosine", other]].transform("mean")
        yield from over(f"cosine_with_{name}", ranks, known["group"], _correlation)
        yield from over(f"cosine_with_{name}_within", inner.set_axis(["x", "y"], axis=1), known["group"], _correlation)

    ranks = known[["cosine", "score_gap", "overlap"]].rank()
    for name, other, given in (("gap", "score_gap", "overlap"), ("overlap", "overlap", "score_gap")):
        columns = ranks.rename(columns={"cosine": "x", other: "y", given: "z"})
        yield from over(f"cosine_with_{name}_given_{given.removeprefix('score_')}", columns, known["group"], _partial)
    against = pairs[pairs["cosine"].notna()]
    for found, row in over("opposed", (against[["cosine"]] < 0).astype(float), against["group"], _mean("cosine")):
        yield found, row

    yield from mean("conflict", groups["conflict_before"])
    left = groups["kept_positives"] + groups["kept_negatives"]
    pushing = groups["positives"] + groups["negatives"]
    part = groups[(left > 0) & (left < pushing)]
    for name in CONFLICTS:
        yield from mean(name, part[name])
    for name in CONFLICTS:
        if name != "conflict_after":
            versus = name.removeprefix("conflict_")
            yield from mean(f"after_minus_{versus}", part["conflict_after"].astype(float) - part[name].astype(float))
    yield from mean("masked_whole", left == 0)
    yield from mean("masked_in_part", (left > 0) & (left < pushing))
    yield from mean("masked_to_one_side", (left > 0) & (groups[["kept_positives", "kept_negatives"]].min(axis=1) == 0))
    common = groups[groups["common_pairs"] > 0]
    for when in ("before", "after"):
        yield from mean(f"common_net_{when}", common[f"common_net_sum_{when}"].abs())


Statistic = Callable[[pd.DataFrame, np.ndarray, np.ndarray], np.ndarray]
"""A frame, the group of each of its rows (P,), and how often each group counts (B, G) -> (B,)."""


def _mean(column: str) -> Statistic:
    def mean(frame: pd.DataFrame, group: np.ndarray, counts: np.ndarray) -> np.ndarray:
        return (counts @ _sums(frame[column].to_numpy(), group)) / (counts @ _sums(np.ones(len(frame)), group))

    return mean


def _median(column: str) -> Statistic:
    """The lower median of the rows, each as often as its group counts."""

    def median(frame: pd.DataFrame, group: np.ndarray, counts: np.ndarray) -> np.ndarray:
        order = np.argsort(frame[column].to_numpy(), kind="stable")
        ordered, owner = frame[column].to_numpy()[order], group[order]
        found = np.empty(len(counts))
        for number, count in enumerate(counts):
            passed = np.cumsum(count[owner])
            found[number] = ordered[np.searchsorted(passed, passed[-1] / 2)] if passed[-1] else np.nan
        return found

    return median


def _partial(frame: pd.DataFrame, group: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The correlation of x and y at equal z."""
    xy, xz, yz = (
        _correlation(frame[[one, other]].set_axis(["x", "y"], axis=1), group, counts)
        for one, other in (("x", "y"), ("x", "z"), ("y", "z"))
    )
    spread = (1 - xz**2) * (1 - yz**2)
    return np.divide(xy - xz * yz, np.sqrt(spread), out=np.full(len(xy), np.nan), where=spread > 1e-12)


def _correlation(frame: pd.DataFrame, group: np.ndarray, counts: np.ndarray) -> np.ndarray:
    x, y = (frame[name].to_numpy() for name in ("x", "y"))
    n, sx, sy, sxx, syy, sxy = (counts @ _sums(part, group) for part in (np.ones(len(x)), x, y, x * x, y * y, x * y))
    spread = (sxx - sx**2 / n).clip(0) * (syy - sy**2 / n).clip(0)
    return np.divide(sxy - sx * sy / n, np.sqrt(spread), out=np.full(len(n), np.nan), where=spread > 1e-18)


def _sums(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    return np.bincount(group, values, minlength=int(group.max()) + 1)


def conflict_cosine(measured: Measured, frame: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Cosine of the pushes of positive-negative pairs against their score gap, a panel for each arm.

    Args:
        measured: groups and pairs of one base corpus.
        frame: :func:`summarise` of them.
        labels: arm -> label, in table order.
    """
    arms = [arm for arm in labels if arm in set(measured.pairs["arm"])]
    figure, axes = _grid(len(arms), across=min(3, max(1, len(arms))), height=2.1)
    for number, (axis, arm) in enumerate(zip(axes, arms, strict=False)):
        pairs = measured.pairs[(measured.pairs["arm"] == arm) & measured.pairs["score_gap"].notna()]
        shown = pairs.iloc[np.sort(generator("scatter", arm).permutation(len(pairs))[:DRAWN])]
        # Scores are often whole numbers: spread over half a unit, points of one gap do not hide each other.
        spread = generator("spread", arm).uniform(-0.25, 0.25, len(shown))
        alpha = float(np.clip(150 / max(1, len(shown)), 0.12, 0.5))
        dots: dict[str, Any] = {
            "markersize": 2.0,
            "markeredgewidth": 0,
            "color": BLUE,
            "alpha": alpha,
            "rasterized": True,
        }
        axis.plot(shown["score_gap"] + spread, shown["cosine"], "o", **dots)
        bins = _pooled(frame, arm, ["cosine"])
        bins = bins[bins["groups"] >= FEWEST]
        middle = (bins["gap_low"] + bins["gap_high"]) / 2
        _interval(axis, middle, bins, RED)
        axis.plot(middle, bins["value"], color=RED, linewidth=1.0)
        axis.axhline(0, color=GREY, linewidth=0.7, linestyle=DASHES[2])
        axis.axvline(3, color=GREY, linewidth=0.7, linestyle=DASHES[2])
        axis.set_title(labels[arm])
        axis.set_ylim(-1.05, 1.05)
        axis.set_xlim(GAPS[0] - 0.4, GAPS[-1] + 0.4)
        axis.set_xticks([-9, -6, -3, 0, 3, 6, 9])
        axis.set_ylabel("cosine of the pushes" if number % 3 == 0 else "")
    for axis in axes[len(arms) :]:
        axis.axis("off")
    figure.supxlabel("score of the good row less that of the bad one", fontsize="medium")
    return figure


_SHOWN = (
    ("conflict_before", "before the mask", INK),
    ("conflict_random", "as many random rows dropped", OTHERS[0]),
    ("conflict_random_by_side", "as many of each side", BLUE),
    ("conflict_after", "after the mask", RED),
)


def conflict_index(frame: pd.DataFrame, labels: Mapping[str, str]) -> Figure:
    """Conflict index before and after the mask, and after as many rows were dropped at random, by step.

    The panels end with the mean over all steps. Groups that the mask leaves alone or drops whole are not in it.

    Args:
        frame: :func:`summarise` of one base corpus.
        labels: arm -> label, in table order.
    """
    shown = frame[frame["statistic"].isin([name for name, _, _ in _SHOWN]) & (frame["groups"] >= FEWEST)]
    arms = [arm for arm in labels if arm in set(frame["arm"])]
    figure, axes = _grid(len(arms), across=min(3, len(arms)), height=1.9)
    for number, (axis, arm) in enumerate(zip(axes, arms, strict=False)):
        mine = shown[shown["arm"] == arm]
        steps = sorted(mine["step"].dropna().astype(int).unique()) or [0]
        apart = max(1.0, steps[-1] / 10)
        end = steps[-1] + 2 * apart
        for place, (name, title, colour) in enumerate(_SHOWN):
            rows, shift = mine[mine["statistic"] == name], apart * (place - 1.5) / 5
            each, total = rows[rows["step"].notna()].sort_values("step"), rows[rows["step"].isna()]
            x = each["step"].astype(float) + shift
            _interval(axis, x, each, colour, faint=True)
            axis.plot(x, each["value"], color=colour, linewidth=0.8)
            _interval(axis, np.full(len(total), end + 1.5 * shift), total, colour, label=title if number == 0 else None)
        axis.axvline(end - apart, color=GREY, linewidth=0.6)
        axis.set_title(labels[arm])
        axis.set_xlim(-apart, end + apart)
        axis.set_ylim(0, 1.05 * shown["high"].max() if len(shown) else 1)
        axis.set_ylabel("conflict index" if number % 3 == 0 else "")
        ticks = [steps[place] for place in sorted({0, len(steps) // 3, 2 * len(steps) // 3, len(steps) - 1})]
        axis.set_xticks([*ticks, end], [*map(str, ticks), "all"])
        axis.set_xlabel("step" if number >= len(arms) - 3 else "")
    for axis in axes[len(arms) :]:
        axis.axis("off")
    figure.legend(loc="outside lower center", ncols=len(_SHOWN), frameon=False)
    return figure


def _pooled(frame: pd.DataFrame, arm: str, names: Sequence[str]) -> pd.DataFrame:
    return frame[(frame["arm"] == arm) & frame["step"].isna() & frame["statistic"].isin(names)]


def _interval(
    axis: Axes, x: Any, rows: pd.DataFrame, colour: str, faint: bool = False, label: str | None = None
) -> None:
    line, size, edge, alpha = (0.8, 2.4, 0.0, 0.5) if faint else (1.6, 4.4, 0.5, 1.0)
    axis.vlines(x, rows["low"], rows["high"], color=colour, linewidth=line, alpha=alpha)
    dots: dict[str, Any] = {"color": colour, "markersize": size, "markeredgecolor": "white", "markeredgewidth": edge}
    axis.plot(x, rows["value"], "o", label=label, **dots)
