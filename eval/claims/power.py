"""What design shows a difference: the variances of an earlier study, and what more of each kind does to them.

A difference of two arms' averages varies with the base that both start from (bases favour arms), with the run seeds
from one base, with the problems that are asked, with the interplay of problem and seed, and with the samples of each
problem. Each part is estimated on every main arm against the reference, and averaged over the arms: seeds nested in
bases, as in a nested analysis of variance; problems and samples as the claims do (:mod:`eval.claims.evidence`).

What is foreseen is what the claims would then say: an interval of the same form, corrected for the same number of
claims. ``tests/test_eval_power.py`` holds it against simulated experiments of another shape than the pilots.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist

import numpy as np

from eval.claims.effects import POWER, Effect, power_at
from eval.claims.evidence import Evidence, _contrast, _rows, _scope, _variances
from eval.statistics import common_seeds

BASES, SEEDS, TIMES = (2, 3, 4, 6, 8, 12, 16, 24, 32), (1, 2, 3, 4, 6, 8), (1, 2, 4)
"""Designs that are looked at: bases a corpus, run seeds a base, and multiples of the study's problems and samples."""
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Variances:
    """Variances of a difference of averages, in squared shares.

    ``bases`` is that between bases (NaN where the study has one), ``seeds`` that between run seeds from one base.
    ``problems`` is what the study's problems leave whatever the seeds, ``interplay`` what they add on each run, and
    ``samples`` what the samples add on each run.
    """

    bases: float
    seeds: float
    problems: float
    interplay: float
    samples: float


@dataclass(frozen=True, slots=True)
class Design:
    """Bases a corpus, run seeds a base, and how many times the problems and the samples of the study."""

    bases: int
    seeds: int
    problems: float = 1
    samples: float = 1


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a core that a base, the training of a run, and its evaluation take; 0 where nobody measured them."""

    base: float
    train: float
    evaluate: float

    def hours(self, design: Design, arms: int) -> float:
        """Hours of a core for one corpus with so many arms."""
        asked = self.evaluate * design.problems * design.samples
        runs = arms * design.bases * design.seeds
        return (design.bases * (self.base + asked) + runs * (self.train + asked)) / 3600


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What a design would show: the smallest true difference that is called reproduced in four cases of five, the power
    for the difference that was asked for, and the chance that no difference at all is called none that matters."""

    design: Design
    detectable: float
    power: float
    none: float
    hours: float


def variances(evidence: Evidence, arms: Sequence[str], reference: str, column: str, samples: np.ndarray) -> Variances:
    """Estimate the parts from an earlier study, averaged over the differences of ``arms`` to ``reference``.

    Args:
        samples: of each problem, (P,).
    """
    parts = [_parts(evidence, arm, reference, column, samples) for arm in arms if arm != reference]
    means = [float(value) for value in np.mean(parts, axis=0)]
    return Variances(*(value if math.isnan(value) else max(0.0, value) for value in means))


def foresee(
    found: Variances, design: Design, arms: int, level: float, difference: float, smallest: float, cost: Cost
) -> Foreseen:
    """Say what a design would show.

    Args:
        arms: trained arms that have all seeds, over which the spread of seeds is pooled.
        level: probability with which an interval may miss.
        difference, smallest: the true difference, and the smallest that matters, in shares.
    """
    effect = expected(found, design, arms, difference)
    width = effect.half_width(level)
    error = math.sqrt(effect.problems + effect.samples + effect.spread)
    detectable = max(smallest, width) + _NORMAL.inv_cdf(POWER) * error
    none = max(0.0, 2 * _NORMAL.cdf((smallest - width) / error) - 1) if error > 0 else float(width < smallest)
    return Foreseen(design, detectable, power_at(effect, smallest, level), none, cost.hours(design, arms))


def expected(found: Variances, design: Design, arms: int, difference: float) -> Effect:
    """The effect that a design measures on average. Bases count as whole clusters wherever there are several."""
    runs = design.bases * design.seeds
    bases = 0.0 if math.isnan(found.bases) else found.bases
    units = design.bases if design.bases > 1 else design.seeds
    return Effect(
        difference,
        spread=bases / design.bases + found.seeds / runs,
        freedom=float(max(1, (units - 1) * max(1, arms - 1))),
        seeds=runs,
        problems=found.problems / design.problems,
        samples=(found.interplay + found.samples / design.samples) / (design.problems * runs),
    )


def designs() -> Iterator[Design]:
    """Every design that is looked at."""
    return (Design(*each) for each in product(BASES, SEEDS, TIMES, TIMES[:2]))


def _parts(evidence: Evidence, arm: str, rival: str, column: str, samples: np.ndarray) -> tuple[float, ...]:
    one, other = evidence.arms[arm], evidence.arms[rival]
    seeds = common_seeds(one, other)
    scope = _scope(evidence, column, None, None)
    cells = [_rows(each, seeds)[:, scope.problems] for each in (one, other)]
    problems, falling = _variances(cells[0] - cells[1], scope.stratum, scope.weights)
    trial = falling * len(seeds)
    drawn = min(trial, sum(_sampling(each, samples[scope.problems], scope.stratum, scope.weights) for each in cells))

    contrasts = np.array([_contrast(row, scope) for row in cells[0] - cells[1]])
    bases = np.array([evidence.base_seed[seed] for seed in seeds])
    groups = [contrasts[bases == base] for base in np.unique(bases)]
    freedom = sum(len(group) - 1 for group in groups)
    inside = sum(float(((group - group.mean()) ** 2).sum()) for group in groups) / max(1, freedom)
    between = float(np.var([group.mean() for group in groups], ddof=1)) if len(groups) > 1 else math.nan
    # Of one run a base, all that moves a run is counted as the base's.
    each = inside if freedom else trial
    of_bases = between - each / np.mean([len(group) for group in groups])
    return float(of_bases), (inside - trial if freedom else 0.0), problems, trial - drawn, drawn


def _sampling(cells: np.ndarray, samples: np.ndarray, stratum: np.ndarray, weights: np.ndarray) -> float:
    """Variance of an average that k samples a problem bring, (S, P) shares right: p (1 - p) / k, without bias.

    Of one sample a problem its spread cannot be told from that of problems, and all of it is counted here.
    """
    noise = np.where(samples > 1, cells * (1 - cells) / np.maximum(samples - 1, 1), np.inf).mean(axis=0)
    means = [noise[stratum == index].mean() / (stratum == index).sum() for index in range(len(weights))]
    return float(np.square(weights) @ means)
