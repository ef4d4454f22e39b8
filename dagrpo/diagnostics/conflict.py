"""How far the rows of a group push against each other: pure functions of gradients, credit and tokens.

Letters: N rows of a group; g_i the gradient of row i's mean log-probability; c_i its coefficient, the advantage A_i
before the mask and λ_i A_i after it. The update of a group is Σ_i c_i g_i (DaGRPO, arXiv 2512.06337, section 3: the
gradient at ratio 1, without clip and KL). All of it follows from the inner products K_ij = <g_i, g_j>, shape (N, N).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def signed_cosines(gram: Tensor, coefficient: Tensor) -> Tensor:
    """Cosines between the pushes c_i g_i: -1 where two rows undo each other, 1 where they agree.

    Args:
        gram: K, float64, (N, N).
        coefficient: c, (N,).

    Returns:
        Shape (N, N); NaN beside rows that do not push.
    """
    pushes = _pushes(gram, coefficient)
    norm = pushes.diagonal().clamp(min=0).sqrt()
    return pushes / (norm[:, None] * norm[None, :])


def conflict_index(gram: Tensor, coefficients: Tensor) -> Tensor:
    """Measure the share of the pushes that is lost where they meet: 1 - ‖Σ_i c_i g_i‖ / Σ_i ‖c_i g_i‖.

    0 where all rows push the same way (a single row does), 1 where they cancel.

    Args:
        gram: K, float64, (N, N).
        coefficients: c, (..., N).

    Returns:
        Shape (...); NaN where nothing pushes.
    """
    coefficients = coefficients.to(gram)
    together = torch.einsum("...i,ij,...j->...", coefficients, gram, coefficients).clamp(min=0).sqrt()
    alone = (coefficients.abs() * gram.diagonal().clamp(min=0).sqrt()).sum(-1)
    return (1 - together / alone).clamp(min=0)  # rounding may leave -1e-16 where one row pushes


def shuffled_weights(
    weight: Tensor, advantage: Tensor, draws: int, generator: np.random.Generator, within_sides: bool
) -> Tensor:
    """Give the weights of a mask to random rows: as many rows are dropped, at random. The control of a mask.

    Args:
        weight: λ, (N,).
        advantage: A, (N,); rows without one keep their weight.
        draws: how often.
        within_sides: give the weights of the positive rows to positive rows, and those of the negative to negative.

    Returns:
        Shape (draws, N).
    """
    if within_sides:
        sides = [(advantage > 0).nonzero().flatten(), (advantage < 0).nonzero().flatten()]
    else:
        sides = [(advantage != 0).nonzero().flatten()]
    shuffled = weight.repeat(draws, 1)
    for rows in sides:
        order = torch.from_numpy(generator.permuted(np.tile(np.arange(len(rows)), (draws, 1)), axis=1))
        shuffled[:, rows] = weight[rows][order]
    return shuffled


def shared_pairs(responses: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Find the (context, token) pairs that several responses to a prompt hold: one tuple of row numbers for each.

    The context of a token is the prompt and all tokens before it, so two responses share pairs up to the first token
    in which they differ.
    """
    found: list[tuple[int, ...]] = []
    waiting = [(0, tuple(range(len(responses))))]
    while waiting:
        position, rows = waiting.pop()
        following: dict[int, list[int]] = {}
        for row in rows:
            if position < len(responses[row]):
                following.setdefault(responses[row][position], []).append(row)
        branches = [tuple(branch) for branch in following.values() if len(branch) > 1]
        found += branches
        waiting += [(position + 1, branch) for branch in branches]
    return found


def net_coefficients(pairs: Sequence[tuple[int, ...]], coefficient: Tensor) -> Tensor:
    """Add up the coefficients with which the rows of each pair push its token: Σ_{i in pair} c_i, (pairs,).

    For the equations' length normalisation pass A_i / |o_i|; for a constant length A_i, times what is the same for all.
    """
    return torch.stack([coefficient[list(rows)].sum() for rows in pairs]) if pairs else coefficient.new_empty(0)


def _pushes(gram: Tensor, coefficient: Tensor) -> Tensor:
    coefficient = coefficient.to(gram)
    return coefficient[:, None] * gram * coefficient[None, :]
