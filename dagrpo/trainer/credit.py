"""The slots that decide how much each row is worth: reward, advantage, score, weight."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dagrpo.algorithm import Recipe, Rows
from dagrpo.objectives.advantages import group_advantage
from dagrpo.objectives.gates import recentred

ScoreRows = Callable[[Tensor], Tensor]
"""Which rows are asked for, bool (N,) -> scores on the scale 1 to 10, NaN where not asked or missing, (N,)."""

DistanceRows = Callable[[Tensor, int], Tensor]
"""Advantages (N,) and the length of an n-gram -> distances to the other side of the group, (N,)."""


def assign_credit(recipe: Recipe, rows: Rows, score: ScoreRows, distance: DistanceRows) -> Rows:
    """Fill ``reward``, ``score``, ``advantage``, ``distance`` and ``weight``.

    Scores and distances are asked for only where they can matter.
    """
    if recipe.scores in ("all_wrong", "wrong"):
        rows = replace(rows, score=score(~rows.correct if recipe.scores == "wrong" else all_wrong_rows(rows)))
    rows = replace(rows, reward=recipe.reward(rows))
    rows = replace(rows, advantage=raw_advantage(recipe, rows))
    if recipe.scores == "mixed":
        rows = replace(rows, score=score(mixed_rows(rows)))
    if recipe.distances is not None:
        rows = replace(rows, distance=distance(rows.advantage, recipe.distances))
    for weight in recipe.weight:
        rows = replace(rows, weight=rows.weight * weight(rows))
    if recipe.advantage.recentred:
        rows = replace(rows, advantage=recentred(rows.advantage, rows.weight, rows.group))
    return rows


def mixed_rows(rows: Rows) -> Tensor:
    """Rows of groups that hold advantages of both signs: bool, (N,). Only these can be compared by score."""
    positive, negative = (group_any(flag, rows.group) for flag in (rows.advantage > 0, rows.advantage < 0))
    return (positive & negative)[rows.group]


def all_wrong_rows(rows: Rows) -> Tensor:
    """Rows of groups without a correct row: bool, (N,)."""
    return ~group_any(rows.correct, rows.group)[rows.group]


def group_any(flag: Tensor, group: Tensor) -> Tensor:
    """Whether any row of each group is flagged: bool, (groups,)."""
    groups = int(group.max()) + 1 if len(group) else 0
    return torch.zeros(groups, dtype=torch.bool).index_put_((group[flag],), torch.tensor(True))


def raw_advantage(recipe: Recipe, rows: Rows) -> Tensor:
    """The advantage as the rewards give it, before any gate: (N,)."""
    settings = recipe.advantage
    included = torch.ones_like(rows.anchor) if settings.over == "union" else ~rows.anchor
    advantage = group_advantage(rows.reward, rows.group, included, settings.scale)
    return torch.where(rows.truncated, 0, advantage) if settings.zero_truncated else advantage
