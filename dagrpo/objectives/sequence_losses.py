"""Losses of whole responses: what a pair, or the two sides of a group, say of the policy.

A *margin* is what the policy has done for the better response of a pair more than for the worse one, in nats:
[log π(y+) - log π_ref(y+)] - [log π(y-) - log π_ref(y-)], shape (P,).
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from dagrpo.objectives.groups import group_sum


def dpo(margin: Tensor, beta: float, epsilon: float | Tensor = 0.0) -> Tensor:
    """Classify which response of a pair is the better one: ℓ = -(1 - ε) log σ(β m) - ε log σ(-β m).

    DPO (arXiv 2305.18290, Eq. 7); with ε > 0 the conservative form, which takes a share ε of the labels for wrong.

    Args:
        margin: nats, summed over tokens, shape (P,).
        beta: inverse temperature, greater than 0.
        epsilon: in [0, 0.5], a number or one for each pair, (P,).

    Returns:
        Shape (P,).
    """
    return -(1 - epsilon) * F.logsigmoid(beta * margin) - epsilon * F.logsigmoid(-beta * margin)


def ipo(margin: Tensor, beta: float) -> Tensor:
    """Regress a pair's margin onto a finite goal: ℓ = (m - 1 / (2 β))².

    IPO (arXiv 2310.12036, Eq. 17). Its authors' results hold for margins that are averaged over tokens.

    Args:
        margin: nats per token, shape (P,).
        beta: greater than 0.

    Returns:
        Shape (P,).
    """
    return (margin - 1 / (2 * beta)).square()


def rebel(gap: Tensor, reward_gap: Tensor, eta: float) -> Tensor:
    """Regress the gap of a pair's log-ratios onto that of its rewards: ℓ = (Δ_i - Δ_j - η (R_i - R_j))².

    REBEL (arXiv 2404.16767), which writes 1/η on the other side; its released code has η here.

    Args:
        gap: Δ_i - Δ_j, of log-ratios to the sampling policy that are summed over tokens (nats), shape (P,).
        reward_gap: R_i - R_j, shape (P,).
        eta: nats per unit of reward.

    Returns:
        Shape (P,).
    """
    return (gap - eta * reward_gap).square()


def disco(score: Tensor, correct: Tensor, group: Tensor, tau: float | None) -> Tensor:
    """Separate the scores of right responses from those of wrong ones, by group.

        ℓ_g = τ log mean_{wrong} exp(s / τ) - mean_{right} s         tau None: mean_{wrong} s - mean_{right} s

    DisCO (arXiv 2505.12366), and without tau its basic form. A low τ dwells on the wrong responses of high score.

    Args:
        score: shape (N,), such as the mean log-probability of a response's tokens.
        correct: bool, shape (N,).
        group: int64, shape (N,).
        tau: greater than 0, in units of the score.

    Returns:
        (groups with a right and a wrong row,), in rising order of group.
    """
    assert correct.shape == score.shape and correct.dtype == torch.bool, f"correct: bool (N,), found {correct.shape}"
    right, wrong = (group_sum(side.to(score.dtype), group) for side in (correct, ~correct))
    mixed = (right > 0) & (wrong > 0)
    losses = []
    for number in group[mixed].unique().tolist():
        mine = group == number
        good, bad = score[mine & correct], score[mine & ~correct]
        below = bad.mean() if tau is None else tau * ((bad / tau).logsumexp(0) - math.log(len(bad)))
        losses.append(below - good.mean())
    return torch.stack(losses) if losses else score.new_zeros(0)


def kl_constraint(divergence: Tensor, beta: float, delta: float) -> Tensor:
    """Push the divergence back once it exceeds a bound: ℓ = sg[β max(KL - δ, 0)] KL, sg without gradient.

    The squared hinge of DisCO (arXiv 2505.12366), by its gradient.

    Args:
        divergence: an estimate of KL(old policy || policy), nats, a scalar.
        beta: greater than 0.
        delta: the bound, nats.

    Returns:
        A scalar.
    """
    return beta * (divergence.detach() - delta).clamp(min=0) * divergence
