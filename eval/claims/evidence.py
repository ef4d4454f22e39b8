"""What an experiment on one base corpus holds, and what it says about the statistic of a claim.

*Accuracy.* Paired by problem and seed, over the seeds that both arms have; error as in :mod:`eval.statistics`. Seeds
are nested in base seeds. Where there are several of these, the variance of a difference is estimated twice: from seeds,
and from base seeds as whole clusters (:func:`eval.statistics.seed_spread` over the means of each base seed); both are
pooled over all arms, and the larger counts, with its own degrees of freedom. That is a claim on bases in general. In
simulation (six arms, eight seeds on two base seeds, 300 experiments) intervals of 95 % that ignored the clusters
covered the truth in 84 % of cases where bases favour single arms as much as seeds spread, and in 69 % where twice as
much; with the clusters it was 97 % in both. Where bases favour no arm it was 97 and 98 %, at the price of intervals
that are a fifth longer.

*Training curves and gradients.* One number a run, compared over the seeds that both arms have with Student's t; nothing
is pooled, since a curve of one arm says nothing about how another arm's varies. They speak of these base seeds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pandas as pd

from eval.claims import curves
from eval.claims.effects import Effect
from eval.claims.schema import Apart, Best, Claim, Conflict, Curve, Difference, Distinctiveness, Order
from eval.statistics import Scores, SeedSpread, common_seeds, seed_spread

_COIN = 0.5  # weight of the imaginary problem, as in eval.statistics
_TAKEN = ("samples", "optimiser_steps", "trained_tokens")
_CONSUMED = (*_TAKEN, "prompt_tokens", "response_tokens_total")


class NotApplicable(Exception):
    """A claim cannot be judged here. The message says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True, eq=False)  # equal to itself alone, so that it can be a key
class Evidence:
    """The runs of one base corpus.

    ``arms`` hold accuracy over the same P problems; ``family`` (P,) counts into ``families``; ``level`` (P,) is NaN
    where unknown. ``columns`` are weights over families (F,), by the name of a column. ``metrics`` has a row for each
    arm, seed and step; ``consumed`` one for each arm and seed. ``conflict`` has a row for each positive-negative pair
    (arm, seed, step, group, cosine, score_gap) with ``conflict_before``, ``_after`` and ``_random`` of its group.
    ``base_seed`` is the base seed of each seed.
    """

    arms: Mapping[str, Scores]
    family: np.ndarray
    families: tuple[str, ...]
    columns: Mapping[str, np.ndarray]
    level: np.ndarray
    base_seed: Mapping[int, int]
    metrics: pd.DataFrame = field(default_factory=pd.DataFrame)
    consumed: pd.DataFrame = field(default_factory=pd.DataFrame)
    conflict: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def trained(self) -> tuple[str, ...]:
        return tuple(name for name, arm in self.arms.items() if arm.trained)


@dataclass(frozen=True, slots=True)
class Part:
    """One effect of which a statistic is made, named by what it compares."""

    name: str
    effect: Effect


def measure(claim: Claim, evidence: Evidence) -> tuple[Part, ...]:
    """Measure the parts of a claim's statistic; the statistic is the smallest of them.

    Raises:
        NotApplicable: an arm, a column, a level, a metric or a second seed is missing.
    """
    absent = [arm for arm in claim.arms if arm not in evidence.arms]
    if absent:
        raise NotApplicable(f"no arm named {' or '.join(absent)} was trained")
    match claim.statistic:
        case Difference(arm=arm, rival=rival) as asked:
            return (_accuracy(evidence, arm, rival, asked.column, asked.levels, asked.minus_levels),)
        case Order(arms=arms, column=column):
            steps = pairwise(arms)
            return tuple(_accuracy(evidence, better, worse, column) for worse, better in steps)
        case Best(arm=arm, rivals=rivals, column=column):
            return tuple(_accuracy(evidence, arm, rival, column) for rival in rivals)
        case Curve() as asked:
            return (_curve(evidence, asked),)
        case Apart(arm=arm, rival=rival, metric=metric):
            moved = {name: _of_runs(evidence, name, (metric,), "change", log=True) for name in (arm, rival)}
            rise, fall = moved[arm], {seed: -value for seed, value in moved[rival].items()}
            return (
                Part(f"rise of {arm}", _student(rise, evidence)),
                Part(f"fall of {rival}", _student(fall, evidence)),
            )
        case Distinctiveness(arm=arm):
            return (Part(arm, _student(_correlations(evidence, arm), evidence)),)
        case Conflict(arm=arm, against=against):
            return (Part(arm, _student(_conflicts(evidence, arm, against), evidence)),)


def taken(evidence: Evidence, arm: str, rival: str) -> dict[str, float]:
    """Divide what an arm's runs took by what its rival's took: compute, samples, optimiser steps, trained tokens.

    Compute is counted in forward passes of one token: prompt and response tokens of sampling once, and each token that
    a gradient was computed for three times (its forward and its backward pass).

    Raises:
        NotApplicable: nothing is recorded of one of them.
    """
    frame = evidence.consumed
    totals = {}
    for name in (arm, rival):
        rows = frame[frame["arm"] == name] if "arm" in frame else frame
        if rows.empty or not set(_CONSUMED) <= set(rows):
            raise NotApplicable(f"what {name} consumed is not recorded")
        means = rows[list(_CONSUMED)].mean()
        compute = means["prompt_tokens"] + means["response_tokens_total"] + 3 * means["trained_tokens"]
        totals[name] = {"compute": float(compute), **{key: float(means[key]) for key in _TAKEN}}
    return {
        key: value / totals[rival][key] if totals[rival][key] else float("inf") for key, value in totals[arm].items()
    }


@dataclass(frozen=True, slots=True)
class _Scope:
    """The problems that a statistic is about (indices), their strata, a weight a stratum, and the spread of seeds.

    A stratum is a family, or the problems of a family that have certain levels. ``bases`` are the arms with the seeds
    of each base seed averaged, and ``spread_of_bases`` is theirs.
    """

    problems: np.ndarray
    stratum: np.ndarray
    weights: np.ndarray
    spread: SeedSpread
    bases: Mapping[str, Scores]
    spread_of_bases: SeedSpread


def _accuracy(
    evidence: Evidence,
    arm: str,
    rival: str,
    column: str,
    levels: tuple[int, ...] | None = None,
    minus: tuple[int, ...] | None = None,
) -> Part:
    one, other = evidence.arms[arm], evidence.arms[rival]
    seeds = common_seeds(one, other)
    if not seeds:
        raise NotApplicable(f"{arm} and {rival} share fewer than two seeds")
    scope = _scope(evidence, column, levels, minus)
    values = (_rows(one, seeds) - _rows(other, seeds))[:, scope.problems]
    problems, samples = _variances(values, scope.stratum, scope.weights)
    pair, both = (list(evidence.arms).index(arm), list(evidence.arms).index(rival)), one.trained and other.trained
    spread, freedom = _of_pair(scope.spread, pair, both)
    if common_seeds(scope.bases[arm], scope.bases[rival]):
        spread, freedom = max((spread, freedom), _of_pair(scope.spread_of_bases, pair, both))
    by_seed = {seed: _contrast(row, scope) for seed, row in zip(seeds, values, strict=True)}
    estimate, of_bases = float(np.mean(list(by_seed.values()))), _of_bases(by_seed, evidence)
    return Part(f"{arm} over {rival}", Effect(estimate, spread, freedom, len(seeds), problems, samples, of_bases))


@lru_cache(maxsize=8)  # many claims are about the same problems
def _scope(evidence: Evidence, column: str, levels: tuple[int, ...] | None, minus: tuple[int, ...] | None) -> _Scope:
    if column not in evidence.columns:
        raise NotApplicable(f"there are no problems of {column}")
    weight = np.asarray(evidence.columns[column], dtype=float)
    counted = weight[evidence.family] > 0
    kinds = [(levels, 1.0)] if minus is None else [(levels, 1.0), (minus, -1.0)]
    stratum = np.full(len(evidence.family), -1)
    weights: list[float] = []
    for among, sign in kinds:
        inside = counted if among is None else counted & np.isin(evidence.level, among)
        present = np.unique(evidence.family[inside])
        if not len(present):
            raise NotApplicable(f"no problem of {column} has level {' or '.join(map(str, among or ()))}")
        for family in present:
            stratum[inside & (evidence.family == family)] = len(weights)
            weights.append(sign * weight[family] / weight[present].sum())
    chosen = np.flatnonzero(stratum >= 0)
    stratum, row = stratum[chosen], np.array(weights)[None]
    arms = {name: Scores(arm.seeds, arm.cells[:, chosen], arm.trained) for name, arm in evidence.arms.items()}
    bases = {name: _collapsed(arm, evidence.base_seed) for name, arm in arms.items()}
    spread, spread_of_bases = (seed_spread(list(group.values()), stratum, row) for group in (arms, bases))
    return _Scope(chosen, stratum, row[0], spread, bases, spread_of_bases)


def _of_pair(found: SeedSpread, pair: tuple[int, int], both: bool) -> tuple[float, float]:
    """Variance of the mean difference that seeds alone bring, and its degrees of freedom."""
    return float(found.pairs[(*pair, 0)]), found.pairs_freedom if both else found.arms_freedom


def _collapsed(scores: Scores, base_seed: Mapping[int, int]) -> Scores:
    """Average the seeds of each base seed into one row."""
    bases = np.array([base_seed[seed] for seed in scores.seeds])
    kept = np.unique(bases)
    means = np.stack([scores.cells[bases == base].mean(axis=0) for base in kept])
    return Scores(tuple(int(base) for base in kept), means, scores.trained)


def _variances(values: np.ndarray, stratum: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Bootstrap variance of the weighted mean of differences (S, P): what stays with any S, and what falls as 1 / S.

    An urn holds the P problems of a stratum and half an imaginary one, on which each arm is right by a coin flip; the
    variance of the mean of P draws is that of one draw over P.
    """
    fixed = falling = 0.0
    for index, weight in enumerate(weights):
        inside = values[:, stratum == index]
        seeds, problems = inside.shape
        means = inside.mean(axis=0)
        urn = problems + _COIN
        variance = ((means**2).sum() + 0.5 * _COIN) / urn - (means.sum() / urn) ** 2
        residual = inside - means - inside.mean(axis=1, keepdims=True) + inside.mean()
        noise = (residual**2).sum() / max(1, (seeds - 1) * (problems - 1)) / seeds
        falling += weight**2 * min(noise, variance) / problems
        fixed += weight**2 * max(0.0, variance - noise) / problems
    return float(fixed), float(falling)


def _contrast(row: np.ndarray, scope: _Scope) -> float:
    return float(sum(weight * row[scope.stratum == index].mean() for index, weight in enumerate(scope.weights)))


def _curve(evidence: Evidence, asked: Curve) -> Part:
    log, spikes = asked.scale == "log", asked.summary == "spikes"
    runs = _of_runs(evidence, asked.arm, asked.metrics, asked.summary, log)
    if asked.rival is None:
        return Part(asked.arm, _student(runs, evidence))
    others = _of_runs(evidence, asked.rival, asked.metrics, asked.summary, log)
    if spikes and not any(runs.values()) and not any(others.values()):
        raise NotApplicable(f"no run of {asked.arm} or {asked.rival} has a spike")
    difference = {seed: runs[seed] - others[seed] for seed in runs if seed in others}
    # Counts of few spikes may agree by chance over all seeds; one spike in one run is the least that counts resolve.
    least = (100.0 / max(1, int(evidence.metrics["step"].max()) + 1)) ** 2 / 4 if spikes else 0.0
    return Part(f"{asked.arm} against {asked.rival}", _student(difference, evidence, least))


def _of_runs(evidence: Evidence, arm: str, metrics: Sequence[str], summary: str, log: bool) -> dict[int, float]:
    """Summary of a metric for each seed of an arm."""
    frame = evidence.metrics
    known = [metric for metric in metrics if metric in frame]
    rows = frame[frame["arm"] == arm] if "arm" in frame else frame
    if not known or rows[known].isna().all(axis=None):
        raise NotApplicable(f"{arm} records no {' or '.join(metrics)}")
    found = {}
    for seed, run in rows.sort_values("step").groupby("seed"):
        series = [run[metric].dropna().to_numpy(float) for metric in known]
        if any(len(values) < curves.STEPS_NEEDED for values in series):
            raise NotApplicable(f"runs of {arm} are shorter than {curves.STEPS_NEEDED} steps")
        found[int(str(seed))] = float(np.mean([_summary(values, summary, log, arm) for values in series]))
    return found


def _summary(values: np.ndarray, summary: str, log: bool, arm: str) -> float:
    if not np.isfinite(values).all():
        raise NotApplicable(f"a run of {arm} has a value that is not finite")
    match summary:
        case "change":
            first, last = curves.ends(values)
            if log and min(first, last) <= 0:
                raise NotApplicable(f"a ratio needs values above zero, and a run of {arm} has others")
            return float(np.log(last / first)) if log else last - first
        case "spikes" | "peak" if not (values > 0).any():
            raise NotApplicable(f"a run of {arm} has no gradient at all")
        case "spikes":
            return curves.spikes(values)
        case "peak":
            return float(np.log(curves.peak(values)))
    value = curves.late(values) if summary == "late" else curves.mean(values)
    if log and value <= 0:
        raise NotApplicable(f"a ratio needs values above zero, and a run of {arm} has others")
    return float(np.log(value)) if log else value


def _correlations(evidence: Evidence, arm: str) -> dict[int, float]:
    rows = _conflict_rows(evidence, arm, ["cosine", "score_gap"])
    found = {
        int(str(seed)): curves.rank_correlation(pairs["cosine"].to_numpy(float), pairs["score_gap"].to_numpy(float))
        for seed, pairs in rows.groupby("seed")
    }
    varied = {seed: value for seed, value in found.items() if np.isfinite(value)}
    if len(varied) < 2:
        raise NotApplicable(f"score gaps or cosines of {arm} do not vary")
    return varied


def _conflicts(evidence: Evidence, arm: str, against: str) -> dict[int, float]:
    """Mean difference over the groups of which the mask leaves anything, for each seed."""
    other = f"conflict_{against}"
    rows = _conflict_rows(evidence, arm, ["conflict_after", other]).drop_duplicates(["seed", "step", "group"])
    gaps = (rows["conflict_after"] - rows[other]).groupby(rows["seed"]).mean()
    return {int(str(seed)): float(gap) for seed, gap in gaps.items()}


def _conflict_rows(evidence: Evidence, arm: str, keys: list[str]) -> pd.DataFrame:
    frame = evidence.conflict
    if frame.empty or not (frame["arm"] == arm).any():
        raise NotApplicable(f"gradients of {arm} were not measured")
    rows = frame[frame["arm"] == arm].dropna(subset=keys)
    if rows.empty:
        raise NotApplicable(f"the measured groups of {arm} hold no {' and '.join(keys)}")
    return rows


def _student(by_seed: Mapping[int, float], evidence: Evidence, least: float = 0.0) -> Effect:
    """Mean over seeds, and its variance, which is at least that of ``least`` a seed."""
    if len(by_seed) < 2:
        raise NotApplicable("it needs two seeds that all its arms have")
    values = np.array(list(by_seed.values()))
    spread = max(float(values.var(ddof=1)), least) / len(values)
    return Effect(float(values.mean()), spread, len(values) - 1, len(values), of_bases=_of_bases(by_seed, evidence))


def _of_bases(by_seed: Mapping[int, float], evidence: Evidence) -> dict[int, float]:
    bases = sorted({evidence.base_seed[seed] for seed in by_seed})
    return {
        base: float(np.mean([value for seed, value in by_seed.items() if evidence.base_seed[seed] == base]))
        for base in bases
    }


def _rows(arm: Scores, seeds: Sequence[int]) -> np.ndarray:
    return arm.cells[[arm.seeds.index(seed) for seed in seeds]]
