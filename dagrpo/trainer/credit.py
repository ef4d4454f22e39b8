"""The slots that decide how much each row is worth: reward, advantage, score, weight."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dagrpo.algorithm import Recipe, Rows
from dagrpo.objectives.advantages import group_advantage

ScoreRows = Callable[[Tensor], Tensor]
"""Which rows are asked for, bool (N,) -> scores on the scale 1 to 10, NaN where not asked or missing, (N,)."""


def assign_credit(recipe: Recipe, rows: Rows, score: ScoreRows) -> Rows:
    """Fill ``reward``, ``advantage``, ``score`` and ``weight``; scores are asked for only where they can matter."""
    rows = replace(rows, reward=recipe.reward(rows))
    included = torch.ones_like(rows.anchor) if recipe.advantage.over == "union" else ~rows.anchor
    rows = replace(rows, advantage=group_advantage(rows.reward, rows.group, included, recipe.advantage.scale))
    if recipe.scores == "mixed":
        rows = replace(rows, score=score(mixed_rows(rows)))
    for weight in recipe.weight:
        rows = replace(rows, weight=rows.weight * weight(rows))
    return rows


def mixed_rows(rows: Rows) -> Tensor:
    """Rows of groups that hold advantages of both signs: bool, (N,). Only these can be compared by score."""
    positive, negative = (group_any(flag, rows.group) for flag in (rows.advantage > 0, rows.advantage < 0))
    return (positive & negative)[rows.group]


def group_any(flag: Tensor, group: Tensor) -> Tensor:
    """Whether any row of each group is flagged: bool, (groups,)."""
    groups = int(group.max()) + 1 if len(group) else 0
    return torch.zeros(groups, dtype=torch.bool).index_put_((group[flag],), torch.tensor(True))
