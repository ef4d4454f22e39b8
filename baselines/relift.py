"""ReLIFT reinforces its own answers, and now and then imitates the demonstrations of questions that it could not answer
at all, where reinforcement has nothing to go by.

Paper: Learning What Reinforcement Learning Can't, arXiv 2506.07527, and its released training code.

    A_i  = R_i - mean(R)
    loss = -(1 / (N L_max)) Σ_i A_i Σ_t ρ_it            every step
    loss = mean_t [ -log π(demonstration) - α H(π) ]    whenever so many demonstrations have come together

A prompt without a right answer puts its demonstration, where it has one that the verifier accepts, into a queue; the
second loss takes them from there, with an optimiser of its own (`train.sft`). The released code appears to queue
arbitrary prompts of the batch; this follows the paper's text. Defaults, the paper's: no clip, no KL, α = 0.001. Ours:
16 demonstrations, for the paper's 128 go with 128 prompts a step.
"""

from dataclasses import replace

from pydantic import Field
from torch import Tensor

from baselines import dr_grpo
from dagrpo.algorithm import (
    Algorithm,
    Interleave,
    Phase,
    Recipe,
    Rows,
    correctness,
    entropy_bonus,
    likelihood,
    method,
)
from dagrpo.config import Strict
from dagrpo.objectives.groups import group_max


class Options(Strict):
    """Parameters of ReLIFT."""

    size: int = Field(16, ge=1, description="Demonstrations of one imitation update; the paper has 128.")
    entropy: float = Field(0.001, ge=0, description="Weight of the entropy (nats) in that update.")


@method("relift", Options)
def relift(options: Options) -> Algorithm:
    imitation = Recipe(
        objective=(likelihood(rows="anchor"), entropy_bonus(options.entropy, rows="anchor")), data="demonstrations"
    )
    reinforcement = dr_grpo.recipe(dr_grpo.Options(clip=None))
    return Algorithm(
        "ReLIFT", (Phase(replace(reinforcement, interleave=Interleave(_hopeless, options.size, imitation))),)
    )


def _hopeless(rows: Rows) -> Tensor:
    return group_max(correctness(rows), rows.group) == 0
