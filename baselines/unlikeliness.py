"""The unlikeliness reward pays more for right answers that the policy found unlikely, against GRPO's habit of
sharpening what is likely already and losing the rest.

Paper: Rewarding the Unlikely, arXiv 2506.02355, and its released code.

    R_i  = correct_i (1 - β rank_i / G)       rank 0 for the answer with the least mean log-probability of its group
    A_i  = (R_i - mean(R)) / (std(R) + 1e-6);  the loss is GRPO's, with its KL term

Groups that are right or wrong as a whole are dropped, as in the released code; the rollouts of a step are learned from
twice, the paper's second remedy. Answers equally likely (to 1e-4 nats) share the lower rank.

Defaults: β = 0.25, KL 0.1, two epochs, the paper's (on Lean proofs, with groups of 32).
"""

from dataclasses import replace

from pydantic import Field
from torch import Tensor

from baselines import grpo
from dagrpo.algorithm import Algorithm, Filter, Phase, Rows, correctness, method, mixed_verdicts
from dagrpo.config import Strict
from dagrpo.objectives.groups import group_sum
from dagrpo.objectives.rewards import likelihood_rank


class Options(Strict):
    """Parameters of the unlikeliness reward."""

    beta: float = Field(0.25, ge=0, le=1, description="What the likeliest answer loses of its reward, at most.")
    kl: float = Field(0.1, ge=0, description="Weight of the divergence from the initial policy.")
    epochs: int = Field(2, ge=1, description="How often the rollouts of a step are learned from.")


@method("unlikeliness", Options)
def unlikeliness(options: Options) -> Algorithm:
    def reward(rows: Rows) -> Tensor:
        """1 if correct, less for the answers that the policy found likely."""
        right = correctness(rows)
        share = likelihood_rank(rows.sampled_logp, rows.group) / group_sum(right.new_ones(len(right)), rows.group)
        return right * (1 - options.beta * share)

    recipe = replace(
        grpo.recipe(grpo.Options(kl=options.kl)),
        reward=reward,
        filter=Filter(mixed_verdicts),
        epochs=options.epochs,
    )
    return Algorithm("Unlikeliness", (Phase(recipe),))
