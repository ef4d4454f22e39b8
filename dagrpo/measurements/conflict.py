"""Measure conflict in the mixed groups of a run's snapshots: one JSON object a group."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dagrpo import seeds
from dagrpo.algorithm import Recipe, Rows, find_method, rows_of
from dagrpo.config import TrainSpec
from dagrpo.diagnostics.conflict import (
    conflict_index,
    net_coefficients,
    shared_pairs,
    shuffled_weights,
    signed_cosines,
)
from dagrpo.diagnostics.gradients import Part, Sketch, flat, gram, rollout_gradients
from dagrpo.errors import UserError
from dagrpo.files.checkpoints import write_atomically
from dagrpo.objectives.gates import margin_mask
from dagrpo.objectives.similarity import jaccard, ngrams
from dagrpo.policy.checkpoint import load_policy
from dagrpo.policy.device import resolve_device
from dagrpo.processes.signals import ShouldStop, check, never
from dagrpo.progress import progress
from dagrpo.scorers import ConfiguredScorer, ScoreRequest, Tools, make_scorer, to_ten
from dagrpo.trainer.snapshots import GROUPS, MODEL, StoredGroup, read_groups, snapshot_steps

DRAWS = 64
NGRAM = 2


@dataclass(frozen=True, slots=True)
class Settings:
    """What of the snapshots is measured, and how.

    ``groups`` bounds the mixed groups of each snapshot, in order; ``delta`` is the margin of the mask that is tried on
    groups of a method without one; ``part`` of the model and ``projection`` (numbers kept of a gradient) are for models
    whose whole gradients are too large to keep for each row of a group.
    """

    groups: int | None = None
    delta: float = 3.0
    part: Part = "all"
    projection: int | None = None


@dataclass(frozen=True, slots=True)
class Credit:
    """Columns of a group, float64, (N,): advantage before the mask, coefficient after it, weight, score (NaN: none)."""

    advantage: Tensor
    after: Tensor
    weight: Tensor
    score: Tensor


def measure(
    spec: TrainSpec, snapshots: Path, out: Path, settings: Settings | None = None, should_stop: ShouldStop = never
) -> None:
    """Write a line for each mixed group of all snapshots below a folder; no lines where there are none.

    Raises:
        UserError: the folder is missing, or a snapshot or a score cannot be had.
        Interrupted: ``should_stop`` became true; nothing is written.
    """
    settings = settings or Settings()
    if not snapshots.is_dir():
        raise UserError(f"{snapshots}: no such folder; give the folder `snapshots` of a training run")
    torch.set_num_threads(spec.train.threads)
    phases = find_method(spec.method).algorithm(spec.options, f"arms.{spec.arm}.options").phases
    recipe = next((phase.recipe for phase in phases if phase.recipe.samples), phases[0].recipe)
    chosen = {
        step: (folder, mixed_groups(recipe, read_groups(folder / GROUPS))[: settings.groups])
        for step, folder in snapshot_steps(snapshots).items()
    }
    lines: list[str] = []
    with progress(f"conflict of {spec.arm}", sum(len(groups) for _, groups in chosen.values())) as report:
        for step, (folder, groups) in chosen.items():
            policy = load_policy(folder / MODEL, resolve_device(spec.device))
            with make_scorer(spec.scorer, Tools(policy, should_stop)) as scorer:
                scores = scores_of(groups, scorer)
            read = flat if settings.projection is None else Sketch(settings.projection)
            gradients = partial(
                rollout_gradients,
                policy.model,
                temperature=spec.train.temperature,
                read=read,
                part=settings.part,
                should_stop=should_stop,
            )
            for group, score in zip(groups, scores, strict=True):
                check(should_stop)
                products = gram(gradients(group.prompt_tokens, [row.tokens for row in group.rows]))
                credit = credit_of(recipe, group, score, settings.delta)
                line = {"step": step, **describe(group, credit, products, seeds.key("conflict", step))}
                lines.append(json.dumps(line) + "\n")
                report(len(lines))
    write_atomically(out, "".join(lines).encode())


def mixed_groups(recipe: Recipe, groups: Sequence[StoredGroup]) -> list[StoredGroup]:
    """The groups that hold advantages of both signs before any mask."""
    signs = [(group, advantages(recipe, group).sign()) for group in groups]
    return [group for group, sign in signs if sign.min() < 0 < sign.max()]


def scores_of(groups: Sequence[StoredGroup], scorer: ConfiguredScorer) -> list[Tensor]:
    """The scores of each group's rows, (N,), on the scale 1 to 10; a group without any stored score is scored now."""
    bare = [group for group in groups if all(row.score is None for row in group.rows)]
    made = iter(scorer.score([request for group in bare for request in _requests(group)]) if bare else [])
    return [
        torch.tensor([to_ten(next(made)) for _ in group.rows], dtype=torch.float64)
        if group in bare
        else _columns(group).score
        for group in groups
    ]


def advantages(recipe: Recipe, group: StoredGroup) -> Tensor:
    """The advantages of a group before any mask, from its stored rewards: (N,)."""
    return recipe.advantage(_columns(group))


def credit_of(recipe: Recipe, group: StoredGroup, score: Tensor, delta: float) -> Credit:
    """What the rows of a group are worth before and after the mask: the method's own, else that of a margin."""
    columns, advantage = _columns(group), advantages(recipe, group)
    if recipe.weight:
        return Credit(advantage, columns.weight * columns.advantage, columns.weight, score)
    weight = margin_mask(advantage, score, columns.group, delta)
    return Credit(advantage, weight * advantage, weight, score)


def describe(group: StoredGroup, credit: Credit, products: Tensor, key: int) -> dict[str, Any]:
    """What is said of one group: conflict, what is left on shared tokens, and each positive-negative pair.

    ``conflict_*`` is the index of the whole group: before the mask; after it; and after the same weights were handed
    to random rows, or to random rows of the same side, in the mean of some draws. ``null`` where the mask drops all.

    ``shared_*`` is about the (context, token) pairs that rows of both sides hold: their number, and the mean over them
    of the net coefficient and of its absolute value. ``common_*`` is about the pairs that all rows of the group hold:
    their number, and the net coefficient, the same for each. ``_sum`` is Σ c_i (a constant length), ``_mean`` is
    Σ c_i / |o_i|.
    """
    rows, before, after = group.rows, credit.advantage, credit.after
    positive, negative = before > 0, before < 0
    kept = after != 0
    generator = seeds.generator("conflict", key, group.problem.id)
    random, random_by_side = (
        conflict_index(
            products, before * shuffled_weights(credit.weight, before, DRAWS, generator, within_sides=within)
        ).mean()
        for within in (False, True)
    )
    line: dict[str, Any] = {
        "problem": group.problem.id,
        "family": group.problem.family,
        "level": group.problem.level,
        "rows": len(rows),
        "positives": int(positive.sum()),
        "negatives": int(negative.sum()),
        "kept_positives": int((positive & kept).sum()),
        "kept_negatives": int((negative & kept).sum()),
        "conflict_before": conflict_index(products, before),
        "conflict_after": conflict_index(products, after),
        "conflict_random": random,
        "conflict_random_by_side": random_by_side,
    }
    shared = shared_pairs([row.tokens for row in rows])
    opposed = [pair for pair in shared if positive[list(pair)].any() and negative[list(pair)].any()]
    common = [pair for pair in shared if len(pair) == len(rows)]
    length = torch.tensor([len(row.tokens) for row in rows], dtype=torch.float64)
    line |= {"shared_pairs": len(opposed), "common_pairs": len(common)}
    for when, coefficient in (("before", before), ("after", after)):
        for form, scaled in (("sum", coefficient), ("mean", coefficient / length)):
            net = net_coefficients(opposed, scaled)
            line[f"shared_net_{form}_{when}"] = net.mean()
            line[f"shared_absolute_{form}_{when}"] = net.abs().mean()
            line[f"common_net_{form}_{when}"] = scaled.sum()
    plain = {name: _plain(value) if isinstance(value, Tensor) else value for name, value in line.items()}
    return {**plain, "pairs": _pairs(group, credit, products)}


def _pairs(group: StoredGroup, credit: Credit, products: Tensor) -> list[dict[str, Any]]:
    cosines = signed_cosines(products, credit.advantage)
    grams = [ngrams(row.tokens, NGRAM) for row in group.rows]
    return [
        {
            "positive": group.rows[j].index,
            "negative": group.rows[k].index,
            "anchor": "anchor" in (group.rows[j].source, group.rows[k].source),
            "cosine": _plain(cosines[j, k]),
            "score_gap": _plain(credit.score[j] - credit.score[k]),
            "overlap": jaccard(grams[j], grams[k]),
            "kept": bool(credit.after[j] != 0 and credit.after[k] != 0),
        }
        for j in (credit.advantage > 0).nonzero().flatten().tolist()
        for k in (credit.advantage < 0).nonzero().flatten().tolist()
    ]


def _columns(group: StoredGroup) -> Rows:
    rows = group.rows

    columns: dict[str, Any] = {
        "group": [0] * len(rows),
        "anchor": [row.source == "anchor" for row in rows],
        "correct": [row.verdict == "correct" for row in rows],
        "truncated": [row.finish == "length" for row in rows],
        "length": [len(row.tokens) for row in rows],
        "reward": [row.reward for row in rows],
        "score": [math.nan if row.score is None else row.score for row in rows],
        "advantage": [row.advantage for row in rows],
        "weight": [row.weight for row in rows],
    }
    return rows_of(columns, torch.float64)


def _requests(group: StoredGroup) -> list[ScoreRequest]:
    return [
        ScoreRequest(group.problem, row.text, row.verdict, row.finish == "stop", group.prompt_tokens, row.tokens)
        for row in group.rows
    ]


def _plain(value: Tensor) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number
