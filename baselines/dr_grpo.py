"""Dr. GRPO is GRPO without its two biases: no division by the standard deviation, which favours prompts that are too
easy or too hard, and none by the answer's length, which favours long wrong answers.

Paper: Understanding R1-Zero-Like Training, arXiv 2503.20783, section 3.2.

    A_i  = R_i - mean(R)
    loss = -(1 / (N L_max)) Σ_i Σ_t min(ρ A_i, clip(ρ, 1 - ε, 1 + ε) A_i)

Default: ε = 0.2, as GRPO; null removes the clip. No KL term.
"""

from pydantic import Field

from dagrpo.algorithm import Advantage, Algorithm, Phase, Recipe, method, policy_gradient
from dagrpo.config import Strict


class Options(Strict):
    """Parameters of Dr. GRPO."""

    clip: float | None = Field(0.2, gt=0, lt=1, description="Bound on the ratio of new to old policy; null for none.")


def recipe(options: Options) -> Recipe:
    """Fill the slots."""
    clip = None if options.clip is None else (options.clip, options.clip)
    return Recipe(objective=(policy_gradient(clip, rows="policy"),), advantage=Advantage(scale="none"))


@method("dr_grpo", Options)
def dr_grpo(options: Options) -> Algorithm:
    return Algorithm("Dr. GRPO", (Phase(recipe(options)),))
