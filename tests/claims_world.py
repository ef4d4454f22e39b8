"""Evidence whose truth is known: what the tests of verdicts judge."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dagrpo.seeds import generator
from eval.claims.evidence import Evidence
from eval.statistics import Scores

ARMS = ("grpo", "dagrpo_no_anchors", "luffy", "dagrpo", "sft", "sft_then_rl", "sft_then_rl.half", "random_reward")
FAMILIES = ("sums", "products", "gcd", "equations", "sorting", "counting")
FAMILY = np.repeat(np.arange(len(FAMILIES)), 24)
LEVEL = np.tile(np.arange(4.0), len(FAMILY) // 4)
COLUMNS = {
    "in_distribution": np.array([0.25] * 4 + [0.0] * 2),
    "out_of_distribution": np.array([0.0] * 4 + [0.5] * 2),
}
STEPS = 60


def world(
    number: int,
    gains: Mapping[str, float] | None = None,
    seeds: int = 4,
    bases: int = 2,
    luck: float = 0.15,
    favour: float = 0.0,
    arms: Sequence[str] = ARMS,
    samples: int = 4,
) -> Evidence:
    """Accuracy in a logistic model, without curves.

    Args:
        number: of the experiment: everything is drawn anew for each.
        gains: of an arm over the base, in logits; 0 where it is not named.
        luck: standard deviation of seeds, in logits.
        favour: standard deviation of what a base seed does for one arm, in logits.
    """
    draws = generator("claims", number)
    easy = draws.normal(0.5, 1.5, len(FAMILY))
    base_of = np.arange(seeds) % bases
    level = draws.normal(0, 0.3, bases)[base_of][:, None]
    found = {}
    for arm in ("base", *arms):
        trained = arm != "base"
        suits = draws.normal(0, 0.5, len(FAMILY)) if trained else 0.0
        of_base = draws.normal(0, favour, bases)[base_of][:, None] if trained else 0.0
        of_seed = draws.normal(0, luck, (seeds, 1)) if trained else 0.0
        chance = 1 / (1 + np.exp(-(easy + suits + of_base + of_seed + level + (gains or {}).get(arm, 0.0))))
        right = draws.binomial(samples, chance) / samples
        found[arm] = Scores(tuple(range(seeds)), right if trained else right[base_of], trained)
    base_seed = {seed: seed % bases for seed in range(seeds)}
    return Evidence(found, FAMILY, FAMILIES, COLUMNS, LEVEL, base_seed)


def with_curves(evidence: Evidence, number: int, shifts: Mapping[tuple[str, str], float] | None = None) -> Evidence:
    """Add metrics, consumption and gradients in which no arm differs from another, but for ``shifts``.

    A shift of (arm, metric) moves the logarithm of the metric by so much, in a straight line over the run.
    """
    draws, shifts = generator("curves", number), shifts or {}
    line = np.linspace(0, 1, STEPS)
    frames, consumed, pairs = [], [], []
    levels = {"entropy": 0.3, "response_tokens": 12.0, "reward": 0.5, "signal_groups/level2": 0.4}
    levels |= {"signal_groups/level3": 0.2, "anchor/push": 0.3}
    for arm in evidence.trained:
        for seed in evidence.arms[arm].seeds:
            norm = np.exp(draws.normal(0, 0.3, STEPS)) * np.where(draws.random(STEPS) < 0.03, 20, 1)
            series = {
                key: level
                * np.exp(draws.normal(0, 0.1) + draws.normal(0, 0.1, STEPS) + shifts.get((arm, key), 0) * line)
                for key, level in levels.items()
            }
            frames.append(
                pd.DataFrame({"step": np.arange(STEPS), "grad_norm": norm, **series, "arm": arm, "seed": seed})
            )
            consumed.append({"arm": arm, "seed": seed, "samples": 100, "prompt_tokens": 10, "optimiser_steps": 5})
            consumed[-1] |= {"response_tokens_total": 1000, "trained_tokens": 500}
            before = draws.uniform(0.3, 0.6, 20)
            groups = pd.DataFrame({"conflict_before": before, "conflict_after": before + draws.normal(0, 0.05, 20)})
            groups = groups.assign(conflict_random=before + draws.normal(0, 0.05, 20), step=0, group=np.arange(20))
            of_run = groups.loc[groups.index.repeat(6)].assign(arm=arm, seed=seed)
            of_run["cosine"], of_run["score_gap"] = draws.normal(0, 0.3, 120), draws.integers(-4, 9, 120)
            pairs.append(of_run)
    return Evidence(
        evidence.arms,
        evidence.family,
        evidence.families,
        evidence.columns,
        evidence.level,
        evidence.base_seed,
        metrics=pd.concat(frames, ignore_index=True),
        consumed=pd.DataFrame(consumed),
        conflict=pd.concat(pairs, ignore_index=True),
    )
