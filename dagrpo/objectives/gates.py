"""Row weights: which rows may push, given their advantages and how far they stand from the other side of their group.

The rows of a group fall into a positive side (A > 0) and a negative side (A < 0); a row without advantage belongs to
neither and keeps weight 1. All functions give weights of shape (N,) in the dtype of ``advantage``.

Arguments they share:
    advantage: floating point, shape (N,); only its sign is read, if nothing else is said.
    score: floating point, shape (N,), on the scale 1 to 10; NaN where missing. A row without a score is kept, and
        takes no part in the extremes of its group.
    group: int64, shape (N,).
    delta: the margin, in units of the score; -inf keeps every row.
"""

import torch
from torch import Tensor

from dagrpo.objectives.groups import group_max, group_min, group_sum

# Scores are often ratios of small integers stretched to the scale 1 to 10. A third of the scale is then a gap of 3 that
# misses 3 by a rounding (6/15 against 1/15 in float64), so ties are decided at this width.
_TIE = 1e-5


def margins(advantage: Tensor, score: Tensor, group: Tensor) -> Tensor:
    """Measure how far each row stands apart from the best negative or the worst positive row of its group.

        gap_j = S_j - max_{k: A_k < 0} S_k   for A_j > 0
        gap_k = min_{j: A_j > 0} S_j - S_k   for A_k < 0

    Source: DaGRPO (arXiv 2512.06337), Eq. 8 and 9.

    Returns:
        Shape (N,), in units of the score: inf where the advantage is 0 or the other side is empty (max of nothing is
        -inf, min is +inf), NaN where the row's own score is missing.
    """
    _check(advantage, score, group)
    scored = ~score.isnan()
    positive, negative = advantage > 0, advantage < 0
    best_negative = group_max(torch.where(negative & scored, score, -torch.inf), group)
    worst_positive = group_min(torch.where(positive & scored, score, torch.inf), group)
    gap = torch.where(positive, score - best_negative, worst_positive - score)
    return torch.where(positive | negative, gap, torch.inf)


def margin_mask(advantage: Tensor, score: Tensor, group: Tensor, delta: float) -> Tensor:
    """Keep the rows whose margin reaches ``delta``: λ_i = 1[ gap_i >= delta ], the comparison inclusive.

    Source: DaGRPO (arXiv 2512.06337), Eq. 8 and 9.
    """
    # A missing score makes the gap NaN, which compares as not less: the row is kept.
    masked = margins(advantage, score, group) < delta - _TIE
    return (~masked).to(advantage.dtype)


def soft_gate(advantage: Tensor, score: Tensor, group: Tensor, delta: float, slope: float) -> Tensor:
    """Let a row through by degrees: λ_i = sigmoid(slope (gap_i - delta)); a steep slope is :func:`margin_mask`."""
    assert slope > 0, f"slope must be greater than 0, found {slope}"
    gap = margins(advantage, score, group)
    return torch.where(gap.isnan(), 1, torch.sigmoid(slope * (gap - delta))).to(advantage.dtype)


def pairwise_weight(advantage: Tensor, score: Tensor, group: Tensor, delta: float) -> Tensor:
    """Keep pairs instead of rows: λ is the share of a row's pairs with the other side that reach the margin.

    A pair of a positive row j and a negative row k reaches it if S_j - S_k >= delta. Where :func:`margin_mask` asks the
    same of a row's closest pair, here one high negative takes from each positive a share and not all.
    """
    _check(advantage, score, group)
    positive, negative = advantage > 0, advantage < 0
    scored = ~score.isnan()
    pair = (group[:, None] == group[None, :]) & positive[:, None] & negative[None, :]
    pair &= scored[:, None] & scored[None, :]
    reached = pair & (score[:, None] - score[None, :] >= delta - _TIE)
    pairs, kept = pair.sum(1) + pair.sum(0), reached.sum(1) + reached.sum(0)
    return torch.where(pairs > 0, kept / pairs.clamp(min=1), 1).to(advantage.dtype)


def distance_mask(advantage: Tensor, distance: Tensor, delta: float) -> Tensor:
    """Keep the rows that no row of the other side resembles: λ_i = 1[ distance_i >= delta ].

    Args:
        distance: 1 minus the similarity to the nearest row of the other side, in [0, 1], inf without one, (N,).
    """
    assert distance.shape == advantage.shape, f"distance: (N,), found {distance.shape}"
    return ((advantage == 0) | ~(distance < delta - _TIE)).to(advantage.dtype)


def drop_unscored(advantage: Tensor, score: Tensor) -> Tensor:
    """Drop the rows with an advantage whose score is missing."""
    return (~(score.isnan() & (advantage != 0))).to(advantage.dtype)


def two_sided(weight: Tensor, advantage: Tensor, group: Tensor) -> Tensor:
    """Drop a group whole where one of its sides has no weight left, for only pulling down (or up) would remain.

    Args:
        weight: λ so far, shape (N,).
    """
    positive, negative = advantage > 0, advantage < 0
    left = [group_sum(torch.where(side, weight, 0).to(advantage.dtype), group) for side in (positive, negative)]
    there = [group_sum(side.to(advantage.dtype), group) > 0 for side in (positive, negative)]
    lost = (there[0] & (left[0] == 0)) | (there[1] & (left[1] == 0))
    return torch.where(lost & (positive | negative), 0, weight)


def recentred(advantage: Tensor, weight: Tensor, group: Tensor) -> Tensor:
    """Take the baseline over what is left, so that each group's Σ λ A is 0 again: A_i - Σ λ A / Σ λ.

    For advantages without a deviation this is the advantage computed anew over the retained rows.

    Args:
        advantage: floating point, shape (N,).
        weight: λ, shape (N,).

    Returns:
        Shape (N,); exactly 0 for rows without weight, and in groups whose retained rows all have the same advantage.
    """
    kept = weight > 0
    total = group_sum(weight.to(advantage.dtype), group)
    mean = group_sum(weight.to(advantage.dtype) * advantage, group) / torch.where(total > 0, total, 1)
    highest = group_max(torch.where(kept, advantage, -torch.inf), group)
    lowest = group_min(torch.where(kept, advantage, torch.inf), group)
    return torch.where(kept & (highest > lowest), advantage - mean, 0)


def _check(advantage: Tensor, score: Tensor, group: Tensor) -> None:
    assert advantage.ndim == 1 and advantage.is_floating_point(), f"advantage: float (N,), found {advantage.shape}"
    assert score.shape == advantage.shape and score.is_floating_point(), f"score: float (N,), found {score.shape}"
    assert group.shape == advantage.shape and group.dtype == torch.int64, f"group: int64 (N,), found {group.shape}"
