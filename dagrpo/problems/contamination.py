"""Which training questions are also benchmark questions, by the word n-grams that they share.

Imports pandas, so it is imported only where it is needed.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dagrpo.problems.store import with_choices
from dagrpo.records import Problem

NGRAM, THRESHOLD = 8, 0.8

_WORD = re.compile(r"[^\W_]+")
_FIGURE = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)


def overlaps(
    training: Sequence[Problem], benchmarks: Sequence[Problem], ngram: int = NGRAM, threshold: float = THRESHOLD
) -> pd.DataFrame:
    """List the pairs of a training and a benchmark question of which the shorter is contained in the longer.

    Containment of two questions is the number of word n-grams that they share, over the number of those in the one that
    has fewer (Broder, On the resemblance and containment of documents, 1997). Words are runs of letters and digits, in
    lower case; drawings (``[asy]``) and the options of a multiple-choice question are left out. A question of fewer
    than n words is one n-gram, so it is found only where it stands as a whole question.

    Args:
        ngram: n (words).
        threshold: least containment listed.

    Returns:
        columns ``train_id``, ``benchmark``, ``benchmark_id``, ``shared`` (n-grams), ``containment``; the worst first.
    """
    grams = [_ngrams(problem, ngram) for problem in training]
    holders: dict[str, list[int]] = defaultdict(list)
    for place, own in enumerate(grams):
        for gram in own:
            holders[gram].append(place)
    rows = []
    for problem in benchmarks:
        mine = _ngrams(problem, ngram)
        shared = Counter(place for gram in mine for place in holders.get(gram, ()))
        for place, count in shared.items():
            containment = count / min(len(mine), len(grams[place]))
            if containment >= threshold:
                rows.append((training[place].id, problem.family, problem.id, count, containment))
    frame = pd.DataFrame(rows, columns=["train_id", "benchmark", "benchmark_id", "shared", "containment"])
    order = ["containment", "shared", "train_id", "benchmark_id"]
    return frame.sort_values(order, ascending=[False, False, True, True], ignore_index=True)


def summary(pairs: pd.DataFrame, benchmarks: Sequence[Problem]) -> pd.DataFrame:
    """Count, for each benchmark, its questions, those met in training, their share, and the training rows involved."""
    sizes = pd.Series(Counter(problem.family for problem in benchmarks))
    met = pairs.groupby("benchmark")[["benchmark_id", "train_id"]].nunique().reindex(sizes.index, fill_value=0)
    table = pd.DataFrame(
        {
            "questions": sizes,
            "met_in_training": met["benchmark_id"],
            "share": met["benchmark_id"] / sizes,
            "training_rows": met["train_id"],
        }
    )
    return table.rename_axis("benchmark").reset_index()


def without(training: Sequence[Problem], pairs: pd.DataFrame) -> list[Problem]:
    """Leave the training questions out that occur in the pairs."""
    met = set(pairs["train_id"])
    return [problem for problem in training if problem.id not in met]


def compare(
    training: Sequence[Problem],
    benchmarks: Sequence[Problem],
    out: Path,
    ngram: int = NGRAM,
    threshold: float = THRESHOLD,
) -> tuple[pd.DataFrame, list[Problem]]:
    """Write the overlaps to ``pairs.csv`` and their summary to ``summary.csv`` of a folder.

    Returns:
        the summary, and the training questions that occur in no benchmark.
    """
    pairs = overlaps(training, benchmarks, ngram, threshold)
    kept = without(training, pairs)
    table = summary(pairs, benchmarks)
    about = {"met": len(training) - len(kept), "training": len(training), "ngram": ngram, "threshold": threshold}
    out.mkdir(parents=True, exist_ok=True)
    (out / "pairs.csv").write_text(pairs.to_csv(index=False), encoding="utf-8")
    (out / "summary.csv").write_text(table.assign(**about).to_csv(index=False), encoding="utf-8")
    return table, kept


def _ngrams(problem: Problem, n: int) -> set[str]:
    stem = problem.prompt.removesuffix(with_choices("", problem.choices))
    words = _WORD.findall(_FIGURE.sub(" ", stem).lower())
    return {" ".join(words[start : start + n]) for start in range(max(1, len(words) - n + 1))} if words else set()
