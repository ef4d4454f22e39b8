"""RL with SFT loss learns from its own answers by their rewards, and at the same time imitates a demonstration of each
prompt; the demonstration takes no part in the comparison of answers.

Paper: the baseline "RL w/ SFT Loss" of LUFFY, arXiv 2504.14945, as its released training code has it.

    A_i  = R_i - mean(R)                                over the policy's rows only
    loss = -(1 / (N L_max)) Σ_i A_i Σ_t ρ_it  -  c Σ log π(demonstration) / #tokens of the demonstrations

N counts the policy's rows. Defaults, LUFFY's: one of the group's rows is the demonstration, c = 1, no clip, no KL.
A demonstration that the verifier rejects is left out.
"""

from pydantic import Field

from dagrpo.algorithm import Advantage, Algorithm, Anchors, Phase, Recipe, likelihood, method, policy_gradient
from dagrpo.config import Strict


class Options(Strict):
    """Parameters of RL with SFT loss."""

    coefficient: float = Field(1.0, gt=0, description="Weight of the likelihood of the demonstrations.")


@method("rl_with_sft_loss", Options)
def rl_with_sft_loss(options: Options) -> Algorithm:
    recipe = Recipe(
        objective=(policy_gradient(rows="policy"), likelihood(rows="anchor", coefficient=options.coefficient)),
        anchors=Anchors(),
        advantage=Advantage(over="policy", scale="none"),
    )
    return Algorithm("RL w/ SFT loss", (Phase(recipe),))
