"""An estimated effect, its interval, and how many seeds would settle it: pure functions of numbers.

The error of an effect is the sum of two parts, as in :mod:`eval.statistics`: a normal one for problems and samples,
whose variance is that of the bootstrap over problems in closed form (an average needs no draws for it, and draws would
be too few for the outermost thousandth that many claims at once call for), and Student's t for the spread of seeds.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist

import numpy as np

POWER = 0.80
MOST_SEEDS = 1000
_NORMAL = NormalDist()
_POINTS = 200
_ITERATIONS = 50


@dataclass(frozen=True, slots=True)
class Effect:
    """An estimate over ``seeds`` seeds and the variances of its error.

    ``problems`` is what more seeds would leave, ``samples`` what they would divide; both are normal. ``spread`` is the
    variance of the mean over seeds, with ``freedom`` degrees. ``of_bases`` is the estimate on each base seed.
    """

    estimate: float
    spread: float
    freedom: float
    seeds: int
    problems: float = 0.0
    samples: float = 0.0
    of_bases: Mapping[int, float] = field(default_factory=dict)

    def half_width(self, level: float) -> float:
        """Half the two-sided interval that misses with probability ``level``."""
        return half_width(self.problems + self.samples, self.spread, self.freedom, level)

    def with_seeds(self, seeds: int) -> "Effect":
        """The same effect as that many seeds would measure it."""
        share = self.seeds / seeds
        freedom = self.freedom * (seeds - 1) / max(1, self.seeds - 1)
        return Effect(self.estimate, self.spread * share, freedom, seeds, self.problems, self.samples * share)


def half_width(normal: float, student: float, freedom: float, level: float) -> float:
    """Find x with P(|error| > x) = ``level`` for an error that is normal plus t, of the two variances given.

    t is a normal deviate whose variance is ``freedom`` over chi-squared, so the sum is a mixture of normal deviates.
    """
    if normal + student <= 0:
        return 0.0
    weights, scales = _mixture(round(max(1.0, freedom), 3))
    deviation = np.sqrt(normal + student * scales)

    x = _NORMAL.inv_cdf(1 - level / 2) * math.sqrt(normal + student)
    for _ in range(_ITERATIONS):  # Newton's method on the logarithm of the tail, which is nearly straight
        tail = float(weights @ [math.erfc(z) for z in (x / (math.sqrt(2) * deviation)).tolist()])
        density = float((weights / deviation) @ np.exp(-((x / deviation) ** 2) / 2)) * math.sqrt(2 / math.pi)
        step = tail / density * math.log(tail / level)
        x += step
        if abs(step) < 1e-6 * x:
            break
    return x


def seeds_to_decide(effect: Effect, smallest: float, level: float, power: float = POWER) -> int | None:
    """Find the fewest seeds that would settle the claim with this power, were the truth what is estimated now.

    None where no number below 1000 would: problems alone leave too much doubt, or the effect lies too near the
    smallest that matters.
    """

    def settles(seeds: int) -> bool:
        return power_at(effect.with_seeds(seeds), smallest, level) >= power

    low, high = 1, MOST_SEEDS
    if not settles(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if settles(middle) else (middle, high)
    return high


def more_problems_needed(effect: Effect, smallest: float, level: float) -> bool:
    """Tell whether the doubt that problems leave would by itself keep any number of seeds from settling the claim."""
    bare = Effect(effect.estimate, 0.0, effect.freedom, effect.seeds, effect.problems)
    return effect.problems > 0 and power_at(bare, smallest, level) < POWER


def power_at(effect: Effect, smallest: float, level: float) -> float:
    """Chance that the claim is called reproduced (or, of an effect too small to matter, contradicted)."""
    width = effect.half_width(level)
    error = math.sqrt(effect.problems + effect.samples + effect.spread)
    room = effect.estimate - max(smallest, width) if effect.estimate >= smallest else smallest - width - effect.estimate
    return _NORMAL.cdf(room / error) if error > 0 else float(room >= 0)


@lru_cache(maxsize=256)
def _mixture(freedom: float) -> tuple[np.ndarray, np.ndarray]:
    """Weights and values of ``freedom`` over chi-squared, by the trapezoid rule in the logarithm of chi-squared."""
    reach = 12 * math.sqrt(2 / freedom)
    log = np.linspace(math.log(freedom) - reach - 56 / freedom, math.log(freedom + 60) + reach / 2, _POINTS)
    density = np.exp(freedom / 2 * (log - math.log(freedom)) - (np.exp(log) - freedom) / 2)
    kept = density > 1e-13 * density.max()
    return density[kept] / density.sum(), freedom / np.exp(log[kept])
