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

Options that the paper does not have, for ablations: a soft gate, λ = sigmoid(slope (gap - δ)); a pairwise one, λ = the
share of a row's pairs that reach δ; a gate on distance, λ = 1[ 1 - max_k Jaccard(o_i, o_k) >= δ ] over n-grams of
tokens, which needs no score; `two_sided`, which drops a group with an empty side; `recentred`, which takes the baseline
anew over the rows that are left.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor

from dagrpo.algorithm import (
    Advantage,
    Algorithm,
    Anchors,
    Phase,
    Recipe,
    Rows,
    Term,
    WeightFn,
    entropy_bonus,
    method,
    policy_gradient,
    shaped,
    weighted_likelihood,
)
from dagrpo.config import Strict
from dagrpo.objectives import gates


class Options(Strict):
    """Parameters of DaGRPO. A null is filled in with the default of the gate or surrogate that reads it."""

    gate: Literal["margin", "soft", "pairwise", "distance"] = Field("margin", description="How λ follows from the gap.")
    delta: float | None = Field(
        None, lt=math.inf, description="Margin: 3 between scores (1 to 10), 0.3 between distances; -.inf: no gate."
    )
    slope: float | None = Field(None, gt=0, description="Of the soft gate, for each unit of the score (2).")
    ngram: int | None = Field(None, ge=1, description="Tokens of an n-gram of the distance gate (2).")
    two_sided: bool = Field(False, description="Drop a group whole where one of its sides is masked whole.")
    recentred: bool = Field(False, description="Take the baseline anew over the rows that are left.")
    on_missing_score: Literal["keep", "drop"] = Field("keep", description="A row that could not be scored.")
    anchors: Literal["always", "all_wrong", "none"] = Field("always", description="Prompts that get a demonstration.")
    anchor_count: int = Field(1, ge=1, description="Copies of the demonstration in a group.")
    anchors_within_group: bool = Field(True, description="The anchor is one of the group's rows, not an extra one.")
    drop_rejected_anchor: bool = Field(True, description="Leave out demonstrations that the verifier rejects.")
    anchor_surrogate: Literal["shaped", "unit", "ratio"] = Field(
        "shaped", description="π / (π + gamma); log π (Eq. 13 by the letter); π over its author's probability."
    )
    gamma: float | None = Field(None, gt=0, description="Of the shaped surrogate: a probability (0.1).")
    clip: float | None = Field(None, gt=0, lt=1, description="Bound on the ratio of the policy's rows.")
    scale: Literal["none", "std0", "std1"] = Field("none", description="Deviation that divides the advantage.")
    zero_truncated_advantage: bool = Field(False, description="Rows that the budget cut push nothing.")
    entropy: float = Field(0.0, ge=0, description="Weight of an entropy bonus on the policy's rows.")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        gate, surrogate = given.get("gate", "margin"), given.get("anchor_surrogate", "shaped")
        defaults: dict[str, Any] = {"delta": 0.3 if gate == "distance" else 3.0}
        defaults |= {"slope": 2.0} if gate == "soft" else {}
        defaults |= {"ngram": 2} if gate == "distance" else {}
        defaults |= {"gamma": 0.1} if surrogate == "shaped" else {}
        return {**given, **{name: value for name, value in defaults.items() if given.get(name) is None}}

    @model_validator(mode="after")
    def _agree(self) -> "Options":
        changed = {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}
        no_gate, anchored = self.delta == -math.inf, self.anchors != "none"
        contradictions = [
            ("slope", "slope" in changed and self.gate != "soft", "is read by the soft gate alone"),
            ("ngram", "ngram" in changed and self.gate != "distance", "is read by the distance gate alone"),
            (
                "delta",
                self.gate == "distance" and not no_gate and not 0 <= (self.delta or 0) <= 1,
                "is a distance here, 0 to 1",
            ),
            ("gate", "gate" in changed and no_gate, "has no effect with delta: -.inf"),
            ("two_sided", self.two_sided and no_gate, "has no effect with delta: -.inf"),
            ("two_sided", self.two_sided and self.gate == "soft", "has no effect: a soft gate masks nothing whole"),
            ("recentred", self.recentred and no_gate, "has no effect with delta: -.inf"),
            (
                "on_missing_score",
                "on_missing_score" in changed and (no_gate or self.gate == "distance"),
                "has no effect without scores",
            ),
            (
                "gamma",
                self.gamma is not None and self.anchor_surrogate != "shaped",
                "is read by the shaped surrogate alone",
            ),
            *[
                (name, name in changed and not anchored, "has no effect with anchors: none")
                for name in ("anchor_count", "anchors_within_group", "drop_rejected_anchor", "anchor_surrogate")
            ],
        ]
        for name, holds, why in contradictions:
            if holds:
                raise ValueError(f"{name} {why}; leave it out")
        return self


@method("dagrpo", Options)
def dagrpo(options: Options) -> Algorithm:
    """Fill the slots. Without a margin there is no mask, so no score is asked for."""
    gated, anchored = options.delta != -math.inf, options.anchors != "none"
    recipe = Recipe(
        objective=tuple(_objective(options)),
        anchors=_anchors(options) if anchored else None,
        scores="mixed" if gated and options.gate != "distance" else "never",
        distances=options.ngram if gated else None,
        advantage=Advantage(
            over="union",
            scale=options.scale,
            zero_truncated=options.zero_truncated_advantage,
        ),
        weight=(_weight(options),) if gated else (),
        recentred=options.recentred,
    )
    return Algorithm(_label(options), (Phase(recipe),))


def _objective(options: Options) -> list[Term]:
    clip = None if options.clip is None else (options.clip, options.clip)
    terms = [policy_gradient(clip, rows="policy", count="all")]
    if options.anchors != "none":
        where: dict[str, Any] = {"rows": "anchor", "count": "all"}
        match options.anchor_surrogate:
            case "shaped":
                assert options.gamma is not None
                terms.append(shaped(options.gamma, **where))
            case "unit":
                terms.append(weighted_likelihood(**where))
            case "ratio":
                terms.append(policy_gradient(**where))
    if options.entropy > 0:
        terms.append(entropy_bonus(options.entropy, rows="policy"))
    return terms


def _anchors(options: Options) -> Anchors:
    assert options.anchors != "none"
    return Anchors(
        count=options.anchor_count,
        when=options.anchors,
        within_group=options.anchors_within_group,
        drop_rejected=options.drop_rejected_anchor,
    )


def _weight(options: Options) -> WeightFn:
    """λ of each row: the gate, and what is done about missing scores and lost sides."""
    delta, slope = options.delta, options.slope
    assert delta is not None

    def gate(rows: Rows) -> Tensor:
        match options.gate:
            case "margin":
                return gates.margin_mask(rows.advantage, rows.score, rows.group, delta)
            case "soft":
                assert slope is not None
                return gates.soft_gate(rows.advantage, rows.score, rows.group, delta, slope)
            case "pairwise":
                return gates.pairwise_weight(rows.advantage, rows.score, rows.group, delta)
            case "distance":
                return gates.distance_mask(rows.advantage, rows.distance, delta)

    def weight(rows: Rows) -> Tensor:
        kept = gate(rows)
        if options.on_missing_score == "drop":
            kept = kept * gates.drop_unscored(rows.advantage, rows.score)
        return gates.two_sided(kept, rows.advantage, rows.group) if options.two_sided else kept

    return weight


def _label(options: Options) -> str:
    """The name in tables: what differs from the paper's form is in it."""
    usual = 0.3 if options.gate == "distance" else 3.0
    differences = [
        "no mask" if options.delta == -math.inf else f"δ = {options.delta:g}" if options.delta != usual else "",
        f"{options.gate} gate" if options.gate != "margin" else "",
        "two-sided" if options.two_sided else "",
        "recentred" if options.recentred else "",
        "anchors where all fail" if options.anchors == "all_wrong" else "",
        f"{options.anchor_surrogate} anchors" if options.anchor_surrogate != "shaped" else "",
    ]
    name = "DaGRPO w/o anchors" if options.anchors == "none" else "DaGRPO"
    return ", ".join([name, *(difference for difference in differences if difference)])
