"""On-policy DPO prefers each right answer of a group to each wrong one, by a classification loss over pairs.

Papers: Direct Preference Optimization, arXiv 2305.18290; on pairs that the policy itself has just sampled, arXiv
2404.14367, which finds that sampling and the push against wrong answers are what matters.

    m    = log π(o+) / π_ref(o+) - log π(o-) / π_ref(o-)        summed over the tokens
    loss = mean over groups, over pairs of -(1 - ε) log σ(β m) - ε log σ(-β m)

Defaults: β = 0.1 (DPO's), ε = 0. Adapted: the verifier labels the pairs, and all of a group are used; the reference is
the initial policy.
"""

from pydantic import Field
from torch import Tensor

from dagrpo.algorithm import Algorithm, Phase, Recipe, Sequences, SequenceTerm, contrasted, margins, method
from dagrpo.config import Strict
from dagrpo.objectives.pairs import balanced_mean, ordered_pairs
from dagrpo.objectives.sequence_losses import dpo


class Options(Strict):
    """Parameters of on-policy DPO."""

    beta: float = Field(0.1, gt=0, description="How strongly the policy is held to the initial one.")
    epsilon: float = Field(0.0, ge=0, lt=0.5, description="Share of labels taken for wrong (conservative DPO).")


@method("online_dpo", Options)
def online_dpo(options: Options) -> Algorithm:
    def loss(sequences: Sequences) -> Tensor:
        """DPO over every right and wrong row of a group."""
        rows = sequences.rows
        pairs = ordered_pairs(rows.reward, rows.group, contrasted(rows))
        losses = dpo(margins(sequences, pairs), options.beta, options.epsilon)
        return balanced_mean(losses, rows.group[pairs[0]])

    term = SequenceTerm(loss, rows=contrasted, needs_reference=True)
    return Algorithm("On-policy DPO", (Phase(Recipe(objective=(term,))),))
