"""Weights of single tokens, from what the policy says of a whole group: pure functions of one group's n tokens.

Arguments they share:
    row: number of the token's row, int64, (n,).
    token: the id drawn, int64, (n,).
    logps: log-probabilities of the whole vocabulary at each token, (n, V), nats.

Nothing here carries a gradient.
"""

import math

import torch
from torch import Tensor

from dagrpo.objectives.groups import group_min, group_sum

_WIDEST = 11.0  # bounds the gap of two log-probabilities, whose exponential is taken


@torch.no_grad()
def divergence_weights(logps: Tensor, position: Tensor, rows: int, alpha: float) -> Tensor:
    """Weigh each position by how much the rows of a group disagree there about the next token.

        d_it = clip(mean_j log p_jt - log p_it, -11, 11)        (V,)
        D_t  = mean_i Σ_v [ exp(d_it) - d_it - 1 ]
        w_t  = 1 + (alpha - 1) (D_t - min D) / (max D - min D)

    TW-GRPO (arXiv 2505.24718), as its released code has it: a row that has ended counts as uniform over the vocabulary
    at the positions that follow.

    Args:
        position: place of the token in its response, from 0, int64, (n,).
        rows: how many rows the group has, empty ones included.
        alpha: the largest weight; 1 weighs all tokens alike.

    Returns:
        Of each token, (n,), between 1 and alpha. 1 everywhere where the rows disagree alike at all positions.
    """
    assert logps.ndim == 2 and position.shape == logps.shape[:1], (logps.shape, position.shape)
    length, vocabulary = int(position.max()) + 1, logps.shape[1]
    present = torch.bincount(position, minlength=length).to(logps)
    ended = rows - present
    uniform = -math.log(vocabulary)
    total = logps.new_zeros(length, vocabulary).index_add_(0, position, logps)
    mean = (total + ended[:, None] * uniform) / rows
    running = logps.new_zeros(length).index_add_(0, position, _excess(mean[position] - logps))
    divergence = (running + ended * _excess(mean - uniform)) / rows
    spread = divergence.max() - divergence.min()
    share = (divergence - divergence.min()) / spread if spread > 0 else torch.zeros_like(divergence)
    return (1 + (alpha - 1) * share)[position]


def _excess(gap: Tensor) -> Tensor:
    """Σ_v [ exp(d) - d - 1 ] over the last dimension."""
    gap = gap.clamp(-_WIDEST, _WIDEST)
    return (torch.expm1(gap) - gap).sum(-1)


@torch.no_grad()
def influence(token: Tensor, logps: Tensor, hidden: Tensor, pushing: Tensor) -> Tensor:
    """Measure how far raising the likelihood of some tokens raises that of each token of the group.

        s_t = Σ_{t' pushing} <g_t, g_t'> <h_t, h_t'> = g_tᵀ M h_t,    M = Σ_{t' pushing} g_t' h_t'ᵀ,    g = onehot - p

    The first-order effect on log p of a step on the output layer, by token; on the effect of wrong answers' gradients
    on right ones see arXiv 2505.18830. The vocabulary is restricted to the tokens that the group holds.

    Args:
        hidden: the states that the output layer reads, (n, width).
        pushing: which tokens are raised, bool, (n,).

    Returns:
        (n,).
    """
    assert token.shape == pushing.shape == logps.shape[:1] == hidden.shape[:1], (token.shape, logps.shape, hidden.shape)
    present, place = token.unique(return_inverse=True)
    slope = -logps[:, present].exp()
    slope[torch.arange(len(token), device=token.device), place] += 1
    moved = slope[pushing].T @ hidden[pushing]  # (vocabulary of the group, width)
    return ((slope @ moved) * hidden).sum(-1)


@torch.no_grad()
def spare_helpful_tokens(strength: Tensor, row: Tensor, correct: Tensor, beta: float, eta: float) -> Tensor:
    """Soften the penalty on those tokens of wrong rows that are tied to right rows as strongly as these to themselves.

        w_t = eta   where the row is wrong and s_t > beta · min_{right rows i} mean_{t' of i} s_t',   else 1

    NTHR (arXiv 2505.18830).

    Args:
        strength: s, as :func:`influence` gives it with the tokens of right rows pushing, (n,).
        correct: whether the token's row is right, bool, (n,).

    Returns:
        (n,). 1 everywhere where all tokens are of right rows, or all of wrong ones.
    """
    assert strength.shape == row.shape == correct.shape, (strength.shape, row.shape, correct.shape)
    mean = group_sum(strength, row) / group_sum(torch.ones_like(strength), row)
    together = torch.zeros_like(row)
    threshold = beta * group_min(torch.where(correct, mean, torch.inf), together)
    return torch.where(~correct & (strength > threshold), eta, 1.0).to(strength)
