"""The slots that decide how much each row is worth: reward, advantage, score, weight."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from dagrpo.algorithm import Recipe, Rows
from dagrpo.errors import UserError
from dagrpo.objectives.gates import recentred

ScoreRows = Callable[[Tensor], Tensor]
"""Which rows are asked for, bool (N,) -> scores on the scale 1 to 10, NaN where not asked or missing, (N,)."""

DistanceRows = Callable[[Rows, int], Tensor]
"""Rows with advantages, and the length of an n-gram -> distances to the other side of the group, (N,)."""


def assign_credit(recipe: Recipe, rows: Rows, score: ScoreRows, distance: DistanceRows) -> Rows:
    """Fill ``reward``, ``score``, ``advantage``, ``distance`` and ``weight``.

    Scores and distances are asked for only where they can matter.

    Raises:
        UserError: a slot of the method gave something else than a finite number for each row.
    """
    if recipe.scores in ("all_wrong", "wrong"):
        rows = replace(rows, score=score(~rows.correct if recipe.scores == "wrong" else all_wrong_rows(rows)))
    rows = replace(rows, reward=checked("reward", recipe.reward(rows), rows))
    rows = replace(rows, advantage=checked("advantage", recipe.advantage(rows), rows))
    if recipe.scores == "mixed":
        rows = replace(rows, score=score(mixed_rows(rows)))
    if recipe.distances is not None:
        rows = replace(rows, distance=distance(rows, recipe.distances))
    for number, weight in enumerate(recipe.weight):
        rows = replace(rows, weight=rows.weight * checked(f"weight[{number}]", weight(rows), rows))
    if recipe.recentred:
        rows = replace(rows, advantage=recentred(rows.advantage, rows.weight, rows.group))
    return rows


def checked(slot: str, value: object, rows: Rows, dtype: torch.dtype | None = None) -> Tensor:
    """Pass on what a slot gave for each row, if it is that.

    Args:
        slot: name of the slot, for the message.
        rows: the rows that it was given, N of them.
        dtype: ``torch.bool`` for flags; any floating point where ``None``.

    Raises:
        UserError: it is no tensor of shape (N,), of another kind, or holds NaN or infinity.
    """
    kind = "a flag (bool)" if dtype is torch.bool else "a finite number (floating point)"
    wanted = f"the slot `{slot}` must give {kind} for each of the {len(rows.group)} rows, shape ({len(rows.group)},)"
    if not isinstance(value, Tensor):
        raise UserError(f"{wanted}; it gave {type(value).__name__}")
    if value.shape != rows.group.shape:
        raise UserError(f"{wanted}; it gave shape {tuple(value.shape)}")
    if (value.dtype is not dtype) if dtype else not value.is_floating_point():
        raise UserError(f"{wanted}; it gave {str(value.dtype).removeprefix('torch.')}")
    if not bool(value.isfinite().all()):
        row = int((~value.isfinite()).nonzero()[0])
        raise UserError(f"{wanted}; row {row} is {float(value[row])}")
    return value


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
