"""Reward-weighted regression imitates the policy's own answers, the right ones more than the wrong ones.

Papers: Peters and Schaal, 2007; for language models arXiv 2404.14367, where it stands for methods without a
push against wrong answers.

    w_i  = exp(R_i / β) / mean(exp(R / β))              the mean over the group
    loss = -Σ_i w_i Σ_t log π(o_it) / Σ_i |o_i|

Defaults, ours: β = 1, where a right answer weighs e times a wrong one; the mean is over all tokens of the step.
"""

from pydantic import Field
from torch import Tensor

from dagrpo.algorithm import Algorithm, Phase, Recipe, UpdateContext, likelihood, method
from dagrpo.config import Strict
from dagrpo.objectives.advantages import likelihood_weight


class Options(Strict):
    """Parameters of reward-weighted regression."""

    beta: float = Field(1.0, gt=0, description="Temperature: a small one leaves the right answers alone.")


@method("rwr", Options)
def rwr(options: Options) -> Algorithm:
    def weight(context: UpdateContext) -> Tensor:
        """exp(R / β) over its mean in the group."""
        rows = context.rows
        return likelihood_weight(rows.reward, rows.group, ~rows.anchor, options.beta)

    return Algorithm("RWR", (Phase(Recipe(objective=(likelihood(rows="policy", coefficient=weight),))),))
