"""Reinforce-Rej is REINFORCE with PPO's clip and no baseline, on prompts that are neither always nor never solved:
most of GRPO's gain lies in leaving those out, its authors find.

Paper: A Minimalist Approach to LLM Reasoning, arXiv 2504.11343, and its released code.

    A_i  = R_i = ±1               groups with equal rewards are dropped
    loss = -(1 / Σ_i |o_i|) Σ_i Σ_t min(ρ A_i, clip(ρ, 1 - ε, 1 + ε) A_i) + β (exp(d) - d - 1),  d = log π_ref - log π

Defaults: ε = 0.2 and β = 0.001, the released scripts'.
"""

from pydantic import Field
from torch import Tensor

from dagrpo.algorithm import (
    Algorithm,
    Filter,
    Phase,
    Recipe,
    Rows,
    kl_to_reference,
    method,
    mixed_verdicts,
    policy_gradient,
    signed_correctness,
)
from dagrpo.config import Strict


class Options(Strict):
    """Parameters of Reinforce-Rej."""

    clip: float = Field(0.2, gt=0, lt=1, description="Bound on the ratio of new to old policy.")
    kl: float = Field(0.001, ge=0, description="Weight of the divergence from the initial policy.")


@method("reinforce_rej", Options)
def reinforce_rej(options: Options) -> Algorithm:
    objective = [policy_gradient((options.clip, options.clip), rows="policy", aggregate="token")]
    if options.kl > 0:
        objective.append(kl_to_reference(options.kl, rows="policy", aggregate="token"))
    recipe = Recipe(
        objective=tuple(objective),
        reward=signed_correctness,
        filter=Filter(mixed_verdicts),
        advantage=_without_baseline,
    )
    return Algorithm("Reinforce-Rej", (Phase(recipe),))


def _without_baseline(rows: Rows) -> Tensor:
    return rows.reward
