"""GPG goes back to the plain policy gradient, without ratio, clip or reference model, and scales it up by the share of
prompts that give none.

Paper: GPG: A Simple and Strong Reinforcement Learning Baseline for Model Reasoning, arXiv 2504.02546, and its code.

    A_i  = R_i - mean(R)
    loss = -(α / Σ_i |o_i|) Σ_i Σ_t A_i log π        α = B / (B - M): M of the B prompts have equal rewards

Prompts are drawn again until a share β of the step's groups has both verdicts; those that have not stay in the step.

Defaults: β = 0.6, the paper's best; at most 20 rounds of drawing and no division by the deviation, the released code's.
α is counted over the prompts of an update.
"""

from pydantic import Field

from dagrpo.algorithm import (
    Advantage,
    Algorithm,
    Filter,
    Phase,
    Recipe,
    UpdateContext,
    method,
    mixed_verdicts,
    weighted_likelihood,
)
from dagrpo.config import Strict
from dagrpo.objectives.groups import group_differs


class Options(Strict):
    """Parameters of GPG."""

    share: float = Field(0.6, ge=0, le=1, description="Share of valid groups that ends the drawing; 0 for no refill.")
    rounds: int = Field(20, ge=1, description="Rounds of drawing in a step, at most.")


@method("gpg", Options)
def gpg(options: Options) -> Algorithm:
    recipe = Recipe(
        objective=(weighted_likelihood(rows="policy", aggregate="token", coefficient=_alpha),),
        filter=Filter(mixed_verdicts, drop=False, share=options.share, rounds=options.rounds),
        advantage=Advantage(scale="none"),
    )
    return Algorithm("GPG", (Phase(recipe),))


def _alpha(context: UpdateContext) -> float:
    """B / (B - M), 1 where no group is valid."""
    rows = context.rows
    valid = rows.group[group_differs(rows.reward, rows.group, ~rows.anchor)]
    return len(rows.group.unique()) / len(valid.unique()) if len(valid) else 1.0
