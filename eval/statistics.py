"""Statistics behind every table: pure functions over arrays, in shares (0 to 1), without any file or frame.

Letters: A arms, S training seeds, P problems, F families, C columns, B resamples. A column is an average of families.

The interval of an arm, or of a difference between two arms, is the central 95 % of B draws. A draw has two parts.

*Problems and samples.* Within each family, P problems are drawn with replacement, the same for all arms, so that a
difference is taken on equal questions. A problem brings its samples along: the spread of problem means already holds
the noise of sampling, and drawing samples again would count it twice (Davison and Hinkley, Bootstrap Methods, 1997,
section 3.8). Half an imaginary problem, right or wrong by a coin flip for each arm, stands in the urn beside the P
real ones (half the weight of Jeffreys' prior, spelt as data), so that an arm with 0 right of 8 does not get an
interval of no width.

*Seeds.* Resampling two or three seeds understates their spread: their resampled variance is short by (S - 1) / S, and
a normal quantile stands where one of Student's with S - 1 degrees of freedom belongs. So a draw adds Student's t times
the standard error of the mean over seeds. The variance between seeds is what is left of the variance of seed means
after the part that finitely many problems and samples explain (which the first part already holds); it is pooled over
all trained arms, whose degrees of freedom are those of t, and an arm that spreads more than the pool keeps its own
larger value. For a difference it is the variance of the seed-by-seed differences, pooled over all pairs of arms.

*Seeds that two arms share.* A difference is taken over the seeds that both arms have, where these are at least two:
seeds may start from different base checkpoints, whose levels differ, and the level of a base is no merit of an arm. So
the difference of an arm with few seeds is not the difference of the two arms' means. Arms that share fewer than two
seeds are compared over all their seeds, and the variances of both means are added.

Coverage was simulated with logistic effects of problem, arm and seed, 6 families of 60 problems, 300 or 400
experiments a setting, and seeds that move an average by about 0, 1 or 4 points. Of a difference of averages, with 2, 3
and 8 seeds: 95.3 to 96.9 % with 9 arms, 95.2 to 98.2 % with 3, 95.5 to 99.2 % with 2 (few seeds to pool, so wide
intervals). Of a family's difference 93.5 % at the least. An arm whose seeds spread three times as far as all others'
gets 91 %. With seeds that start in turn from two bases some points apart, 6 arms of 8 seeds and 6 of 3: 94.4 to 97.6 %
of differences between arms of equal and of unequal seeds, and to the base. That is coverage for runs from these bases:
where each base favours some arms, by as much as seeds spread, a claim on all bases there could be is covered in 83 to
92 %, since two bases cannot show how far bases spread. ``tests/test_eval_statistics.py`` repeats a small part.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from math import comb
from statistics import NormalDist

import numpy as np

from dagrpo.errors import UserError

CONFIDENCE = 0.95
POWER = 0.80
_IMAGINARY = 0.5
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Scores:
    """What one arm scored: ``cells`` in [0, 1], shape (S, P), a row for each of ``seeds``.

    ``trained`` is false for a checkpoint that has no training seeds of its own (the base): its row of a seed is the
    checkpoint that runs of this seed start from.
    """

    seeds: tuple[int, ...]
    cells: np.ndarray
    trained: bool = True


@dataclass(frozen=True, slots=True)
class Estimates:
    """Means (A, C) and differences, row arm minus column arm, (A, A, C), each with the ends of its interval.

    A difference is over the seeds that both arms have, so it need not be that of the means, which are over all seeds.
    ``seeds_measured`` is false where no trained arm has two seeds: intervals then know of problems and samples only.
    """

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    difference: np.ndarray
    difference_low: np.ndarray
    difference_high: np.ndarray
    seeds_measured: bool


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """Variance of the mean over seeds (A, C), of a difference of two arms (A, A, C), and degrees of freedom of both."""

    arms: np.ndarray
    pairs: np.ndarray
    arms_freedom: float
    pairs_freedom: float


def average_at_k(correct: np.ndarray) -> np.ndarray:
    """Average over the k samples of the last axis: (..., k) -> (...)."""
    return correct.mean(axis=-1)


def pass_at_k(correct: np.ndarray, k: int) -> np.ndarray:
    """Estimate, without bias, the chance that k fresh samples hold a correct one: (..., n) booleans -> (...).

    1 - C(n - c, k) / C(n, k) for c correct of n (Chen et al., arXiv 2107.03374, Eq. 1).

    Raises:
        UserError: if k is larger than n, where no unbiased estimate exists.
    """
    n = correct.shape[-1]
    if not 1 <= k <= n:
        raise UserError(f"pass@{k} needs at least {k} samples of each problem and {n} are there; draw more, or lower k")
    by_count = np.array([1 - comb(n - c, k) / comb(n, k) for c in range(n + 1)])
    return by_count[correct.astype(bool).sum(axis=-1)]


def estimate(
    arms: Sequence[Scores], family: np.ndarray, columns: np.ndarray, resamples: int, generator: np.random.Generator
) -> Estimates:
    """Average, and put an interval on every arm and on every difference between two arms.

    Args:
        arms: A arms over the same P problems.
        family: the family of each problem, integers below F, shape (P,).
        columns: weights of the families in each column, rows adding to one, shape (C, F).
        resamples: B.
        generator: source of all draws; the same generator gives the same bytes.
    """
    places, means, draws = resample(arms, family, columns, resamples, generator)
    spread = seed_spread(arms, family, columns)
    shape = (resamples, len(columns))
    arm_t = generator.standard_t(spread.arms_freedom, shape)
    pair_t = generator.standard_t(spread.pairs_freedom, shape)
    mean = means[: len(arms)]
    low, high = np.empty_like(mean), np.empty_like(mean)
    difference = np.zeros((len(arms), *mean.shape))
    difference_low, difference_high = np.zeros_like(difference), np.zeros_like(difference)
    for a in range(len(arms)):
        low[a], high[a] = _interval(draws[a] + arm_t * np.sqrt(spread.arms[a]), mean[a])
        for b in range(a):
            seeds = common_seeds(arms[a], arms[b])
            one, other = places[a, seeds or arms[a].seeds], places[b, seeds or arms[b].seeds]
            difference[a, b] = means[one] - means[other]
            difference[b, a] = -difference[a, b]
            t = pair_t if arms[a].trained and arms[b].trained else arm_t
            noise = t * np.sqrt(spread.pairs[a, b])
            difference_low[a, b], difference_high[a, b] = _interval(draws[one] - draws[other] + noise, difference[a, b])
            difference_low[b, a], difference_high[b, a] = -difference_high[a, b], -difference_low[a, b]
    measured = seeds_are_measured(arms)
    return Estimates(
        mean, low.clip(0, 1), high.clip(0, 1), difference, difference_low, difference_high, seeds_measured=measured
    )


def resample(
    arms: Sequence[Scores], family: np.ndarray, columns: np.ndarray, resamples: int, generator: np.random.Generator
) -> tuple[dict[tuple[int, tuple[int, ...]], int], np.ndarray, np.ndarray]:
    """Average every arm, and draw its problems anew; arguments as of :func:`estimate`.

    Returns:
        The place of each arm and set of seeds that a mean is needed over (its own first, then those that it shares with
        another), the means (places, C), and the draws (places, B, C), in which seeds are not drawn.
    """
    families = columns.shape[1]
    assert all(arm.cells.shape == (len(arm.seeds), len(family)) for arm in arms)
    assert np.allclose(columns.sum(axis=1), 1) and np.all(np.bincount(family, minlength=families) > 0)
    # A mean is needed of every arm over its own seeds, and over those that it shares with another.
    places = {(a, arm.seeds): a for a, arm in enumerate(arms)}
    for a, b in permutations(range(len(arms)), 2):
        places.setdefault((a, common_seeds(arms[a], arms[b]) or arms[a].seeds), len(places))
    values = np.stack([_rows(arms[a], seeds).mean(axis=0) for a, seeds in places], axis=1)  # (P, at least A)
    inside = [family == index for index in range(families)]
    means = np.einsum("cf,fa->ac", columns, np.stack([values[rows].mean(axis=0) for rows in inside]))
    by_family = np.stack([_problem_draws(values[rows], resamples, generator) for rows in inside])
    return places, means, np.einsum("cf,fba->abc", columns, by_family)


def seeds_are_measured(arms: Sequence[Scores]) -> bool:
    """Tell whether some trained arm has two seeds, or none is trained; else another seed could reverse any order."""
    return any(arm.trained and len(arm.seeds) > 1 for arm in arms) or not any(arm.trained for arm in arms)


def told_apart(estimates: Estimates) -> np.ndarray:
    """Tell which pairs of arms, (A, A, C), differ by an interval that excludes a tie; none where each has one seed."""
    if not estimates.seeds_measured:  # another seed could reverse any order
        return np.zeros(estimates.difference.shape, dtype=bool)
    return np.logical_or(estimates.difference_low > 0, estimates.difference_high < 0)


def beats_every_other(estimates: Estimates, rivals: np.ndarray | None = None) -> np.ndarray:
    """Tell which entries, (A, C), are better than each other arm by an interval that excludes a tie: the bold ones.

    ``rivals``, booleans (A, A), says which arms (columns) an arm (row) must beat; all the others if left out.
    """
    better = told_apart(estimates) & (estimates.difference > 0)  # (A, A, C)
    others = ~np.eye(len(better), dtype=bool)
    asked = others if rivals is None else others & rivals
    return np.all(better | ~asked[..., None], axis=1)


def detectable(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Smallest true difference that an interval of this width would exclude zero for, with 80 % power.

    (z(.975) + z(.80)) standard errors, the standard error being half the width over z(.975): 1.43 half-widths.
    """
    z = NormalDist().inv_cdf
    quantile = z((1 + CONFIDENCE) / 2)
    return (high - low) / 2 * (quantile + z(POWER)) / quantile


def seed_spread(arms: Sequence[Scores], family: np.ndarray, columns: np.ndarray) -> SeedSpread:
    """Estimate how much training seeds alone move the mean of each arm and the difference of each pair."""
    count, width = len(arms), len(columns)
    trained = np.array([arm.trained for arm in arms])
    replicated = [a for a, arm in enumerate(arms) if arm.trained and len(arm.seeds) > 1]
    freedom = sum(len(arms[a].seeds) - 1 for a in replicated)
    # Arms that share a seed share its luck, and one of the T arms' worth of freedom goes into that luck.
    pairs_freedom = max(1.0, freedom * (len(replicated) - 1) / max(1, len(replicated)))

    own, weight = np.zeros((count, width)), np.zeros(count)
    for a in replicated:
        own[a] = _excess(arms[a].cells, family, columns, freedom)
        weight[a] = len(arms[a].seeds) - 1
    pooled = np.average(own, axis=0, weights=weight) if weight.any() else np.zeros(width)
    share = np.array([1 / len(arm.seeds) if arm.trained else 0.0 for arm in arms])
    variance = np.maximum(own, pooled).clip(0) * share[:, None]

    of_seeds, shared = np.zeros((count, count, width)), np.zeros((count, count), dtype=int)
    for a, b in combinations(range(count), 2):
        seeds = common_seeds(arms[a], arms[b])
        if seeds and (trained[a] or trained[b]):
            cells = _rows(arms[a], seeds) - _rows(arms[b], seeds)
            excess = _excess(cells, family, columns, pairs_freedom if trained[a] and trained[b] else freedom)
            of_seeds[a, b] = of_seeds[b, a] = excess
            shared[a, b] = shared[b, a] = len(seeds)
    pairs = variance[:, None] + variance[None, :]  # of arms that share no seeds
    # The difference of two trained arms holds the luck of two runs, that to the base the luck of one: pooled apart.
    for kind in (trained[:, None] & trained[None, :], trained[:, None] ^ trained[None, :]):
        chosen = kind & (shared > 1)
        if chosen.any():
            number = shared[chosen]
            common = np.average(of_seeds[chosen], axis=0, weights=number - 1)
            pairs[chosen] = np.maximum(of_seeds[chosen], common).clip(0) / number[:, None]
    return SeedSpread(variance, pairs, float(max(1, freedom)), pairs_freedom)


def common_seeds(one: Scores, other: Scores) -> tuple[int, ...]:
    """Seeds that a difference of two arms is taken over, in rising order; none where they share only one."""
    shared = tuple(sorted(set(one.seeds) & set(other.seeds)))
    return shared if len(shared) > 1 else ()


def _problem_draws(values: np.ndarray, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """Means of problems drawn with replacement from one family: (P, A) -> (B, A)."""
    problems, arms = values.shape
    chance = np.append(np.ones(problems), _IMAGINARY) / (problems + _IMAGINARY)
    draws = np.empty((resamples, arms))
    for start in range(0, resamples, _CHUNK):  # bounds memory where a family has 12,000 problems
        stop = min(start + _CHUNK, resamples)
        counts = generator.multinomial(problems, chance, size=stop - start)
        imaginary = generator.binomial(counts[:, -1:], 0.5, size=(stop - start, arms))
        # einsum, not a matrix product: its sums do not depend on the number of BLAS threads.
        draws[start:stop] = np.einsum("bp,pa->ba", counts[:, :-1].astype(float), values) + imaginary
    return draws / problems


def _excess(cells: np.ndarray, family: np.ndarray, columns: np.ndarray, freedom: float) -> np.ndarray:
    """Variance between seed means, (C,), beyond what problems and samples explain; may be negative. ``cells``: (S, P).

    With few degrees of freedom less of the noise is taken off, none with a single one: a chance agreement of two seeds
    would otherwise pass for proof that seeds do not matter.
    """
    seeds, families = len(cells), columns.shape[1]
    means, noise = np.empty((seeds, families)), np.empty(families)
    for index in range(families):
        inside = cells[:, family == index]
        means[:, index] = inside.mean(axis=1)
        residual = inside - inside.mean(axis=0) - inside.mean(axis=1, keepdims=True) + inside.mean()
        problems = inside.shape[1]
        noise[index] = (residual**2).sum() / ((seeds - 1) * max(1, problems - 1)) / problems
    total = np.einsum("sf,cf->sc", means, columns).var(axis=0, ddof=1)
    return total - (1 - 1 / freedom) * np.einsum("cf,f->c", columns**2, noise)


def _rows(arm: Scores, seeds: Sequence[int]) -> np.ndarray:
    return arm.cells[[arm.seeds.index(seed) for seed in seeds]]


def _interval(draws: np.ndarray, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Central interval over the first axis, widened where need be to hold the point estimate."""
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return np.minimum(low, point), np.maximum(high, point)
