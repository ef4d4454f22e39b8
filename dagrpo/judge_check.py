"""Compare two scorers on stored groups before a run relies on one: do they rank alike, and would the mask act?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dagrpo.config import Scorer as ScorerSpec
from dagrpo.config import load
from dagrpo.errors import UserError
from dagrpo.objectives.gates import margin_mask
from dagrpo.scorers import ScoreRequest, Tools, make_scorer, to_ten
from dagrpo.trainer.snapshots import StoredGroup, read_groups

DELTAS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
LEAST_MASKED, MOST_MASKED = 0.2, 0.8
"""Share of masked rows between which a mask can tell rows apart and still leave some to learn from."""

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """The rows of mixed groups as columns (N,): scores from 1 to 10, NaN where missing."""

    advantage: Column
    group: NDArray[np.int64]
    score: Column

    def masked(self, delta: float) -> NDArray[np.bool_]:
        """Which rows a margin of ``delta`` masks: (N,)."""
        advantage, score, group = map(torch.from_numpy, (self.advantage, self.score, self.group))
        kept: NDArray[np.float64] = margin_mask(advantage, score, group, delta).numpy()
        return kept == 0

    def always_apart(self, delta: float) -> bool:
        """Whether right rows beat wrong ones by ``delta`` in every group, so that nothing is ever masked."""
        return bool(len(self.score)) and not self.masked(delta).any()


def judge_check(path: Path, scorer: str, against: str, delta: float, limit: int | None, tools: Tools) -> str:
    """Score stored mixed groups with two scorers and describe how they agree.

    Args:
        path: groups of a snapshot, one JSON object a line.
        scorer: a scorer's name, or a YAML or JSON file with the keys of ``scorer`` in an experiment.
        against: likewise.
        limit: only the first mixed groups.

    Raises:
        UserError: there is no mixed group, or a scorer cannot be had or misses too many scores.
    """
    if scorer == against:
        raise UserError(f"judge-check: {scorer} agrees with itself; name another scorer with --against")
    groups = [group for group in read_groups(path) if _is_mixed(group)][:limit]
    if not groups:
        raise UserError(f"{path}: no group has advantages of both signs, so a mask has nothing to decide; sample more")
    requests = [
        ScoreRequest(group.problem, row.text, row.verdict, row.finish == "stop", group.prompt_tokens, row.tokens)
        for group in groups
        for row in group.rows
    ]
    advantage = np.array([row.advantage for group in groups for row in group.rows])
    number = np.repeat(np.arange(len(groups)), [len(group.rows) for group in groups])
    scored = {}
    for name in (scorer, against):
        scores = make_scorer(_spec(name), tools).score(requests)
        scored[name] = Scored(advantage, number, np.array([to_ten(score) for score in scores]))
    return describe(scored, delta)


def describe(scored: dict[str, Scored], delta: float) -> str:
    """Put the agreement of two scorers, what each would mask, and warnings into lines of text."""
    first, second = scored.values()
    both = ~np.isnan(first.score) & ~np.isnan(second.score)
    names = " and ".join(scored)
    lines = [f"{len(np.unique(first.group))} mixed groups, {len(both)} rows, {int(both.sum())} scored by {names}"]
    for title, coefficient in (("Spearman", spearman), ("Kendall tau-b", kendall)):
        pooled = coefficient(first.score[both], second.score[both])
        inside, of = _within_groups(coefficient, first, second, both)
        lines.append(f"{title:14} {pooled:6.3f} over all rows, {inside:6.3f} within a group (mean of {of} groups)")
    same = np.mean(first.masked(delta) == second.masked(delta))
    lines += [f"same verdict of the mask at delta {delta:g}: {same:.1%} of rows", ""]
    width = max(len("masked at delta"), *map(len, scored))
    lines.append(f"{'masked at delta':{width}}" + "".join(f"{value:8g}" for value in DELTAS))
    for name, own in scored.items():
        lines.append(f"{name:{width}}" + "".join(f"{own.masked(value).mean():8.1%}" for value in DELTAS))
    lines += [warning for name, own in scored.items() for warning in _warnings(name, own, delta)]
    return "\n".join(lines)


def _warnings(name: str, scored: Scored, delta: float) -> list[str]:
    share = scored.masked(delta).mean()
    if scored.always_apart(delta):
        return [
            f"warning: with {name}, right answers always score {delta:g} or more above wrong ones, so that this rubric "
            "can never mask; grade the working apart from the final answer"
        ]
    if share < LEAST_MASKED:
        return [
            f"warning: {name} masks {share:.1%} of rows at delta {delta:g}, so that the mask hardly acts; raise delta"
        ]
    if share > MOST_MASKED:
        return [f"warning: {name} masks {share:.1%} of rows at delta {delta:g}, so that little is learned; lower delta"]
    return []


def spearman(a: Column, b: Column) -> float:
    """Correlate ranks, ties sharing their mean rank; NaN where one side is constant. Shapes (n,)."""
    return _pearson(_ranks(a), _ranks(b))


def kendall(a: Column, b: Column) -> float:
    """Kendall's tau-b (Biometrika 33, 1945): concordant less discordant pairs, over the geometric mean of the pairs
    that are not tied in ``a`` and in ``b``; NaN where one side is constant. Shapes (n,); time grows with n squared."""
    agreed = untied_a = untied_b = 0.0
    for i in range(1, len(a)):
        sign_a, sign_b = np.sign(a[i] - a[:i]), np.sign(b[i] - b[:i])
        agreed += float(sign_a @ sign_b)
        untied_a += float(np.abs(sign_a).sum())
        untied_b += float(np.abs(sign_b).sum())
    return agreed / (untied_a * untied_b) ** 0.5 if untied_a and untied_b else float("nan")


def _ranks(values: Column) -> Column:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank: Column = np.cumsum(count) - (count - 1) / 2
    return mean_rank[place]


def _pearson(a: Column, b: Column) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else float("nan")


def _within_groups(
    coefficient: Callable[[Column, Column], float], first: Scored, second: Scored, both: NDArray[np.bool_]
) -> tuple[float, int]:
    """Mean over the groups in which neither scorer is constant, and their number."""
    found = []
    for number in np.unique(first.group):
        mine = both & (first.group == number)
        if mine.sum() > 1 and (value := coefficient(first.score[mine], second.score[mine])) == value:
            found.append(value)
    return (float(np.mean(found)) if found else float("nan")), len(found)


def _is_mixed(group: StoredGroup) -> bool:
    advantages: Sequence[float] = [row.advantage for row in group.rows]
    return min(advantages, default=0.0) < 0 < max(advantages, default=0.0)


def _spec(name: str) -> ScorerSpec:
    return load(ScorerSpec, Path(name)) if name.endswith((".yaml", ".yml", ".json")) else ScorerSpec(kind=name)
