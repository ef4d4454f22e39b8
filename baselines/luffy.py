"""LUFFY puts an expert's demonstration among the policy's own answers, and shapes its token probabilities so that
tokens which the policy finds unlikely are learned too.

Paper: Learning to Reason under Off-Policy Guidance, arXiv 2504.14945, and its released training code.

    A_i  = R_i - mean(R)                                over the group's N rows, the demonstration included
    loss = -(1 / (N L_max)) Σ_i A_i Σ_t ψ_it            ψ = ρ for the policy's rows, π / (π + γ) for the demonstration

Defaults, the paper's: one of the group's rows is the demonstration, verified and rewarded like any other; γ = 0.1; no
clip, no KL. The loss is scaled by 1/N, where the released code sums over micro-batches. Its data holds no demonstration
that the verifier rejects; where ours does, it is left out of the group.
"""

from pydantic import Field

from dagrpo.algorithm import Advantage, Algorithm, Anchors, Phase, Recipe, method, policy_gradient, shaped
from dagrpo.config import Strict


class Options(Strict):
    """Parameters of LUFFY."""

    gamma: float = Field(0.1, gt=0, description="Shaping of the demonstration's token probabilities.")


@method("luffy", Options)
def luffy(options: Options) -> Algorithm:
    recipe = Recipe(
        objective=(
            policy_gradient(rows="policy", count="all"),
            shaped(options.gamma, rows="anchor", count="all"),
        ),
        anchors=Anchors(),
        advantage=Advantage(over="union", scale="none"),
    )
    return Algorithm("LUFFY", (Phase(recipe),))
