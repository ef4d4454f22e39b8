"""From graded groups to the columns of a step's rows."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dagrpo import seeds
from dagrpo.algorithm import Rows, rows_of
from dagrpo.records import Group, Problem, Verdict


@dataclass(frozen=True, slots=True)
class Domains:
    """The families of the training problems: the number of each, and its share of the problems."""

    numbers: Mapping[str, int]
    shares: Mapping[str, float]


def domains_of(problems: Sequence[Problem]) -> Domains:
    """Number the families of problems by name, and count their shares."""
    families = Counter(problem.family for problem in problems)
    return Domains(
        {family: number for number, family in enumerate(sorted(families))},
        {family: count / len(problems) for family, count in families.items()},
    )


def rows_of_groups(
    groups: Sequence[Group],
    verdicts: Sequence[Verdict],
    domains: Domains,
    past_accuracy: Mapping[str, float],
    budget: int,
    seed: int,
    step: int,
) -> Rows:
    """The rows of a step, one a rollout, group after group; reward, advantage, score and weight are not set yet.

    Args:
        verdicts: one a rollout, in the order of the groups.
        past_accuracy: share of correct rollouts by problem id, for those sampled before.
        budget: most tokens of a response.
    """
    pairs = [(number, group.problem, rollout) for number, group in enumerate(groups) for rollout in group.rollouts]
    keys = [seeds.key(seed, "row", step, problem.id, rollout.index) for _, problem, rollout in pairs]
    columns: dict[str, Any] = {
        "group": [number for number, _, _ in pairs],
        "anchor": [rollout.source == "anchor" for _, _, rollout in pairs],
        "correct": [verdict is Verdict.CORRECT for verdict in verdicts],
        "answered": [verdict in (Verdict.CORRECT, Verdict.WRONG) for verdict in verdicts],
        "truncated": [rollout.finish == "length" for _, _, rollout in pairs],
        "length": [len(rollout.tokens) for _, _, rollout in pairs],
        "budget": [budget] * len(pairs),
        "key": np.array(keys, dtype=np.uint64).view(np.int64),
        "sampled_logp": [_mean(rollout.logps) for _, _, rollout in pairs],
        "entropy": [_mean(rollout.entropies) for _, _, rollout in pairs],
        "domain": [domains.numbers[problem.family] for _, problem, _ in pairs],
        "domain_share": [domains.shares[problem.family] for _, problem, _ in pairs],
        "value": [math.nan if rollout.value is None else rollout.value for _, _, rollout in pairs],
        "visits": [rollout.visits for _, _, rollout in pairs],
        "past_accuracy": [past_accuracy.get(problem.id, math.nan) for _, problem, _ in pairs],
    }
    return rows_of(columns)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
