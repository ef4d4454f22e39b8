"""GRPO replaces PPO's critic by the other answers to the same prompt: an answer is pushed up by how many standard
deviations its reward lies above the group's mean.

Paper: DeepSeekMath, arXiv 2402.03300, Eq. 3 and 4, section 4.1.2.

    A_i  = (R_i - mean(R)) / (std(R) + 1e-6)            std with n - 1; 0 where all rewards of a group are equal
    loss = mean_i mean_t [ -min(ρ A_i, clip(ρ, 1 - ε, 1 + ε) A_i) + β (exp(d) - d - 1) ],  d = log π_ref - log π

Defaults: ε = 0.2 (PPO, arXiv 1707.06347). The paper has β = 0.04; training on verified rewards commonly goes without
the penalty, and so do we.
"""

from pydantic import Field

from dagrpo.algorithm import Advantage, Algorithm, Phase, Recipe, kl_to_reference, method, policy_gradient
from dagrpo.config import Strict


class Options(Strict):
    """Parameters of GRPO."""

    clip: float = Field(0.2, gt=0, lt=1, description="Bound on the ratio of new to old policy.")
    kl: float = Field(0.0, ge=0, description="Weight of the divergence from the initial policy.")


def recipe(options: Options) -> Recipe:
    """Fill the slots; a reference model is needed only with a divergence penalty."""
    objective = [policy_gradient((options.clip, options.clip), rows="policy", aggregate="sequence")]
    if options.kl > 0:
        objective.append(kl_to_reference(options.kl, rows="policy", aggregate="sequence"))
    return Recipe(objective=tuple(objective), advantage=Advantage(scale="std1"))


@method("grpo", Options)
def grpo(options: Options) -> Algorithm:
    return Algorithm("GRPO", (Phase(recipe(options)),))
