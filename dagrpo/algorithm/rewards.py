"""Rewards and flags of rows that several methods share."""

import torch
from torch import Tensor

from dagrpo.algorithm.rows import Rows
from dagrpo.objectives.groups import group_differs


def signed_correctness(rows: Rows) -> Tensor:
    """Reward 1 for a correct final answer, else -1: shape (N,)."""
    return 2 * rows.correct.to(rows.reward.dtype) - 1


def aspects(rows: Rows) -> Tensor:
    """Three rewards, each 0 to 1: the answer is right; there is an answer at all; the share of the budget that the
    response left unused. Shape (N, 3)."""
    columns = rows.correct, rows.answered, 1 - rows.length.double() / rows.budget
    return torch.stack([column.to(rows.reward) for column in columns], 1)


def mixed_verdicts(rows: Rows) -> Tensor:
    """Rollouts of groups in which some are right and some wrong: bool, (N,)."""
    return group_differs(rows.correct.to(rows.reward), rows.group, ~rows.anchor)
