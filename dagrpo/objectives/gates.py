"""Row weights: which rows may push, given their advantages and fine-grained scores."""

import torch
from torch import Tensor

from dagrpo.objectives.groups import group_max, group_min

# Scores are often ratios of small integers stretched to the scale 1 to 10. A third of the scale is then a gap of 3 that
# misses 3 by a rounding (6/15 against 1/15 in float64), so ties are decided at this width.
_TIE = 1e-5


def margin_mask(advantage: Tensor, score: Tensor, group: Tensor, delta: float) -> Tensor:
    """Keep the rows that stand apart from the best negative or the worst positive row of their group.

        λ_j = 1[ S_j - max_{k: A_k < 0} S_k >= delta ]   for A_j > 0
        λ_k = 1[ min_{j: A_j > 0} S_j - S_k >= delta ]   for A_k < 0

    Source: DaGRPO (arXiv 2512.06337), Eq. 8 and 9. The comparison is inclusive. An empty side has the extremes
    max = -inf and min = +inf, and so masks nothing.

    Args:
        advantage: floating point, shape (N,); only its sign is read.
        score: floating point, shape (N,), on the scale 1 to 10; NaN where missing. A row without a score is kept, and
            takes no part in the extremes of its group.
        group: int64, shape (N,).
        delta: the margin, in units of the score; -inf keeps every row.

    Returns:
        λ of shape (N,), 0 or 1 in the dtype of ``advantage``; 1 where the advantage is 0.
    """
    assert advantage.ndim == 1 and advantage.is_floating_point(), f"advantage: float (N,), found {advantage.shape}"
    assert score.shape == advantage.shape and score.is_floating_point(), f"score: float (N,), found {score.shape}"
    assert group.shape == advantage.shape and group.dtype == torch.int64, f"group: int64 (N,), found {group.shape}"
    scored = ~score.isnan()
    positive, negative = advantage > 0, advantage < 0
    best_negative = group_max(torch.where(negative & scored, score, -torch.inf), group)
    worst_positive = group_min(torch.where(positive & scored, score, torch.inf), group)
    gap = torch.where(positive, score - best_negative, worst_positive - score)
    # A missing score makes the gap NaN, which compares as not less: the row is kept.
    masked = (positive | negative) & (gap < delta - _TIE)
    return (~masked).to(advantage.dtype)
