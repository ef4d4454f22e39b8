"""Group invariant learning finds the division of the problems on which the policy fares most unequally, and gives up
return to even it out.

Paper: Improving Generalization of Alignment with Human Preferences through Group Invariant Learning, arXiv 2310.11971.

    J    = mean(R) - β Var_g(J_g)                       J_g: mean reward of group g, high or low
    loss = that of GRPO, with A_i ∂J/∂R_i in the place of A_i, and η p(high) on the divergence from the initial policy

Defaults, ours: β = 0.1, η = 0.04 (GRPO's). Adapted: the paper infers groups by a classifier on the critic's states;
here the adversary may set a threshold on the accuracy of a problem when it was met last, or now where it is new.
"""

import torch
from pydantic import Field
from torch import Tensor

from baselines import grpo
from dagrpo.algorithm import Advantage, Algorithm, Phase, Recipe, Rows, UpdateContext, kl_to_reference, method
from dagrpo.config import Strict
from dagrpo.objectives.group_weights import invariance_factor, returns_split
from dagrpo.objectives.groups import group_sum


class Options(Strict):
    """Parameters of group invariant learning."""

    beta: float = Field(0.1, ge=0, description="Weight of the variance of the groups' returns.")
    kl: float = Field(0.04, ge=0, description="Weight of the divergence in the group of the higher return.")
    clip: float = Field(0.2, gt=0, lt=1, description="Bound on the ratio of new to old policy.")


@method("group_invariant", Options)
def group_invariant(options: Options) -> Algorithm:
    def advantage(rows: Rows) -> Tensor:
        """GRPO's, times what a reward is worth to the return less the variance over groups."""
        return Advantage(scale="std1")(rows) * invariance_factor(rows.reward, high(rows), options.beta)

    objective = grpo.recipe(grpo.Options(clip=options.clip)).objective
    if options.kl > 0:
        objective += (
            kl_to_reference(lambda context: divergence(context, options.kl), rows="policy", aggregate="sequence"),
        )
    return Algorithm("Group invariant", (Phase(Recipe(objective=objective, advantage=advantage, history=True)),))


def high(rows: Rows) -> Tensor:
    """p(high): (N,)."""
    now = group_sum(rows.reward, rows.group) / group_sum(torch.ones_like(rows.reward), rows.group)
    return returns_split(torch.where(rows.past_accuracy.isnan(), now, rows.past_accuracy), rows.reward)


def divergence(context: UpdateContext, kl: float) -> Tensor:
    """The weight of each row's divergence: (N,)."""
    return kl * high(context.rows)
