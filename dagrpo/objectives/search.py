"""What a tree search over the steps of a response chooses and believes, and how far to trust it (arXiv 2405.00451)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def choice_score(value: float, prior: float, parent_visits: int, visits: int, exploration: float) -> float:
    """Rate a branch for the next visit: Q + w p √N_parent / (1 + N)."""
    return value + exploration * prior * math.sqrt(parent_visits) / (1 + visits)


def branch_value(visits: Sequence[int], values: Sequence[float]) -> float:
    """Average the values of a node's branches by their visits: V = Σ N Q / Σ N."""
    return sum(n * q for n, q in zip(visits, values, strict=True)) / sum(visits)


def label_noise(best: Tensor, worst: Tensor) -> Tensor:
    """Say how likely the order of two branches is wrong: ε = min(1 - c, 1/2), c = 1 / (1 + N- / max(1, N+)).

    Args:
        best: visits of the branch that is preferred, (P,).
        worst: visits of the other one, (P,).

    Returns:
        In [0, 0.5], shape (P,).
    """
    confidence = 1 / (1 + worst / best.clamp(min=1))
    return torch.clamp(1 - confidence, max=0.5)
