"""Rows by hand, and a recipe's loss on them: what the tests of objectives and methods share."""

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import baselines
import dagrpo.method  # noqa: F401  (registers DaGRPO)
from dagrpo.algorithm import Recipe, Rows, UpdateContext, find_method, rows_of, select
from dagrpo.trainer.credit import assign_credit
from dagrpo.trainer.loss import micro_loss, plan, sequence_slopes, sequence_surrogate, totals

__all__ = ["INF", "NAN", "make_rows", "recipe", "recipe_loss", "run_slots", "select"]

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
    **others: Sequence[float],
) -> Rows:
    """Rows as they are before the slots run; one group, policy rows with the same entropy (nats) and no scores where
    nothing is said."""
    columns: dict[str, Any] = {
        "group": [0] * len(correct) if group is None else group,
        "correct": correct,
        "key": torch.arange(len(correct)) * 7919 + 1,
        "budget": [6] * len(correct),
        "entropy": [NAN if demonstrated else 0.5 for demonstrated in anchor or [False] * len(correct)],
    }
    given = {"anchor": anchor, "score": score, "distance": distance, "truncated": truncated, "length": length}
    return rows_of(columns | {name: column for name, column in (given | others).items() if column is not None}, dtype)


def run_slots(recipe: Recipe, rows: Rows) -> Rows:
    """Fill reward, advantage and weight, as the trainer does. Scores and distances are hidden unless asked for."""
    score, distance = rows.score, rows.distance
    return assign_credit(
        recipe,
        replace(rows, score=torch.full_like(score, NAN), distance=torch.full_like(distance, INF)),
        lambda asked: torch.where(asked, score, NAN),
        lambda filled, n: torch.where(filled.advantage != 0, distance, INF),
    )


LogpOfRow = Callable[[int], Tensor]


def recipe_loss(
    recipe: Recipe,
    rows: Rows,
    budget: int,
    logp: LogpOfRow,
    old_logp: LogpOfRow,
    reference_logp: LogpOfRow | None = None,
    members: Sequence[int] | None = None,
    token_weight: LogpOfRow | None = None,
) -> Tensor:
    """The recipe's loss, or the part of it that the rows ``members`` carry as a micro-batch.

    The callables give the log-probabilities of a row's tokens, and their weights, shape (length,).
    """
    count = len(rows.group)
    members = range(count) if members is None else members
    planned = plan(recipe.objective, UpdateContext(run_slots(recipe, rows)), budget)

    def columns(chosen: Sequence[int]) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        row = torch.cat([torch.full((int(rows.length[i]),), i) for i in chosen])
        new, old = torch.cat([logp(i) for i in chosen]), torch.cat([old_logp(i) for i in chosen])
        return row, new, old, None if reference_logp is None else torch.cat([reference_logp(i) for i in chosen])

    row, new, old, reference = columns(members)
    factor = None if token_weight is None else torch.cat([token_weight(i) for i in members])
    loss = micro_loss(planned, row, new, old, torch.zeros_like(new), reference, factor)
    if planned.sequences:
        everything = columns(range(count))
        slopes = sequence_slopes(planned, totals(everything[0], everything[1].detach(), *everything[2:], count), {})
        surrogate = sequence_surrogate(slopes, row, new, old)
        loss = loss + surrogate - surrogate.detach() + slopes.value * len(members) / count
    return loss
