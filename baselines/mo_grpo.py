"""Multi-objective GRPO adds up several rewards by fixed weights, and is then GRPO on the sum.

Paper: Optimizing Safe and Aligned Language Generation: A Multi-Objective GRPO Approach, arXiv 2503.21819.

    R_i  = Σ_m w_m R_im
    A_i  = (R_i - mean(R)) / (std(R) + 1e-6);  the loss is GRPO's

Adapted: a trained regressor gives the paper's four rewards (politeness, meaning, use, safety); here the three are a
right answer, any answer at all, and the share of the budget that the response left unused.

Defaults: w = (0.6, 0.2, 0.2) is our choice, for the paper states no weights; GRPO's own for the rest.
"""

from dataclasses import replace

from pydantic import Field
from torch import Tensor

from baselines import grpo
from dagrpo.algorithm import Algorithm, Phase, Rows, aspects, method
from dagrpo.config import Strict
from dagrpo.objectives.rewards import weighted_sum


class Options(Strict):
    """Weights of the rewards."""

    correct: float = Field(0.6, gt=0, description="Weight of a right answer.")
    answered: float = Field(0.2, ge=0, description="Weight of giving an answer.")
    brevity: float = Field(0.2, ge=0, description="Weight of the share of the budget that is left.")


@method("mo_grpo", Options)
def mo_grpo(options: Options) -> Algorithm:
    def reward(rows: Rows) -> Tensor:
        """The weighted sum of a right answer, any answer at all, and brevity."""
        return weighted_sum(aspects(rows), (options.correct, options.answered, options.brevity))

    return Algorithm("MO-GRPO", (Phase(replace(grpo.recipe(grpo.Options()), reward=reward)),))
