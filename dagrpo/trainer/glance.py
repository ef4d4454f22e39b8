"""A glance at conflict while a run goes on: one mixed group of a step, by the gradient of the last layer."""

from dataclasses import replace

import torch

from dagrpo import seeds
from dagrpo.algorithm import Recipe
from dagrpo.diagnostics.conflict import conflict_index
from dagrpo.diagnostics.gradients import Sketch, flat, gram, rollout_gradients
from dagrpo.policy.checkpoint import Policy
from dagrpo.signals import ShouldStop
from dagrpo.trainer.collect import Step
from dagrpo.trainer.credit import mixed_rows

_SMALL = 2**24
_PROJECTION = 4096


def glance(
    policy: Policy, step: Step, recipe: Recipe, temperature: float, seed: int, number: int, should_stop: ShouldStop
) -> dict[str, float]:
    """Measure the conflict of one mixed group, drawn by seed and step number, before and after its weights.

    Rows of the gradients of the mean log-probability (DaGRPO, arXiv 2512.06337, section 3) of the last layer under
    the policy before its update; projected at random where they are too many to keep.

    Returns:
        ``conflict/before`` and ``conflict/after`` in [0, 1]; empty where no group is mixed, and without the latter
        where the weights leave nothing.

    Raises:
        Interrupted: between two rows.
    """
    rows = replace(step.rows, advantage=recipe.advantage(step.rows))
    mixed = rows.group[mixed_rows(rows)].unique().tolist()
    if not mixed:
        return {}
    chosen = mixed[seeds.key(seed, "glance", number) % len(mixed)]
    group, mine = step.groups[chosen], rows.group == chosen
    hidden = policy.model.get_output_embeddings().weight.shape[1]
    read = flat if policy.model.vocab_size * hidden < _SMALL else Sketch(_PROJECTION)
    gradients = rollout_gradients(
        policy.model,
        group.prompt_tokens,
        [rollout.tokens for rollout in group.rollouts],
        temperature,
        read,
        only_last_layer=True,
        should_stop=should_stop,
    )
    products = gram(gradients)
    coefficients = torch.stack([rows.advantage[mine], (step.rows.weight * step.rows.advantage)[mine]])
    before, after = conflict_index(products, coefficients).tolist()
    figures = {"conflict/before": before, "conflict/after": after}
    return {name: value for name, value in figures.items() if value == value}
