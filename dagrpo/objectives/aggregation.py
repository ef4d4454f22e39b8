"""From token losses to one number, by denominators that are counted over the whole step."""

from typing import Literal, assert_never

import torch
from torch import Tensor

Aggregate = Literal["token", "sequence", "constant"]


def row_scale(aggregate: Aggregate, length: Tensor, counted: Tensor, selected: Tensor, budget: int) -> Tensor:
    """Give each row the factor s_i by which all its token losses are multiplied: loss = Σ_i s_i Σ_t ℓ_it.

        token      s_i = 1 / Σ_{counted j} |o_j|       the mean over tokens (DAPO, arXiv 2503.14476, 3.3)
        sequence   s_i = 1 / (rows |o_i|)              the mean over rows of each row's mean (GRPO, arXiv 2402.03300)
        constant   s_i = 1 / (rows budget)             no length in it (Dr. GRPO, arXiv 2503.20783, 3.2)

    where rows is the number of counted rows. The factors are computed once from all rows of an optimiser step, on all
    its micro-batches, so that a sum over any split of the rows is the same loss. A mean of micro-batch means is not:
    for token losses (1, 2) and (0.5) it gives 1.0, the mean over tokens 1.1667.

    Args:
        aggregate: the kind of mean.
        length: response tokens of each row, int64, shape (N,).
        counted: rows that enter the denominator, bool, shape (N,).
        selected: rows whose losses are summed, bool, shape (N,).
        budget: the response budget L_max, in tokens.

    Returns:
        float64 of shape (N,); 0 for rows that are not selected or have no tokens, and everywhere if nothing is
        counted.
    """
    assert length.ndim == 1 and length.dtype == torch.int64, f"length: int64 (N,), found {length.dtype} {length.shape}"
    assert counted.shape == length.shape and counted.dtype == torch.bool, f"counted: bool (N,), found {counted.shape}"
    assert selected.shape == length.shape and selected.dtype == torch.bool, f"selected: bool (N,), {selected.shape}"
    assert budget > 0, f"the response budget must be at least one token, found {budget}"
    rows = counted.sum()
    match aggregate:
        case "token":
            denominator = length[counted].sum().expand_as(length)
        case "sequence":
            denominator = rows * length
        case "constant":
            denominator = (rows * budget).expand_as(length)
        case _:
            assert_never(aggregate)
    used = selected & (length > 0) & (denominator > 0)
    return torch.where(used, 1 / denominator.clamp(min=1).double(), 0)
