"""GSPO weighs and clips whole answers by the geometric mean of their tokens' ratios, for it is whole answers that are
rewarded, and the ratio of a single token is noise.

Paper: Group Sequence Policy Optimization, arXiv 2507.18071, Eq. 5 to 7.

    s_i  = exp(mean_t log ρ_it)
    loss = -mean_i min(s_i A_i, clip(s_i, 1 - ε_low, 1 + ε_high) A_i)       A_i as in GRPO

Defaults, the paper's: ε_low = 3e-4, ε_high = 4e-4, no KL term. It makes four updates on the rollouts of a step
(`train.updates`); with one, s_i is 1 and the gradient that of GRPO. `clip_share` counts the tokens of clipped answers.
"""

from pydantic import Field

from dagrpo.algorithm import Advantage, Algorithm, Phase, Recipe, method, policy_gradient
from dagrpo.config import Strict


class Options(Strict):
    """Parameters of GSPO."""

    clip_low: float = Field(3e-4, gt=0, lt=1, description="How far an answer's ratio may fall below 1.")
    clip_high: float = Field(4e-4, gt=0, description="How far an answer's ratio may rise above 1.")


@method("gspo", Options)
def gspo(options: Options) -> Algorithm:
    clip = (options.clip_low, options.clip_high)
    recipe = Recipe(
        objective=(policy_gradient(clip, level="sequence", rows="policy", aggregate="sequence"),),
        advantage=Advantage(scale="std1"),
    )
    return Algorithm("GSPO", (Phase(recipe),))
