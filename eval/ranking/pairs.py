"""Differences between all pairs of arms at once: pure functions over arrays, in shares, letters as in eval.statistics.

With 40 arms there are 780 differences, and 39 of their 95 % intervals exclude a tie by luck alone. So all of them are
widened by one factor c until they hold together::

    difference ± c · standard error,    c = the 95 % quantile of max over pairs |draw - mean of draws| / standard error

(single-step max-t, Westfall and Young, Resampling-Based Multiple Testing, 1993, section 2.3). The draws are those of
:mod:`eval.statistics`: the same problems for all arms, and Student's t for the seeds over those that both arms have.
Bonferroni's correction over the pairs would be simpler and allow for any dependence, but it asks for the quantile at
0.05 / 1560, which no bootstrap of some thousand draws reaches, and it ignores that the pairs share arms and problems:
its intervals are about a tenth longer for 40 arms that are alike.

The luck of a run strikes all pairs that its arm is in. So a draw has one normal deviate g for each trained arm, and of
a pair (g_a - g_b) / √2, or g_a against an arm that is not trained, over one √(χ² / ν) for all: each pair by itself has
Student's t times its own standard error, as in :mod:`eval.statistics`, and all together what independent runs have.

Simulated as there, with arms that do not differ and 200 studies a setting: of 8 arms with 2, 3 or 8 seeds some pair was
told apart in 1.5 to 4.5 % of the studies, of 20 arms with 3 seeds in 2 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eval.statistics import CONFIDENCE, Scores, common_seeds, resample, seed_spread, seeds_are_measured


@dataclass(frozen=True, slots=True)
class Pairs:
    """Differences, row arm minus column arm, and half their simultaneous intervals, both (A, A, C).

    ``factor`` (C,) is c. ``seeds_measured`` is false where no trained arm has two seeds.
    """

    difference: np.ndarray
    half_width: np.ndarray
    factor: np.ndarray
    seeds_measured: bool

    @property
    def apart(self) -> np.ndarray:
        """Which pairs, (A, A, C), differ by an interval that excludes a tie; none where each arm has one seed."""
        return (np.abs(self.difference) > self.half_width) & self.seeds_measured


def all_pairs(
    arms: Sequence[Scores], family: np.ndarray, columns: np.ndarray, resamples: int, generator: np.random.Generator
) -> Pairs:
    """Put simultaneous intervals on all differences, in each column by itself; arguments as of ``estimate``."""
    places, means, draws = resample(arms, family, columns, resamples, generator)
    draws -= draws.mean(axis=1, keepdims=True)
    spread = seed_spread(arms, family, columns)
    count, width = len(arms), len(columns)
    trained = np.array([arm.trained for arm in arms])
    luck = generator.standard_normal((count, resamples, width)) * trained[:, None, None]
    luck /= np.sqrt(generator.chisquare(spread.pairs_freedom, (resamples, width)) / spread.pairs_freedom)

    difference, error = np.zeros((count, count, width)), np.zeros((count, count, width))
    largest = np.zeros((resamples, width))
    for a in range(1, count):
        seeds = [common_seeds(arms[a], other) for other in arms[:a]]
        one = [places[a, shared or arms[a].seeds] for shared in seeds]
        other = [places[b, shared or arms[b].seeds] for b, shared in enumerate(seeds)]
        difference[a, :a] = means[one] - means[other]
        problems = draws[one] - draws[other]  # (a, B, C)
        variance = spread.pairs[a, :a]
        error[a, :a] = np.sqrt(problems.var(axis=1) + variance)
        runs = np.maximum(1, trained[a].astype(int) + trained[:a])[:, None, None]
        deviation = problems + (luck[a] - luck[:a]) * np.sqrt(variance[:, None] / runs)
        share = np.divide(
            np.abs(deviation), error[a, :a, None], out=np.zeros_like(deviation), where=error[a, :a, None] > 0
        )
        largest = np.maximum(largest, share.max(axis=0))
    difference -= difference.transpose(1, 0, 2)
    error += error.transpose(1, 0, 2)
    factor = np.quantile(largest, CONFIDENCE, axis=0)
    return Pairs(difference, factor * error, factor, seeds_are_measured(arms))
