"""DISCO raises the reward of prompts from rare domains and of prompts that the policy seldom solves, so that common,
easy ones do not decide the training.

Paper: DISCO Balances the Scales: Adaptive Domain- and Difficulty-Aware Reinforcement Learning on Imbalanced Data, arXiv
2505.15074, and its released code. (DisCO, arXiv 2505.12366, is another method.)

    R_i  = correct_i w(p) / (c + 1e-5)        p: the domain's share of the problems; c: right answers in the group
    A_i  = R_i - mean(R);  loss as in Dr. GRPO + β (exp(d) - d - 1),  d = log π_ref - log π

Adapted: the domain is the family (subject or source) of the problem.

Defaults: w(p) = log(1 + 1/p), the paper's first form; β = 0.001, the released script's; ε = 0.2, as GRPO.
"""

from dataclasses import replace

from pydantic import Field
from torch import Tensor

from baselines import dr_grpo
from dagrpo.algorithm import Algorithm, Phase, Rows, correctness, kl_to_reference, method
from dagrpo.config import Strict
from dagrpo.objectives.rewards import DomainWeight, difficulty_weight, domain_weight


class Options(Strict):
    """Parameters of DISCO."""

    domain: DomainWeight = Field("log", description="Weight of a domain: log(1 + 1/p), its square, or 1/p.")
    kl: float = Field(0.001, ge=0, description="Weight of the divergence from the initial policy.")


@method("disco_domain", Options)
def disco_domain(options: Options) -> Algorithm:
    def reward(rows: Rows) -> Tensor:
        """1 if correct, more for rare domains and for prompts that are seldom solved."""
        right = correctness(rows)
        return right * domain_weight(rows.domain_share, options.domain) * difficulty_weight(right, rows.group)

    recipe = replace(dr_grpo.recipe(dr_grpo.Options()), reward=reward)
    if options.kl > 0:
        recipe = replace(recipe, objective=(*recipe.objective, kl_to_reference(options.kl, rows="policy")))
    return Algorithm("DISCO (domains)", (Phase(recipe),))
