"""SRFT imitates and reinforces in one stage, and lets the policy's entropy set the balance: the less certain it is, the
less it imitates, and the more its own right answers count.

Paper: SRFT, A Single-Stage Method with Supervised and Reinforcement Fine-Tuning, arXiv 2506.19767.

    A_i  = (R_i - mean(R)) / (std(R) + 1e-6)            R_i = 1 or -1; over the group, the demonstration included
    loss = 0.5 exp(-H) mean_t [ -log π(demonstration) ]
         + mean_t [ -min(ρ A, clip(ρ, 1 - ε, 1 + ε) A) ]            of demonstrations; ρ = π, as if their author had 1
         + 0.1 exp(H) mean_t [ -log π(right answer) ] + mean_t [ log π(wrong answer) ]

H is the mean entropy (nats) of the policy's tokens, here as they were sampled, and carries no gradient. Defaults: 0.5,
0.1 and the sign of H in the third line are those of the conference version; notes on an earlier one have exp(-H) there.
Our choice: each mean is over all tokens of its own rows; ε = 0.2. Where the author's probability is known, ρ has it.
"""

import torch
from pydantic import Field
from torch import Tensor

from dagrpo.algorithm import (
    Advantage,
    Algorithm,
    Anchors,
    Phase,
    Recipe,
    Rows,
    UpdateContext,
    correctness,
    likelihood,
    method,
    policy_gradient,
)
from dagrpo.config import Strict


class Options(Strict):
    """Parameters of SRFT."""

    imitation: float = Field(0.5, ge=0, description="Weight of imitating demonstrations, times exp(-H).")
    exploration: float = Field(0.1, ge=0, description="Weight of the policy's right answers, times exp(H).")
    clip: float = Field(0.2, gt=0, lt=1, description="Bound on the ratio at the demonstrations' tokens.")


@method("srft", Options)
def srft(options: Options) -> Algorithm:
    recipe = Recipe(
        objective=(
            likelihood(rows="anchor", coefficient=lambda context: options.imitation * torch.exp(-_entropy(context))),
            policy_gradient((options.clip, options.clip), rows="anchor", aggregate="token"),
            likelihood(
                rows=lambda rows: rows.correct & ~rows.anchor,
                coefficient=lambda context: options.exploration * torch.exp(_entropy(context)),
            ),
            likelihood(rows=lambda rows: ~rows.correct & ~rows.anchor, coefficient=-1.0),
        ),
        anchors=Anchors(),
        reward=_signed,
        advantage=Advantage(over="union", scale="std1"),
    )
    return Algorithm("SRFT", (Phase(recipe),))


def _signed(rows: Rows) -> Tensor:
    return 2 * correctness(rows) - 1


def _entropy(context: UpdateContext) -> Tensor:
    """The mean entropy of the tokens that the policy drew (nats); 0 where it drew none."""
    drawn = ~context.rows.anchor & (context.rows.length > 0)
    length = context.rows.length[drawn]
    return (length * context.rows.entropy[drawn]).sum() / length.sum().clamp(min=1)
