"""The figures of one step, as a flat dictionary: pure functions, so that identical runs write identical lines."""

from dataclasses import replace

import torch
from torch import Tensor

from dagrpo.algorithm import Recipe, Rows, UpdateContext
from dagrpo.trainer.collect import Step
from dagrpo.trainer.credit import all_wrong_rows, group_any, mixed_rows
from dagrpo.trainer.loss import active_rows, plan


def rollout_metrics(step: Step, recipe: Recipe) -> dict[str, float]:
    """Reward, accuracy, lengths, entropy, and what anchors and the gate did, of a reinforcement step."""
    rows, policy, consumed = step.rows, ~step.rows.anchor, step.consumed
    rollouts = [rollout for group in step.groups for rollout in group.rollouts if rollout.source == "policy"]
    entropies = [entropy for rollout in rollouts for entropy in rollout.entropies]
    own = group_any(policy, rows.group)
    figures: dict[str, float] = {
        "reward": _mean(rows.reward[policy]),
        "accuracy": consumed.correct / max(1, consumed.samples),
        "response_tokens": _mean(rows.length[policy]),
        "truncated_share": _mean(rows.truncated[policy]),
        "mixed_groups": _mean(group_any(mixed_rows(rows), rows.group)[own]),
        "samples": consumed.samples,
        "prompt_tokens": consumed.prompt_tokens,
        "response_tokens_total": consumed.response_tokens,
    }
    if entropies:
        figures["entropy"] = float(torch.tensor(entropies, dtype=torch.float64).mean())
    levels = torch.tensor([-1 if group.problem.level is None else group.problem.level for group in step.groups])
    levels = torch.where(own, levels, -1)
    signal = group_any(rows.weight * rows.advantage != 0, rows.group)
    for level in sorted(set(levels.tolist()) - {-1}):
        figures[f"accuracy/level{level}"] = _mean(rows.correct[policy & (levels[rows.group] == level)])
        figures[f"signal_groups/level{level}"] = _mean(signal[levels == level])
    if recipe.filter is not None:
        figures |= {"filter/groups": int(own.sum()), "filter/rounds": consumed.rounds}
    if recipe.data == "both":
        figures |= demonstration_metrics(step)
    if recipe.anchors is not None:
        push = (rows.weight * rows.advantage).abs()
        figures["anchors"] = int(rows.anchor.sum())
        figures["anchor/advantage"] = _mean(rows.advantage[rows.anchor])
        figures["anchor/push"] = float(push[rows.anchor].sum() / push.sum()) if bool(push.any()) else float("nan")
        figures["anchor/kept"] = int(
            (rows.anchor & active_rows(plan(recipe.objective, UpdateContext(rows), budget=1))).sum()
        )
        figures["anchor/rejected"] = step.rejected
    asked = _asked(recipe, rows)
    if bool(asked.any()):
        figures["score/asked"] = int(asked.sum())
        figures["score/missing"] = _mean(rows.score[asked].isnan())
    if recipe.weight:
        figures |= _gate_metrics(step, recipe)
    return {name: value for name, value in figures.items() if value == value}


def _asked(recipe: Recipe, rows: Rows) -> Tensor:
    """Rows whose score was asked for: bool, (N,)."""
    match recipe.scores:
        case "never":
            return torch.zeros_like(rows.anchor)
        case "mixed":
            return mixed_rows(replace(rows, advantage=recipe.advantage(rows)))
        case "all_wrong":
            return all_wrong_rows(rows)
        case "wrong":
            return ~rows.correct


def _gate_metrics(step: Step, recipe: Recipe) -> dict[str, float]:
    """What the gate did, its two sides taken from the advantage before a baseline was taken anew."""
    rows = replace(step.rows, advantage=recipe.advantage(step.rows))
    positive, negative, kept = rows.advantage > 0, rows.advantage < 0, rows.weight > 0
    mixed = mixed_rows(rows)
    groups = group_any(mixed, rows.group)
    keeps_positive, keeps_negative = group_any(positive & kept, rows.group), group_any(negative & kept, rows.group)
    figures = {
        "masked_share": 1.0 - _mean(rows.weight[mixed]),
        "sum_lambda_A": float((step.rows.weight * step.rows.advantage).sum()) / len(step.groups),
        "mask/keep_pos": _mean(kept[positive]),
        "mask/keep_neg": _mean(kept[negative]),
        "mask/empty_groups": _mean((groups & ~keeps_positive & ~keeps_negative)[groups]),
        "mask/one_sided_groups": _mean((groups & (keeps_positive ^ keeps_negative))[groups]),
    }
    gaps = _score_gaps(rows.score, rows.advantage, rows.group)
    if len(gaps):
        figures["score/gap"] = _mean(gaps)
        counts = torch.histogram(gaps.double(), bins=18, range=(-9.0, 9.0)).hist
        figures |= {
            f"score/gap_from{low}": int(count) for low, count in zip(range(-9, 9), counts, strict=True) if count
        }
    return figures


def _score_gaps(score: Tensor, advantage: Tensor, group: Tensor) -> Tensor:
    """Worst positive minus best negative score of each group that has both: (groups with both,)."""
    gaps = []
    for number in group.unique().tolist():
        mine = group == number
        good, bad = score[mine & (advantage > 0)], score[mine & (advantage < 0)]
        good, bad = good[~good.isnan()], bad[~bad.isnan()]
        if len(good) and len(bad):
            gaps.append(good.min() - bad.max())
    return torch.stack(gaps) if gaps else torch.empty(0)


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if values.numel() else float("nan")


def demonstration_metrics(step: Step) -> dict[str, float]:
    """How many demonstrations, each a group of its own, a step read."""
    streamed = [group for group in step.groups if all(rollout.source == "anchor" for rollout in group.rollouts)]
    tokens = sum(len(rollout.tokens) for group in streamed for rollout in group.rollouts)
    return {"demonstrations": len(streamed), "demonstration_tokens": tokens}
