"""Sequence advantages: how much better a row's reward is than that of the other rows of its prompt."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from dagrpo.objectives.groups import group_differs, group_max, group_min, group_sum

Scale = Literal["none", "std0", "std1"]


def group_advantage(reward: Tensor, group: Tensor, include: Tensor, scale: Scale = "none", eps: float = 1e-6) -> Tensor:
    """Subtract the group's mean reward, and divide by its standard deviation where asked.

        A_i = R_i - mean(R)                    scale "none"
        A_i = (R_i - mean(R)) / (std(R) + eps)  "std0": divided by n, "std1": by n - 1 (what ``torch.std`` gives)

    "std1" is GRPO (DeepSeekMath, arXiv 2402.03300, 4.1.2); "none" is Dr. GRPO (arXiv 2503.20783, 3.2).

    Args:
        reward: floating point, shape (N,).
        group: int64, shape (N,).
        include: bool, shape (N,). Mean and deviation are taken over these rows; the others get 0.
        scale: what to divide by.
        eps: added to the deviation, in units of reward.

    Returns:
        Shape (N,), the dtype of ``reward``. Exactly 0 in a group whose included rewards are all equal, so in a group
        of one.
    """
    assert reward.ndim == 1 and reward.is_floating_point(), f"reward: float (N,), found {reward.dtype} {reward.shape}"
    assert group.shape == reward.shape and group.dtype == torch.int64, f"group: int64 (N,), found {group.shape}"
    assert include.shape == reward.shape and include.dtype == torch.bool, f"include: bool (N,), found {include.shape}"
    count = group_sum(include.to(reward.dtype), group).clamp(min=1)
    mean = group_sum(torch.where(include, reward, 0), group) / count
    advantage = torch.where(include, reward - mean, 0)
    if scale != "none":
        freedom = count if scale == "std0" else (count - 1).clamp(min=1)
        advantage = advantage / ((group_sum(advantage.square(), group) / freedom).sqrt() + eps)
    highest = group_max(torch.where(include, reward, -torch.inf), group)
    lowest = group_min(torch.where(include, reward, torch.inf), group)
    # Equal rewards are found by comparison: the mean of n times 0.1 is not always 0.1, and a rounding error would
    # give such a group two signs.
    return torch.where(highest > lowest, advantage, 0)


def likelihood_weight(reward: Tensor, group: Tensor, include: Tensor, beta: float) -> Tensor:
    """Weigh a response by its reward: w_i = exp(R_i / β) / mean(exp(R / β)), the mean over its group.

    Reward-weighted regression (Peters and Schaal, 2007), as in arXiv 2404.14367.

    Args:
        reward: floating point, shape (N,).
        group: int64, shape (N,).
        include: bool, shape (N,). The mean is taken over these rows; the others get 0.
        beta: temperature, in units of reward, greater than 0.

    Returns:
        Shape (N,), of mean 1 in each group.
    """
    assert beta > 0, f"beta must be greater than 0, found {beta}"
    highest = group_max(torch.where(include, reward, -torch.inf), group)
    # Less the highest reward, which cancels, exp cannot overflow.
    worth = torch.where(include, torch.exp((reward - highest) / beta), 0)
    count = group_sum(include.to(reward.dtype), group)
    return torch.where(include, worth * count / group_sum(worth, group), 0)


def decoupled_advantage(
    rewards: Tensor,
    group: Tensor,
    include: Tensor,
    weights: Sequence[float],
    whiten: bool = True,
    eps: float = 1e-4,
) -> Tensor:
    """Standardise each of several rewards in its group, add them up, and standardise the sum over the whole step.

        B_i = Σ_m w_m (R_im - mean(R_m)) / (std(R_m) + eps)     over the group
        A_i = (B_i - mean(B)) / (std(B) + eps)                  over the step, both with n - 1

    GDPO (arXiv 2601.05242). Standardised apart, rewards whose sum is the same in two groups keep their
    difference.

    Args:
        rewards: floating point, shape (N, M).
        group: int64, shape (N,).
        include: bool, shape (N,); the others get 0.
        weights: of the M rewards.
        whiten: whether the second line is applied.
        eps: added to each deviation, in units of reward.

    Returns:
        Shape (N,). Where no group tells its rows apart, all are 0.
    """
    assert rewards.ndim == 2 and rewards.shape[1] == len(weights), f"rewards: (N, {len(weights)}), {rewards.shape}"
    total = torch.zeros_like(rewards[:, 0])
    for reward, weight in zip(rewards.unbind(1), weights, strict=True):
        total = total + weight * group_advantage(reward, group, include, "std1", eps)
    if not whiten:
        return total
    # The sum's mean over the step is 0 but for rounding, which must not push a group that nothing tells apart.
    whitened = group_advantage(total, torch.zeros_like(group), include, "std1", eps)
    return torch.where(group_differs(total, group, include), whitened, 0)
