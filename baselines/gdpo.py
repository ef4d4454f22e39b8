"""GDPO standardises each of several rewards by itself before it adds them up, so that answers which differ in one of
them do not fall together in the sum.

Paper: GDPO, arXiv 2601.05242, and its released code.

    B_i  = Σ_m w_m (R_im - mean(R_m)) / (std(R_m) + 1e-4)       over the group
    A_i  = (B_i - mean(B)) / (std(B) + 1e-4)                    over the step;  the loss is GRPO's

Adapted: the rewards are a right answer, any answer at all, and the share of the budget that the response left unused.

Defaults: weight 1 for the first two, as the paper weighs correctness and format; brevity is left out, our choice, since
after standardising it would pull as hard as a right answer. GRPO's own for the rest.
"""

from dataclasses import replace

from pydantic import Field
from torch import Tensor

from baselines import grpo
from dagrpo.algorithm import Algorithm, Phase, Rows, aspects, method
from dagrpo.config import Strict
from dagrpo.objectives.advantages import decoupled_advantage


class Options(Strict):
    """Weights of the rewards, each standardised in its group."""

    correct: float = Field(1.0, gt=0, description="Weight of a right answer.")
    answered: float = Field(1.0, ge=0, description="Weight of giving an answer.")
    brevity: float = Field(0.0, ge=0, description="Weight of the share of the budget that is left.")


@method("gdpo", Options)
def gdpo(options: Options) -> Algorithm:
    weights = (options.correct, options.answered, options.brevity)

    def advantage(rows: Rows) -> Tensor:
        """Each reward standardised in its group, added up, standardised over the step."""
        return decoupled_advantage(aspects(rows), rows.group, ~rows.anchor, weights)

    return Algorithm("GDPO", (Phase(replace(grpo.recipe(grpo.Options()), advantage=advantage)),))
