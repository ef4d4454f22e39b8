"""The ranking: arms by their averages, with letters, and what each of them drew."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from dagrpo.seeds import generator
from eval.ranking.letters import letters
from eval.ranking.pairs import Pairs, all_pairs
from eval.render import Cell, Display, interval, percent
from eval.statistics import Scores

DRAWN = {"samples": "samples", "response_tokens_total": "tokens"}
# An arm that drew so much more or less than the reference arm is marked (a share).
NOTABLE = 0.005


def ranking(
    main: pd.DataFrame,
    consumed: pd.DataFrame,
    averages: Mapping[str, np.ndarray],
    arms: list[Scores],
    family: np.ndarray,
    reference: str,
    resamples: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Sort the arms by each average: a row an arm and average; and all differences behind the letters: a row a pair.

    Args:
        main: the table of accuracies, whose means and intervals are ranked.
        consumed: the table of what a run took.
        averages: weights of the families, (F,), in each average.
        arms: what each arm scored, in the order of ``main``.
        family: the family of each problem.
        reference: the arm that samples and tokens are shares of.
        resamples: bootstrap draws.
    """
    found = all_pairs(arms, family, np.stack(list(averages.values())), resamples, generator("bootstrap", "ranking"))
    drawn = shares(consumed, reference)
    rows: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for column, name in enumerate(averages):
        block = main[main["column"] == name].reset_index(drop=True)
        means = block["mean"].round(10)  # as it is stored: the last bits differ between processors
        order = np.argsort(-means.to_numpy(), kind="stable").tolist()
        lettered = letters(found.apart[..., column], order)
        ranks = means.rank(ascending=False, method="min").astype(int)
        for place, arm in enumerate(order):
            row = block.loc[arm]
            who = {"column": name, "rank": ranks[arm], **row[["arm", "label", "seeds", "mean", "low", "high"]]}
            taken = {key: drawn[key].get(row["arm"], np.nan) for key in drawn}
            rows.append({**who, "letters": " ".join(lettered[arm]), **taken, "factor": found.factor[column]})
            pairs += [_pair(found, block, arm, other, column) for other in order[place + 1 :]]
    return pd.DataFrame(rows), pd.DataFrame(pairs)


def shares(consumed: pd.DataFrame, reference: str) -> dict[str, dict[str, float]]:
    """Samples and tokens that a run of each arm drew, as shares of the reference arm's; none where that drew none."""
    by_arm = consumed.set_index("arm")
    found: dict[str, dict[str, float]] = {}
    for key, name in DRAWN.items():
        against = by_arm[key].get(reference, 0) if key in by_arm else 0
        found[name] = (by_arm[key].fillna(0) / against).to_dict() if against else {}
    return found


def share(value: float, marked: bool) -> str:
    """A share of what the reference arm drew, in words where it is more or less and ``marked``: 0.875 -> 0.88 fewer."""
    if pd.isna(value):
        return ""
    if value == 0:
        return "none"
    word = " more" if value > 1 else " fewer"
    return f"{value:.2f}" + (word if marked and abs(value - 1) >= NOTABLE else "")


def show(frames: Mapping[str, pd.DataFrame]) -> Display:
    """Make the display of the ranking: a block for each average, sorted by itself."""
    frame = frames["ranking"]
    reference = frames["differences"]["reference"].iloc[0]
    drawn = [name for name in DRAWN.values() if frame[name].notna().any()]
    header = ("arm", "letters", "rank", "seeds", "average", *(f"{name} ({reference} = 1)" for name in drawn))
    rows: list[tuple[Cell, ...]] = []
    blocks = dict(list(frame.groupby("column", sort=False)))
    for column, block in blocks.items():
        if len(blocks) > 1:
            rows.append((Cell(f"{words(column)}:"), *[Cell("")] * (len(header) - 1)))
        for _, row in block.iterrows():
            size = Cell(percent(row["mean"]), interval(row["low"], row["high"], percent))
            taken = (Cell(share(row[name], marked=name == "samples")) for name in drawn)
            who = (row["label"], joined(row["letters"]), str(row["rank"]), str(row["seeds"]))
            rows.append((*(Cell(text) for text in who), size, *taken))
    return Display("Ranking", header, tuple(rows), _notes(frame, reference), names=2)


def words(column: object) -> str:
    """The name of an average as it is shown: in_distribution -> in distribution."""
    return str(column).replace("_", " ")


def joined(found: str) -> str:
    """Letters as they are shown: "a b" -> ab."""
    return found.replace(" ", "")


def _notes(frame: pd.DataFrame, reference: str) -> tuple[str, ...]:
    count = frame["arm"].nunique()
    by_column = frame.drop_duplicates("column").set_index("column")["factor"]
    factors = " and ".join(f"{factor:.2f} ({words(column)})" for column, factor in by_column.items())
    return (
        "Percent correct, with 95 % intervals of each arm by itself. Two arms share a letter if and only if they "
        "cannot be told apart: the interval of their paired difference (same problems, seeds, bases) includes a tie.",
        f"Those intervals hold together, for all {count * (count - 1) // 2} pairs, in 95 of 100 such studies. Each is "
        f"the difference ± {factors} standard errors: the 95 % quantile of the largest deviation among all pairs in "
        "the bootstrap (max-t), where a comparison by itself has about 2. Bonferroni's correction would be longer, "
        "since it does not know that pairs share arms and problems. Two arms may be apart in the table of differences "
        "and not here.",
        f"Samples and response tokens: what a run drew in training, {reference} having drawn 1.00. With an equal "
        "rollout budget the samples are equal; answers of another length change the tokens alone.",
    )


def _pair(found: Pairs, block: pd.DataFrame, arm: int, other: int, column: int) -> dict[str, Any]:
    at = (arm, other, column)
    difference, half = found.difference[at], found.half_width[at]
    return {
        "column": block.loc[arm, "column"],
        "arm": block.loc[arm, "arm"],
        "other": block.loc[other, "arm"],
        "difference": difference,
        "low": difference - half,
        "high": difference + half,
        "told_apart": bool(found.apart[at]),
    }
