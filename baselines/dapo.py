"""DAPO keeps long reasoning learning: prompts that teach nothing are drawn again, unlikely tokens may rise further than
they may fall, each token counts the same, and answers that near the budget are punished softly.

Paper: DAPO: An Open-Source LLM Reinforcement Learning System at Scale, arXiv 2503.14476, section 3.

    R_i  = ±1 + P(length_i)       P = 0 up to (1 - c) L_max, then linearly down to -1 at L_max
    A_i  = (R_i - mean(R)) / (std(R) + 1e-6)
    loss = -(1 / Σ_i |o_i|) Σ_i Σ_t min(ρ A_i, clip(ρ, 1 - ε_low, 1 + ε_high) A_i)

over groups with right and wrong answers; prompts are drawn again until a step is full of them.

Defaults: ε_low = 0.2, ε_high = 0.28 and no KL term, the paper's; at most 10 rounds of drawing, its released
configuration's. The paper punishes the last 4096 of 20480 tokens: that is a share c = 0.2 of the budget at any scale.
"""

from pydantic import Field
from torch import Tensor

from dagrpo.algorithm import (
    Advantage,
    Algorithm,
    Filter,
    Phase,
    Recipe,
    Rows,
    method,
    mixed_verdicts,
    policy_gradient,
    signed_correctness,
)
from dagrpo.config import Strict
from dagrpo.objectives.rewards import overlong_penalty


class Options(Strict):
    """Parameters of DAPO."""

    clip_low: float = Field(0.2, gt=0, lt=1, description="How far the ratio may fall below 1.")
    clip_high: float = Field(0.28, gt=0, description="How far the ratio may rise above 1.")
    rounds: int = Field(10, ge=1, description="Rounds of drawing in a step; 1 for no refill.")
    buffer: float = Field(0.2, ge=0, le=1, description="Share of the budget in which length is punished; 0 for none.")


@method("dapo", Options)
def dapo(options: Options) -> Algorithm:
    def reward(rows: Rows) -> Tensor:
        """1 or -1, less a penalty for answers that near the budget."""
        return signed_correctness(rows) + overlong_penalty(rows.length, rows.budget, options.buffer).to(rows.reward)

    recipe = Recipe(
        objective=(policy_gradient((options.clip_low, options.clip_high), rows="policy", aggregate="token"),),
        reward=reward,
        filter=Filter(mixed_verdicts, share=1.0, rounds=options.rounds),
        advantage=Advantage(scale="std1"),
    )
    return Algorithm("DAPO", (Phase(recipe),))
