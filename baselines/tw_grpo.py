"""TW-GRPO gives more weight to the positions at which the answers of a group disagree about the next token, since there
the reasoning forks; elsewhere they say the same.

Paper: Reinforcing Video Reasoning with Focused Thinking, arXiv 2505.24718, and its released code.

    D_t  = mean_i Σ_v [ exp(d) - d - 1 ],  d = mean_j log p_jt(v) - log p_it(v)      an ended row counts as uniform
    w_t  = 1 + (α - 1) (D_t - min D) / (max D - min D)
    loss = mean_t [ -min(ρ w_t A_i, clip(ρ, 1 - ε, 1 + ε) w_t A_i) ]                 over all tokens; A_i of GRPO

Defaults, the paper's: α = 1.7, no KL; ε = 0.2. Adapted from multiple choice about videos: the weighting alone. The
paper's partial credit for some of several right letters (:func:`dagrpo.objectives.rewards.partial_credit`) has nothing
to act on, for our questions have one answer.
"""

from dataclasses import replace

from pydantic import Field
from torch import Tensor

from baselines import grpo
from dagrpo.algorithm import Algorithm, GroupPass, Phase, method, policy_gradient
from dagrpo.config import Strict
from dagrpo.objectives.token_weights import divergence_weights


class Options(Strict):
    """Parameters of TW-GRPO."""

    alpha: float = Field(1.7, ge=1, description="Weight of the position at which the answers disagree most.")
    clip: float = Field(0.2, gt=0, lt=1, description="Bound on the ratio of new to old policy.")


@method("tw_grpo", Options)
def tw_grpo(options: Options) -> Algorithm:
    def weight(seen: GroupPass) -> Tensor:
        """More than 1 at the positions where the answers disagree."""
        return divergence_weights(seen.logps, seen.position, len(seen.rows.group), options.alpha)

    objective = (policy_gradient((options.clip, options.clip), rows="policy", aggregate="token"),)
    recipe = replace(grpo.recipe(grpo.Options()), objective=objective, token_weight=(weight,))
    return Algorithm("TW-GRPO", (Phase(recipe),))
