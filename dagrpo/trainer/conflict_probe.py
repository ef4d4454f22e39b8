"""A conflict probe while a run goes on: one mixed group of a step, by the gradient of the last layer.

Below the last layer nothing but a forward pass is computed, and the processes of a run share the group's rows out.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dagrpo import seeds
from dagrpo.algorithm import Recipe
from dagrpo.diagnostics.conflict import conflict_index
from dagrpo.diagnostics.gradients import PROJECTION, SMALL, Sketch, flat, gram, rollout_gradients
from dagrpo.policy.checkpoint import Policy
from dagrpo.processes.signals import ShouldStop
from dagrpo.processes.world import World
from dagrpo.trainer.collect import Step
from dagrpo.trainer.credit import mixed_rows


def conflict_probe(
    policy: Policy,
    step: Step,
    recipe: Recipe,
    temperature: float,
    seed: int,
    number: int,
    should_stop: ShouldStop,
    world: World,
) -> dict[str, float]:
    """Measure the conflict of one mixed group, drawn by seed and step number, before and after its weights.

    Rows of the gradients of the mean log-probability (DaGRPO, arXiv 2512.06337, section 3) of the last layer under
    the policy before its update; projected at random where they are too many to keep.

    Args:
        world: the processes that share the rows out, all of which call this with the same policy and step.

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
    read = flat if policy.model.get_output_embeddings().weight.numel() < SMALL else Sketch(PROJECTION)

    def gradients(responses: Sequence[Sequence[int]]) -> list[Tensor]:
        if not responses:
            return []
        found = rollout_gradients(
            policy.model,
            group.prompt_tokens,
            responses,
            temperature,
            read,
            part="last_layer",
            should_stop=should_stop,
        )
        return list(found.cpu())

    products = gram(torch.stack(world.spread(gradients, [rollout.tokens for rollout in group.rollouts])))
    coefficients = torch.stack([rows.advantage[mine], (step.rows.weight * step.rows.advantage)[mine]])
    before, after = conflict_index(products, coefficients).tolist()
    figures = {"conflict/before": before, "conflict/after": after}
    return {name: value for name, value in figures.items() if value == value}
