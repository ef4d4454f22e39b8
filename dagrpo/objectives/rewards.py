"""Shapes that are put on the verifier's reward: what a response costs or is worth beside being right."""

from collections.abc import Sequence, Set
from typing import Literal, assert_never

import torch
from torch import Tensor

from dagrpo.objectives.groups import group_sum

DomainWeight = Literal["log", "square", "inverse"]


def weighted_sum(rewards: Tensor, weights: Sequence[float]) -> Tensor:
    """Add up several rewards: R_i = Σ_m w_m R_im, from floating point (N, M) to (N,)."""
    assert rewards.ndim == 2 and rewards.shape[1] == len(weights), f"rewards: (N, {len(weights)}), {rewards.shape}"
    return rewards @ rewards.new_tensor(weights)


def overlong_penalty(length: Tensor, budget: Tensor, buffer: float) -> Tensor:
    """Punish responses that come close to the budget: 0 up to (1 - buffer) budget, then linearly down to -1 at it.

    DAPO's soft punishment (arXiv 2503.14476, Eq. 13).

    Args:
        length, budget: tokens, int64, shape (N,).
        buffer: share of the budget, 0 to 1; 0 for no penalty.

    Returns:
        float64, shape (N,).
    """
    assert 0 <= buffer <= 1, f"the buffer is a share of the budget, found {buffer}"
    if buffer == 0:
        return torch.zeros_like(length, dtype=torch.float64)
    over = length.double() - (1 - buffer) * budget.double()
    return -(over / (buffer * budget.double())).clamp(0, 1)


def likelihood_rank(logp: Tensor, group: Tensor, tolerance: float = 1e-4) -> Tensor:
    """Count the responses of the group that the policy found less likely: 0 for the least likely.

    The rank of the unlikeliness reward (arXiv 2506.02355). Responses that are as likely share a rank, so
    that the order of rows decides nothing.

    Args:
        logp: mean log-probability of each response when it was sampled, nats, shape (N,).
        group: int64, shape (N,).
        tolerance: nats; identical responses differ by the rounding of the batches in which they were sampled.

    Returns:
        Shape (N,), the dtype of ``logp``; NaN ranks 0.
    """
    assert logp.ndim == 1 and logp.shape == group.shape, f"(N,) expected, found {logp.shape} and {group.shape}"
    below = (logp[None] < logp[:, None] - tolerance) & (group[None] == group[:, None])
    return below.sum(1).to(logp)


def domain_weight(share: Tensor, kind: DomainWeight) -> Tensor:
    """Weigh rare domains up: log(1 + 1/p), its square, or 1/p, where p is the domain's share of the problems.

    DISCO (arXiv 2505.15074).

    Args:
        share: p, above 0 and at most 1, shape (N,).

    Returns:
        Shape (N,).
    """
    match kind:
        case "log":
            return torch.log1p(1 / share)
        case "square":
            return torch.log1p(1 / share).square()
        case "inverse":
            return 1 / share
        case _:
            assert_never(kind)


def difficulty_weight(correct: Tensor, group: Tensor, eps: float = 1e-5) -> Tensor:
    """Weigh hard prompts up by the reciprocal of the group's share of right answers, 1 / (share + eps): shape (N,).

    DISCO (arXiv 2505.15074). ``correct`` is floating point, 0 or 1, ``group`` int64, both (N,).
    """
    return 1 / (group_sum(correct, group) / group_sum(torch.ones_like(correct), group) + eps)


def partial_credit(found: Set[str], truth: Set[str]) -> float:
    """Credit part of an answer that is a set: |found| / |truth| where all that was found is right, else 0.

    TW-GRPO's reward for several right letters (arXiv 2505.24718).
    """
    assert truth, "the right answer is a set of at least one"
    return len(found) / len(truth) if found <= truth else 0.0
