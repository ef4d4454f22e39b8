"""CISPO caps the importance weight of a token instead of dropping the token, so that rare words at which reasoning
turns keep their gradient.

Paper: MiniMax-M1, arXiv 2506.13585, Eq. 4 and 5.

    loss = -(1 / Σ_i |o_i|) Σ_i Σ_t sg(min(ρ, 1 + ε_high)) A_i log π            A_i as in GRPO, sg: no gradient

Defaults: no lower bound and no KL term, the paper's. It does not state ε_high; 0.2 is that of verl's example.
`clip_share` counts the tokens whose weight is capped.
"""

from pydantic import Field

from dagrpo.algorithm import Advantage, Algorithm, Phase, Recipe, capped_weight, method
from dagrpo.config import Strict


class Options(Strict):
    """Parameters of CISPO."""

    clip_high: float = Field(0.2, ge=0, description="The weight is capped at 1 plus this.")


@method("cispo", Options)
def cispo(options: Options) -> Algorithm:
    recipe = Recipe(
        objective=(capped_weight(options.clip_high, rows="policy", aggregate="token"),),
        advantage=Advantage(scale="std1"),
    )
    return Algorithm("CISPO", (Phase(recipe),))
