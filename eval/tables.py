"""The numbers of every table, as frames: computed from the frames of :mod:`eval.records` alone.

Shares are written as shares (0 to 1) with ten decimals; :mod:`eval.display` turns a frame into what a reader sees.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from dagrpo.seeds import generator
from eval import display
from eval.display import IN_DISTRIBUTION, OOD
from eval.files import COUNTS, VERDICTS
from eval.ranking.table import ranking
from eval.records import BASE, Evaluation, Runs, counted, labels, load_cards, load_evaluation, load_metrics, scores
from eval.render import Display, latex, markdown
from eval.statistics import Estimates, Scores, beats_every_other, detectable, estimate, pass_at_k, told_apart

MASKS = (
    "masked_share",
    "mask/keep_pos",
    "mask/keep_neg",
    "mask/empty_groups",
    "mask/one_sided_groups",
    "sum_lambda_A",
    "score/missing",
    "score/gap",
    "anchor/kept",
    "anchor/rejected",
)
SECONDS = ("rollout", "score", "update")
_VERSUS = ("difference", "difference_low", "difference_high", "told_apart", "detectable")
# Where a base is weak but not helpless: the share that each figure of the training mixture should fall into.
WANTED = {"pass_at_1": (0.2, 0.5), "none_right": (0.2, 1.0), "nearly_all_right": (0.2, 1.0)}


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns of the main table: families in distribution and their average, then those out of distribution."""

    names: tuple[str, ...]
    weights: np.ndarray  # (C, F)


def write_tables(corpora: Mapping[str, Runs], out: Path) -> None:
    """Write the tables of each base corpus to ``<base>/`` and, of several, ``side_by_side``: csv, md and tex.

    Identical samples and metrics give identical bytes. Seconds vary from run to run, so they stand apart, in
    ``timing/<base>.csv`` beside the folder of tables.
    """
    for base, runs in corpora.items():
        folder, label = out / base, f"{runs.experiment.name}-{base}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, frame in compute(runs).items():
            (folder / f"{name}.csv").write_bytes(to_csv(frame))
        frames = read_tables(folder)  # what a reader sees is made from what is stored
        for name in frames:
            _write(display.show(name, frames), folder / name, f"{label}-{name}")
        timing = out.parent / "timing" / f"{base}.csv"
        timing.parent.mkdir(exist_ok=True)
        timing.write_bytes(to_csv(seconds(load_metrics(runs, "timings"), labels(runs))))
    if len(corpora) > 1:
        joined = side_by_side({base: read_tables(out / base) for base in corpora})
        (out / "side_by_side.csv").write_bytes(to_csv(joined))
        shown = display.side_by_side(read_table(out / "side_by_side.csv"))
        _write(shown, out / "side_by_side", f"{next(iter(corpora.values())).experiment.name}-side-by-side")


def compute(runs: Runs) -> dict[str, pd.DataFrame]:
    """Compute every table of one base corpus."""
    evaluation, names, metrics = load_evaluation(runs), labels(runs), load_metrics(runs)
    main, differences = comparison(runs, evaluation, names)
    taken = consumed(runs, names)
    order, pairs = ranked(runs, evaluation, main, taken)
    return {
        "main": main,
        "differences": differences,
        "ranking": order,
        "pairs": pairs,
        "difficulty": difficulty(runs, evaluation, names),
        "regime": regime(runs),
        "consumed": taken,
        "verdicts": verdicts(runs, evaluation, names),
        "masks": masks(runs, metrics, names),
    }


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """Read the tables of one base corpus that :func:`write_tables` wrote."""
    return {name: read_table(folder / f"{name}.csv") for name in display.TABLES}


def read_table(path: Path) -> pd.DataFrame:
    """Read one table, in which only an empty cell is a missing number."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def side_by_side(corpora: Mapping[str, Mapping[str, pd.DataFrame]]) -> pd.DataFrame:
    """Averages of each arm and its differences to the reference on each base corpus: a row an entry."""
    rows = []
    for base, frames in corpora.items():
        keys = ["arm", "column"]
        versus = frames["differences"][[*keys, "reference", *_VERSUS]]
        joined = frames["main"].merge(versus, on=keys, how="left", sort=False, validate="one_to_one")
        rows.append(joined[joined["column"].isin(display.AVERAGES)].assign(base=base))
    frame = pd.concat(rows, ignore_index=True)
    return frame[["base", *(name for name in frame.columns if name != "base")]]


def to_csv(frame: pd.DataFrame) -> bytes:
    """Ten decimals: enough for anyone, and short of the last bits, which may differ between processors."""
    return frame.to_csv(index=False, float_format="%.10f", lineterminator="\n").encode()


def columns(families: Sequence[str], outside: Sequence[str], alone: Sequence[str] = ()) -> Columns:
    """Every family by itself, and the macro average of each of the two kinds; those of ``alone`` are in neither."""
    names: list[str] = []
    weights: list[np.ndarray] = []
    averaged = [family for family in families if family not in alone]
    for average, is_outside in ((IN_DISTRIBUTION, False), (OOD, True)):
        members = [family for family in averaged if (family in outside) == is_outside]
        chosen = np.array([family in members for family in families], dtype=float)
        names += members
        weights += [np.array([family == member for family in families], dtype=float) for member in members]
        if members:
            names.append(average)
            weights.append(chosen / chosen.sum())
    for family in families:
        if family in alone:
            names.append(family)
            weights.append(np.array([family == other for other in families], dtype=float))
    return Columns(tuple(names), np.stack(weights))


def comparison(
    runs: Runs, evaluation: Evaluation, names: Mapping[str, str], values: str = "right"
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracy of every arm in every column, and paired differences to the reference arm: a row an entry.

    ``values`` names the column of the frame that is averaged.

    A difference is over the seeds that both arms have, so it is that of the accuracies only where both have all.
    """
    problems = evaluation.frame.drop_duplicates("problem").sort_values("problem")
    family = problems["family"].map(evaluation.families.index).to_numpy()
    shape = columns(evaluation.families, runs.experiment.evaluation.out_of_distribution, runs.alone)
    arms = scores(evaluation, runs, problems["problem"].to_numpy(), values)
    found = _estimate(runs, arms, family, shape.weights, "main")
    # A main arm must beat the main arms; one of a sweep, every arm.
    swept = np.array([arm in runs.sweeps for arm in names])
    best = beats_every_other(found, swept[:, None] | ~swept)

    sizes = np.bincount(family)
    samples_each = evaluation.frame.groupby(["family", "problem"])["samples"].max().groupby("family").sum()
    main, differences = [], []
    reference = list(names).index(runs.experiment.evaluation.reference)
    for c, column in enumerate(shape.names):
        inside = [evaluation.families[f] for f in np.flatnonzero(shape.weights[c])]
        about = {
            "column": column,
            "limited": _limits(evaluation, column, inside),
            "missing": sum(evaluation.missing.get(name, 0) for name in inside),
        }
        size = {
            "problems": int(sizes[shape.weights[c] > 0].sum()),
            "samples": int(samples_each[inside].sum()),
        }
        for a, (arm, label) in enumerate(names.items()):
            who = {"arm": arm, "label": label, "seeds": len(runs.seeds[arm])}
            main.append({**who, **about, **_entry(found, a, c), "best": bool(best[a, c]), **size})
            if a != reference:
                versus = _difference(found, a, reference, c)
                differences.append({**who, "reference": names[runs.experiment.evaluation.reference], **about, **versus})
    return pd.DataFrame(main), pd.DataFrame(differences)


def ranked(
    runs: Runs, evaluation: Evaluation, main: pd.DataFrame, taken: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sort all arms by each average, and compare all pairs at once: see :func:`eval.ranking.table.ranking`."""
    problems = evaluation.frame.drop_duplicates("problem").sort_values("problem")
    settings = runs.experiment.evaluation
    shape = columns(evaluation.families, settings.out_of_distribution, runs.alone)
    weights = dict(zip(shape.names, shape.weights, strict=True))
    return ranking(
        main,
        taken,
        {name: weights[name] for name in display.AVERAGES if name in weights},
        scores(evaluation, runs, problems["problem"].to_numpy()),
        problems["family"].map(evaluation.families.index).to_numpy(),
        settings.reference,
        settings.bootstrap,
    )


def difficulty(runs: Runs, evaluation: Evaluation, names: Mapping[str, str]) -> pd.DataFrame:
    """Accuracy in distribution by level where levels are known, and by how often the base was right.

    Each is a macro average over the families that have such problems.
    """
    inside = evaluation.frame[~evaluation.frame["family"].isin(runs.experiment.evaluation.out_of_distribution)]
    problems = inside.drop_duplicates("problem").set_index("problem")[["family", "level"]].sort_index()
    by_base = inside[inside["arm"] == BASE].groupby("problem")[["correct", "samples"]].sum()
    of_base = by_base["correct"] / by_base["samples"]
    levels = sorted(problems["level"].dropna().unique())
    chosen = {f"level {level:.0f}": problems["level"] == level for level in levels}
    chosen |= {"hard": problems["level"] >= 2, "base never right": of_base == 0, "base always right": of_base == 1}
    reference = list(names).index(runs.experiment.evaluation.reference)
    rows = []
    for prompts, among in chosen.items():
        picked = problems[among]
        if picked.empty:
            continue
        present, family = np.unique(picked["family"].to_numpy(str), return_inverse=True)
        arms = scores(evaluation, runs, picked.index.to_numpy())
        found = _estimate(runs, arms, family, np.full((1, len(present)), 1 / len(present)), prompts)
        for a, (arm, label) in enumerate(names.items()):
            who = {"arm": arm, "label": label, "seeds": len(runs.seeds[arm]), "prompts": prompts}
            versus = _difference(found, a, reference, 0)
            rows.append({**who, **_entry(found, a, 0), **versus, "families": len(present), "problems": len(picked)})
    return pd.DataFrame(rows)


def regime(runs: Runs) -> pd.DataFrame:
    """How the base does on training prompts, all and by level: is it weak but not helpless?"""
    profile = counted(runs.source.profile()).sort_values("problem_id")
    count, levels, k = profile["correct"].to_numpy(), profile["level"].to_numpy(), int(profile["samples"].max())
    right = np.arange(k) < count[:, None]  # (P, k): which of the samples were right does not matter
    shares = {
        "pass_at_1": pass_at_k(right, 1),
        f"pass_at_{k}": pass_at_k(right, k),
        "none_right": count == 0,
        "nearly_all_right": count >= k - 1,
        "mixed": (count > 0) & (count < k),
    }
    groups = {"all": np.ones(len(right), dtype=bool)}
    groups |= {f"level {level:.0f}": levels == level for level in np.unique(levels[~np.isnan(levels)])}
    rows = []
    for prompts, among in groups.items():
        for statistic, values in shares.items():
            base = Scores((0,), values[among].astype(float)[None], trained=False)
            one_family = np.zeros(int(among.sum()), dtype=int)
            entry = _entry(_estimate(runs, [base], one_family, np.ones((1, 1)), f"{prompts} {statistic}"), 0, 0)
            low, high = WANTED.get(statistic, (np.nan, np.nan)) if prompts == "all" else (np.nan, np.nan)
            rows.append(
                {
                    "prompts": prompts,
                    "problems": int(among.sum()),
                    "samples": k,
                    "statistic": statistic,
                    **entry,
                    "wanted_low": low,
                    "wanted_high": high,
                    "met": "" if np.isnan(low) else "yes" if low <= entry["mean"] <= high else "no",
                }
            )
    return pd.DataFrame(rows)


def consumed(runs: Runs, names: Mapping[str, str]) -> pd.DataFrame:
    """What a run of each arm took: samples, tokens, demonstrations, optimiser steps; means over its seeds.

    ``left_out``, how many demonstrations were too long for a response, is there where some run left some out.
    """
    cards = load_cards(runs)
    rows = [{"arm": arm, **card["consumed"]} for (arm, _), card in cards.items()]
    left_out = [card.get("demonstrations_left_out", 0) for card in cards.values()]
    if any(left_out):
        rows = [{**row, "left_out": count} for row, count in zip(rows, left_out, strict=True)]
    return _means_by_arm(pd.DataFrame(rows), names)


def verdicts(runs: Runs, evaluation: Evaluation, names: Mapping[str, str]) -> pd.DataFrame:
    """Share of each verdict among the evaluation samples of an arm, and the mean length of a response.

    Where two judges spoke, ``disagreement`` is the share of answers that they see differently.
    """
    outside = evaluation.frame["family"].isin(runs.experiment.evaluation.out_of_distribution)
    rows = []
    alone = evaluation.frame["family"].isin(runs.alone)
    for scope, among in ((IN_DISTRIBUTION, ~outside & ~alone), (OOD, outside)):
        totals = evaluation.frame[among].groupby("arm")[["samples", *COUNTS]].sum()
        for arm in names if among.any() else ():
            total = totals.loc[arm]
            shares = {verdict: total[verdict] / total["samples"] for verdict in VERDICTS}
            apart = {"disagreement": total["apart"] / total["judged"] if total["judged"] else np.nan}
            size = {"response_tokens": total["tokens"] / total["samples"], "samples": total["samples"]}
            rows.append({"arm": arm, "label": names[arm], "scope": scope, **shares, **apart, **size})
    frame = pd.DataFrame(rows)
    return frame if frame["disagreement"].notna().any() else frame.drop(columns="disagreement")


def masks(runs: Runs, metrics: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """What the score gate did in the arms that have one: means over steps, then over seeds."""
    present = [name for name in MASKS if name in metrics]
    gated = metrics[metrics["mask/keep_pos"].notna()] if "mask/keep_pos" in metrics else metrics.iloc[:0]
    by_run = metrics[metrics["arm"].isin(gated["arm"])].groupby(["arm", "seed"])[present].mean().reset_index()
    return _means_by_arm(by_run.drop(columns="seed"), names)


def seconds(timings: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Seconds of a run by what they went into; means over seeds."""
    by_run = timings.groupby(["arm", "seed"])[[name for name in SECONDS if name in timings]].sum().reset_index()
    frame = _means_by_arm(by_run.drop(columns="seed"), names)
    return frame.assign(total=frame.drop(columns=["arm", "label", "seeds"]).sum(axis=1))


def _write(shown: Display, path: Path, label: str) -> None:
    path.with_suffix(".md").write_text(markdown(shown), encoding="utf-8")
    path.with_suffix(".tex").write_text(latex(shown, f"tab:{label}"), encoding="utf-8")


def _estimate(runs: Runs, arms: Sequence[Scores], family: np.ndarray, weights: np.ndarray, purpose: str) -> Estimates:
    draws = generator("bootstrap", purpose)
    return estimate(arms, family, weights, runs.experiment.evaluation.bootstrap, draws)


def _entry(found: Estimates, arm: int, column: int) -> dict[str, float]:
    return {"mean": found.mean[arm, column], "low": found.low[arm, column], "high": found.high[arm, column]}


def _difference(found: Estimates, arm: int, reference: int, column: int) -> dict[str, float | bool]:
    at = (arm, reference, column)
    low, high = found.difference_low[at], found.difference_high[at]
    return {
        "difference": found.difference[at],
        "difference_low": low,
        "difference_high": high,
        "told_apart": bool(told_apart(found)[at]),
        "detectable": float(detectable(low, high)),
    }


def _limits(evaluation: Evaluation, column: str, inside: Sequence[str]) -> str:
    if column in evaluation.limited:
        shown, of = evaluation.limited[column]
        return f"first {shown} of {of}"
    return "limited" if any(family in evaluation.limited for family in inside) else ""


def _means_by_arm(frame: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Average the rows of each arm, in table order, and say how many they were."""
    arms = [arm for arm in names if arm in set(frame["arm"])]
    grouped = frame.groupby("arm")
    means = grouped.mean().reindex(arms).astype(float)
    means.insert(0, "label", [names[arm] for arm in arms])
    means.insert(1, "seeds", grouped.size().reindex(arms).astype(int))
    return means.reset_index(names="arm")
