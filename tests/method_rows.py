"""Rows by hand, and a recipe's loss on them: what the tests of objectives and methods share."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

import baselines
import dagrpo.method  # noqa: F401  (registers DaGRPO)
from dagrpo.algorithm import Recipe, Rows, find_method
from dagrpo.trainer.credit import assign_credit
from dagrpo.trainer.loss import micro_loss, plan

NAN, INF = float("nan"), float("inf")

# Registered here too, so that these tests do not depend on how the package is installed.
for module in pkgutil.iter_modules(baselines.__path__):
    importlib.import_module(f"baselines.{module.name}")


def recipe(name: str, phase: int = 0, **options: Any) -> Recipe:
    """The recipe of one phase of a registered method."""
    return find_method(name).algorithm(options, "options").phases[phase].recipe


def make_rows(
    correct: Sequence[float],
    *,
    anchor: Sequence[bool] | None = None,
    score: Sequence[float] | None = None,
    distance: Sequence[float] | None = None,
    truncated: Sequence[bool] | None = None,
    group: Sequence[int] | None = None,
    length: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float64,
) -> Rows:
    """Rows as they are before the slots run; one group, policy rows and no scores where nothing is said."""
    count = len(correct)
    return Rows(
        group=torch.tensor([0] * count if group is None else group, dtype=torch.int64),
        anchor=torch.tensor([False] * count if anchor is None else anchor, dtype=torch.bool),
        correct=torch.tensor(correct, dtype=torch.bool),
        truncated=torch.tensor([False] * count if truncated is None else truncated, dtype=torch.bool),
        length=torch.tensor([1] * count if length is None else length, dtype=torch.int64),
        key=torch.arange(count, dtype=torch.int64) * 7919 + 1,
        reward=torch.zeros(count, dtype=dtype),
        score=torch.tensor([NAN] * count if score is None else score, dtype=dtype),
        distance=torch.tensor([INF] * count if distance is None else distance, dtype=dtype),
        advantage=torch.zeros(count, dtype=dtype),
        weight=torch.ones(count, dtype=dtype),
    )


def run_slots(recipe: Recipe, rows: Rows) -> Rows:
    """Fill reward, advantage and weight, as the trainer does. Scores and distances are hidden unless asked for."""
    score, distance = rows.score, rows.distance
    return assign_credit(
        recipe,
        replace(rows, score=torch.full_like(score, NAN), distance=torch.full_like(distance, INF)),
        lambda asked: torch.where(asked, score, NAN),
        lambda advantage, n: torch.where(advantage != 0, distance, INF),
    )


def select(rows: Rows, index: Tensor) -> Rows:
    """The rows at ``index``, in that order."""
    return Rows(**{field.name: getattr(rows, field.name)[index] for field in fields(Rows)})


LogpOfRow = Callable[[int], Tensor]


def recipe_loss(
    recipe: Recipe,
    rows: Rows,
    budget: int,
    logp: LogpOfRow,
    old_logp: LogpOfRow,
    reference_logp: LogpOfRow | None = None,
    members: Sequence[int] | None = None,
) -> Tensor:
    """The recipe's loss, or the part of it that the rows ``members`` carry as a micro-batch.

    The callables give the log-probabilities of a row's tokens, shape (length,).
    """
    members = range(len(rows.group)) if members is None else members
    planned = plan(recipe.objective, run_slots(recipe, rows), budget)
    row = torch.cat([torch.full((int(rows.length[i]),), i) for i in members])
    new, old = torch.cat([logp(i) for i in members]), torch.cat([old_logp(i) for i in members])
    reference = None if reference_logp is None else torch.cat([reference_logp(i) for i in members])
    return micro_loss(planned, row, new, old, torch.zeros_like(new), reference)
