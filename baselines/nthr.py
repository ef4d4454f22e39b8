"""NTHR penalises a wrong answer less at the tokens that right answers of the same group depend on, so that pushing it
down does not take the right ones down with it.

Paper: On the Effect of Negative Gradient in Group Relative Deep Reinforcement Optimization, arXiv 2505.18830.

    s_t  = Σ_{t' of right rows} <g_t, g_t'> <h_t, h_t'>,   g = onehot(token) - π_old,  h the last hidden state
    τ    = β min_{right rows i} mean_{t of i} s_t
    w_t  = η where row i is wrong and s_t > τ, else 1
    loss = mean_i mean_t [ -min(ρ w_t A_i, clip(ρ, 1 - ε, 1 + ε) w_t A_i) ]          A_i of GRPO

It acts in groups with right and wrong rows; g is restricted to the tokens that the group holds. Defaults: β = 1 (the
paper's); η = 2 |1/2 - p|, p the share of right rows (a public implementation's; the paper's analysis has 0); ε = 0.2.
"""

from dataclasses import replace

from pydantic import Field
from torch import Tensor

from baselines import grpo
from dagrpo.algorithm import Algorithm, GroupPass, Phase, method
from dagrpo.config import Strict
from dagrpo.objectives.token_weights import influence, spare_helpful_tokens


class Options(Strict):
    """Parameters of NTHR."""

    beta: float = Field(1.0, description="Factor of the threshold.")
    eta: float | None = Field(None, ge=0, le=1, description="What is left of the penalty; null for 2 |1/2 - p|.")
    clip: float = Field(0.2, gt=0, lt=1, description="Bound on the ratio of new to old policy.")


@method("nthr", Options)
def nthr(options: Options) -> Algorithm:
    def weight(seen: GroupPass) -> Tensor:
        """Less than 1 at the tokens of wrong rows that right rows depend on."""
        correct = seen.rows.correct.to(seen.row.device)
        eta = abs(1 - 2 * float(correct.double().mean())) if options.eta is None else options.eta
        strength = influence(seen.token, seen.logps, seen.hidden, correct[seen.row])
        return spare_helpful_tokens(strength, seen.row, correct[seen.row], options.beta, eta)

    recipe = replace(grpo.recipe(grpo.Options(clip=options.clip)), token_weight=(weight,))
    return Algorithm("NTHR", (Phase(recipe),))
