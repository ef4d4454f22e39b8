"""DaGRPO compares a prompt's good and bad answers only where a fine-grained score tells them apart by a margin, and
adds an expert's demonstration to each prompt, so that hard prompts have something to learn from.

Paper: DaGRPO: Rectifying Gradient Conflict in Reasoning via Distinctiveness-Aware Group Relative Policy Optimization,
arXiv 2512.06337: the mask is Eq. 8 and 9, the rectified gradient Eq. 10, the mixed group Eq. 11 to 13.

    A_i  = R_i - mean(R)                                over the group's N rows, the anchor included
    λ_j  = 1[ S_j - max_{A_k < 0} S_k >= δ ]            for A_j > 0
    λ_k  = 1[ min_{A_j > 0} S_j - S_k >= δ ]            for A_k < 0
    loss = -(1 / (N L_max)) Σ_i λ_i A_i Σ_t ψ_it        ψ = ρ for the policy's rows, π / (π + γ) for the anchor

A masked row still counts in N, and A is not recomputed. δ = 3 on the score's scale of 1 to 10 is the paper's. So are,
in its implementation, advantages without a deviation, a constant length divisor and no KL term. The paper does not
state the number of anchors, when they join and the surrogate of their tokens: those follow LUFFY (arXiv 2504.14945),
so that δ = -inf is LUFFY, and δ = -inf without anchors is Dr. GRPO without a clip.
"""

import math
from typing import Literal

from pydantic import Field
from torch import Tensor

from dagrpo.algorithm import (
    Advantage,
    Algorithm,
    Anchors,
    Phase,
    Recipe,
    Rows,
    WeightFn,
    method,
    policy_gradient,
    shaped,
)
from dagrpo.config import Strict
from dagrpo.objectives.gates import margin_mask


class Options(Strict):
    """Parameters of DaGRPO."""

    delta: float = Field(3.0, lt=math.inf, description="Margin between scores, 1 to 10; -.inf masks nothing.")
    anchors: Literal["always", "all_wrong", "none"] = Field("always", description="Prompts that get a demonstration.")
    anchors_within_group: bool = Field(True, description="The anchor is one of the group's rows, not an extra one.")
    drop_rejected_anchor: bool = Field(True, description="Leave out demonstrations that the verifier rejects.")
    gamma: float = Field(0.1, gt=0, description="Shaping of the anchor's token probabilities.")
    clip: float | None = Field(None, gt=0, lt=1, description="Bound on the ratio of the policy's rows.")
    scale: Literal["none", "std0", "std1"] = Field("none", description="Deviation that divides the advantage.")


@method("dagrpo", Options)
def dagrpo(options: Options) -> Algorithm:
    """Fill the slots. Without a margin there is no mask, so no score is asked for."""
    masked, anchored = options.delta > -math.inf, options.anchors != "none"
    clip = None if options.clip is None else (options.clip, options.clip)
    objective = [policy_gradient(clip, rows="policy", count="all")]
    if anchored:
        objective.append(shaped(options.gamma, rows="anchor", count="all"))
    recipe = Recipe(
        objective=tuple(objective),
        anchors=_anchors(options),
        scores="mixed" if masked else "never",
        advantage=Advantage(over="union", scale=options.scale),
        weight=(_margin(options.delta),) if masked else (),
    )
    return Algorithm("DaGRPO" if anchored else "DaGRPO w/o anchors", (Phase(recipe),))


def _anchors(options: Options) -> Anchors | None:
    if options.anchors == "none":
        return None
    return Anchors(
        when=options.anchors, within_group=options.anchors_within_group, drop_rejected=options.drop_rejected_anchor
    )


def _margin(delta: float) -> WeightFn:
    def weight(rows: Rows) -> Tensor:
        return margin_mask(rows.advantage, rows.score, rows.group, delta)

    return weight
