"""MCTS-DPO searches a tree of steps below each prompt, and prefers the best step at each place to the worst by DPO.

Paper: Monte Carlo Tree Search Boosts Reasoning via Iterative Preference Learning, arXiv 2405.00451, and its code.

    next = the branch of largest Q + w p √N_parent / (1 + N),        Q = r + V,  V = Σ N Q / Σ N
    m    = log π(s+) / π_ref(s+) - log π(s-) / π_ref(s-)             of the two steps, given all before them
    loss = mean over places of -(1 - ε) log σ(β m) - ε log σ(-β m),  ε = min(1 - 1 / (1 + N- / max(1, N+)), 1/2)

Defaults, the paper's: two actions, three levels, 64 visits, w = 1, β = 0.1. Adapted: a step is worth the share of right
answers among the rollouts that start with it, without the paper's self-evaluation; a tree draws no more rollouts than a
group has, and its last level takes the rest of the response. p is the mean probability of a step's tokens; the
reference is the initial policy.
"""

import torch
from pydantic import Field
from torch import Tensor

from dagrpo.algorithm import Algorithm, Phase, Recipe, Rows, Sequences, SequenceTerm, margins, method, tree_search
from dagrpo.config import Strict
from dagrpo.objectives.pairs import balanced_mean, best_and_worst
from dagrpo.objectives.search import label_noise
from dagrpo.objectives.sequence_losses import dpo


class Options(Strict):
    """Parameters of MCTS-DPO."""

    beta: float = Field(0.1, gt=0, description="How strongly the policy is held to the initial one.")
    actions: int = Field(2, ge=1, description="Rollouts drawn at a place of the tree at a time.")
    depth: int = Field(3, ge=1, description="Levels of the tree.")
    iterations: int = Field(64, ge=1, description="Visits of a tree, those that draw included.")
    exploration: float = Field(1.0, ge=0, description="Weight w of what was visited little.")
    separators: str = Field("\n;", min_length=1, description="Characters that end a step.")


@method("mcts_dpo", Options)
def mcts_dpo(options: Options) -> Algorithm:
    def loss(sequences: Sequences) -> Tensor:
        """Conservative DPO over the best and the worst step at each place of the tree."""
        rows, pairs = sequences.rows, siblings(sequences.rows)
        noise = label_noise(*rows.visits[pairs]).to(sequences.logp)
        return balanced_mean(dpo(margins(sequences, pairs), options.beta, noise), rows.group[pairs[0]])

    plan = tree_search(options.actions, options.depth, options.iterations, options.exploration, options.separators)
    term = SequenceTerm(loss, rows=compared, needs_reference=True)
    return Algorithm("MCTS-DPO", (Phase(Recipe(objective=(term,), plan=plan)),))


def siblings(rows: Rows) -> Tensor:
    """The best and the worst step at each place: (2, P)."""
    worth = torch.where(rows.value.isnan(), rows.reward, rows.value)
    return best_and_worst(worth, rows.group, rows.key, ~rows.anchor & (rows.length > 0))


def compared(rows: Rows) -> Tensor:
    """Rows of a pair: bool, (N,)."""
    return torch.zeros_like(rows.anchor).index_fill(0, siblings(rows).flatten(), True)
