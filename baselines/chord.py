"""CHORD makes imitation a weighted part of reinforcement: one number shifts the loss from demonstrations to the
policy's own answers, and each demonstrated token counts by how undecided the policy is about it.

Paper: On-Policy RL Meets Off-Policy Experts, arXiv 2508.11408, and its released code.

    A_i  = (R_i - mean(R)) / (std(R) + 1e-6)            over the policy's rows
    loss = (1 - μ) mean_t [ -min(ρ A_i, clip(ρ, 1 - ε, 1 + ε) A_i) ]  +  μ mean_t [ -φ log π(demonstration) ]
    φ    = π (1 - π), without gradient

Both means are over tokens; the demonstrations are of other prompts than the answers (`train.sft_rows` a step). μ rises
from 0 to its peak, falls to its valley along a half cosine, and stays there. Defaults: the code's, μ = 0.1 throughout;
the paper also has μ from 0.9 to 0.05. ε = 0.2. Ours: the two lengths are shares of the phase, not numbers of steps.
"""

from typing import Self

from pydantic import Field, model_validator

from dagrpo.algorithm import Advantage, Algorithm, Phase, Recipe, Term, UpdateContext, method, policy_gradient
from dagrpo.config import Strict
from dagrpo.objectives.schedules import rise_and_fall
from dagrpo.objectives.token_losses import undecided_likelihood


class Options(Strict):
    """Parameters of CHORD."""

    peak: float = Field(0.1, ge=0, le=1, description="Largest share of imitation in the loss.")
    valley: float = Field(0.1, ge=0, le=1, description="Share of imitation at the end.")
    warmup: float = Field(0.0, ge=0, le=1, description="Share of the steps in which it rises from 0 to the peak.")
    decay: float = Field(0.0, ge=0, le=1, description="Share of the steps in which it then falls to the valley.")
    clip: float = Field(0.2, gt=0, lt=1, description="Bound on the ratio of new to old policy.")

    @model_validator(mode="after")
    def _falls(self) -> Self:
        if self.peak != self.valley and self.decay == 0:
            raise ValueError("peak is never left without a decay; give decay a share of the steps")
        return self


@method("chord", Options)
def chord(options: Options) -> Algorithm:
    def imitation(context: UpdateContext) -> float:
        warmup, decay = options.warmup * context.steps, options.decay * context.steps
        return rise_and_fall(context.step, warmup, decay, options.peak, options.valley)

    recipe = Recipe(
        objective=(
            policy_gradient(
                (options.clip, options.clip),
                rows="policy",
                aggregate="token",
                coefficient=lambda context: 1 - imitation(context),
            ),
            Term(
                lambda tokens: undecided_likelihood(tokens.logp),
                rows="anchor",
                aggregate="token",
                weighted=False,
                coefficient=imitation,
            ),
        ),
        data="both",
        advantage=Advantage(over="policy", scale="std1"),
    )
    return Algorithm("CHORD", (Phase(recipe),))
