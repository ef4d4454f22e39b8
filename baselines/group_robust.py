"""Group robust preference optimisation trains for the kind of problem on which it does worst, by weights that grow with
the loss of each kind.

Paper: Group Robust Preference Optimization in Reward-free RLHF, arXiv 2405.20304, and its released code.

    ℓ_g  = loss of DPO or IPO over the pairs of kind g
    q_g <- q_g exp(η ℓ_g) / Z
    loss = Σ_g q_g ℓ_g

Defaults, the released configuration's: η = 0.01; β = 0.1 for DPO, ours, and 0.01 for IPO. Adapted: the paper has given
pairs of given people; here a kind is a family of problems, and pairs are right and wrong answers of a group. Kinds that
a step does not hold keep their weight.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from dagrpo.algorithm import Algorithm, Memory, Phase, Recipe, Sequences, SequenceTerm, contrasted, margins, method
from dagrpo.config import Strict
from dagrpo.objectives.group_weights import exponentiated
from dagrpo.objectives.pairs import balanced_mean, ordered_pairs
from dagrpo.objectives.sequence_losses import dpo, ipo


class Options(Strict):
    """Parameters of group robust preference optimisation."""

    loss: Literal["dpo", "ipo"] = Field("dpo", description="Loss of a pair; ipo averages over tokens.")
    beta: float | None = Field(None, gt=0, description="Hold on the initial policy; null: 0.1 for dpo, 0.01 for ipo.")
    eta: float = Field(0.01, ge=0, description="Step size of the kinds' weights; 0 weighs them alike.")


@method("group_robust", Options)
def group_robust(options: Options) -> Algorithm:
    beta = options.beta or {"dpo": 0.1, "ipo": 0.01}[options.loss]

    def loss(sequences: Sequences) -> Tensor:
        """DPO or IPO by kind of problem, weighted by how badly each fares."""
        rows = sequences.rows
        pairs = ordered_pairs(rows.reward, rows.group, contrasted(rows))
        margin = margins(sequences, pairs, per_token=options.loss == "ipo")
        losses = dpo(margin, beta) if options.loss == "dpo" else ipo(margin, beta)
        group, kind = rows.group[pairs[0]], rows.domain[pairs[0]]
        kinds = kind.unique().tolist()
        by_kind = [balanced_mean(losses[kind == one], group[kind == one]) for one in kinds]
        return robust(torch.stack(by_kind), kinds, options.eta, sequences.memory) if kinds else losses.sum()

    term = SequenceTerm(loss, rows=contrasted, needs_reference=True)
    return Algorithm("Group robust DPO", (Phase(Recipe(objective=(term,))),))


def robust(losses: Tensor, kinds: list[int], eta: float, memory: Memory) -> Tensor:
    """Renew the weights of these kinds in memory, where a new kind has weight 1, and average their losses by them."""
    known = memory.setdefault("group_weights", {})
    weight = losses.new_tensor([known.get(str(kind), 1.0) for kind in kinds])
    weight = exponentiated(weight, losses.detach(), eta)
    known |= {str(kind): value for kind, value in zip(kinds, weight.tolist(), strict=True)}
    return (weight / weight.sum()) @ losses
