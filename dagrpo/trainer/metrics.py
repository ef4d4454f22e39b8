"""The figures of one step, as a flat dictionary: pure functions, so that identical runs write identical lines."""

import torch
from torch import Tensor

from dagrpo.algorithm import Recipe
from dagrpo.trainer.collect import Step
from dagrpo.trainer.credit import group_any, mixed_rows
from dagrpo.trainer.loss import active_rows, plan


def rollout_metrics(step: Step, recipe: Recipe) -> dict[str, float]:
    """Reward, accuracy, lengths, entropy, and what anchors and the gate did, of a reinforcement step."""
    rows, policy = step.rows, ~step.rows.anchor
    rollouts = [rollout for group in step.groups for rollout in group.rollouts if rollout.source == "policy"]
    entropies = [entropy for rollout in rollouts for entropy in rollout.entropies]
    figures: dict[str, float] = {
        "reward": _mean(rows.reward[policy]),
        "accuracy": _mean(rows.correct[policy]),
        "response_tokens": _mean(rows.length[policy]),
        "truncated_share": _mean(rows.truncated[policy]),
        "mixed_groups": _mean(group_any(mixed_rows(rows), rows.group)),
        "samples": len(rollouts),
        "prompt_tokens": sum(len(group.prompt_tokens) for group in step.groups),
        "response_tokens_total": int(rows.length[policy].sum()),
    }
    if entropies:
        figures["entropy"] = float(torch.tensor(entropies, dtype=torch.float64).mean())
    levels = torch.tensor(
        [-1 if step.groups[g].problem.level is None else step.groups[g].problem.level for g in rows.group.tolist()]
    )
    for level in sorted(set(levels.tolist()) - {-1}):
        figures[f"accuracy/level{level}"] = _mean(rows.correct[policy & (levels == level)])
    if recipe.anchors is not None:
        figures["anchors"] = int(rows.anchor.sum())
        figures["anchor/kept"] = int((rows.anchor & active_rows(plan(recipe.objective, rows, budget=1))).sum())
        figures["anchor/rejected"] = step.rejected
    if recipe.weight:
        figures |= _gate_metrics(step)
    return {name: value for name, value in figures.items() if value == value}


def _gate_metrics(step: Step) -> dict[str, float]:
    rows = step.rows
    positive, negative, kept = rows.advantage > 0, rows.advantage < 0, rows.weight > 0
    mixed = mixed_rows(rows)
    groups = group_any(mixed, rows.group)
    keeps_positive, keeps_negative = group_any(positive & kept, rows.group), group_any(negative & kept, rows.group)
    figures = {
        "masked_share": 1.0 - _mean(kept[mixed]),
        "sum_lambda_A": float((rows.weight * rows.advantage).sum()) / len(step.groups),
        "mask/keep_pos": _mean(kept[positive]),
        "mask/keep_neg": _mean(kept[negative]),
        "mask/empty_groups": _mean((groups & ~keeps_positive & ~keeps_negative)[groups]),
        "mask/one_sided_groups": _mean((groups & (keeps_positive ^ keeps_negative))[groups]),
    }
    if bool(mixed.any()) and not bool(rows.score[mixed].isnan().all()):
        figures["score/missing"] = _mean(rows.score[mixed].isnan())
        figures["score/gap"] = _mean(_score_gaps(rows.score, rows.advantage, rows.group))
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
    """What an SFT step read."""
    return {"demonstrations": len(step.groups), "demonstration_tokens": int(step.rows.length.sum())}
