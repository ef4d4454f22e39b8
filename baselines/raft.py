"""RAFT learns from right answers alone, each worth the same; RAFT++ adds the importance ratio and PPO's clip, since
the answers are learned from in several updates.

Papers: RAFT, arXiv 2304.06767; A Minimalist Approach to LLM Reasoning, arXiv 2504.11343, for RAFT++, and its code.

    A_i  = max(R_i, 0)            R = ±1
    loss = -(1 / Σ_i |o_i|) Σ_i Σ_t A_i log π                                      RAFT
    loss = -(1 / Σ_i |o_i|) Σ_i Σ_t min(ρ A_i, clip(ρ, 1 - ε, 1 + ε) A_i)          RAFT++

and for both, over the tokens of all answers, the mean of β (exp(d) - d - 1), d = log π_ref - log π.

Defaults: ε = 0.2 and β = 0.001, the released scripts', which count the tokens of all answers, wrong ones too, in the
denominator.
"""

from pydantic import Field
from torch import Tensor

from dagrpo.algorithm import (
    Algorithm,
    Phase,
    Recipe,
    Rows,
    Term,
    kl_to_reference,
    method,
    policy_gradient,
    signed_correctness,
    weighted_likelihood,
)
from dagrpo.config import Strict


class Options(Strict):
    """Parameters of RAFT."""

    kl: float = Field(0.001, ge=0, description="Weight of the divergence from the initial policy.")


class PlusPlusOptions(Options):
    """Parameters of RAFT++."""

    clip: float = Field(0.2, gt=0, lt=1, description="Bound on the ratio of new to old policy.")


def _recipe(term: Term, kl: float) -> Recipe:
    penalty = (kl_to_reference(kl, rows="policy", aggregate="token"),) if kl > 0 else ()
    return Recipe(objective=(term, *penalty), reward=signed_correctness, advantage=_positive)


def _positive(rows: Rows) -> Tensor:
    return rows.reward.clamp(min=0)


@method("raft", Options)
def raft(options: Options) -> Algorithm:
    term = weighted_likelihood(rows="policy", aggregate="token")
    return Algorithm("RAFT", (Phase(_recipe(term, options.kl)),))


@method("raft_plus_plus", PlusPlusOptions)
def raft_plus_plus(options: PlusPlusOptions) -> Algorithm:
    term = policy_gradient((options.clip, options.clip), rows="policy", aggregate="token")
    return Algorithm("RAFT++", (Phase(_recipe(term, options.kl)),))
