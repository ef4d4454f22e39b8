"""One step's updates: pack the rows that have a gradient, accumulate, clip, step."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from dagrpo.algorithm import Recipe, Rows
from dagrpo.config import Optimizer, Train
from dagrpo.policy.checkpoint import Policy
from dagrpo.policy.logprobs import token_logps
from dagrpo.policy.packing import MicroBatch, PackedGroup, pack
from dagrpo.records import Group
from dagrpo.signals import ShouldStop, check
from dagrpo.trainer.collect import Step
from dagrpo.trainer.loss import PlannedTerm, active_rows, clipped_tokens, micro_loss, plan


@dataclass(frozen=True, slots=True)
class Update:
    """What one optimiser step reads: planned terms over its rows, its packed micro-batches, and for the tokens of each
    (n,) the log-probabilities (nats) that they were sampled or written with, and whether they are an anchor's."""

    planned: list[PlannedTerm]
    micros: list[MicroBatch]
    sampled_logp: list[Tensor]
    anchor: list[Tensor]


def updates_of(step: Step, recipe: Recipe, train: Train) -> list[Update]:
    """Cut a step's groups into ``train.updates`` equal parts (by prompts), each with its own global denominators."""
    parts = torch.arange(len(step.groups)).chunk(train.updates)
    return [_update(step, part.tolist(), recipe, train) for part in parts]


def _update(step: Step, numbers: list[int], recipe: Recipe, train: Train) -> Update:
    mine = torch.isin(step.rows.group, torch.tensor(numbers))
    rows = Rows(**{field.name: getattr(step.rows, field.name)[mine] for field in fields(Rows)})
    planned = plan(recipe.objective, rows, train.max_new_tokens)
    active = active_rows(planned).tolist()
    groups, packed, first = [step.groups[number] for number in numbers], [], 0
    for group in groups:
        chosen = [i for i in range(len(group.rollouts)) if active[first + i]]
        if chosen:
            responses = [group.rollouts[i].tokens for i in chosen]
            packed.append(PackedGroup(group.prompt_tokens, responses, [first + i for i in chosen]))
        first += len(group.rollouts)
    micros = pack(packed, train.micro_tokens)
    sampled = [_sampled(micro, groups) for micro in micros]
    return Update(planned, micros, sampled, [rows.anchor[micro.row.cpu()] for micro in micros])


def _sampled(micro: MicroBatch, groups: Sequence[Group]) -> Tensor:
    """The log-probabilities (nats) that a micro-batch's tokens were sampled with, or an anchor's author's: (n,)."""
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    order = list(dict.fromkeys(micro.row.tolist()))
    return torch.tensor([logp for row in order for logp in rollouts[row].logps])


def learn(
    policy: Policy,
    reference: Policy | None,
    optimizer: torch.optim.AdamW,
    recipe: Recipe,
    step: Step,
    train: Train,
    settings: Optimizer,
    rate: float,
    should_stop: ShouldStop,
) -> dict[str, float]:
    """Run the updates of one step in place and return their figures.

    Raises:
        Interrupted: between micro-batches, while the weights are still those of the step's start. Once a step of
            several updates has made its first, it is finished, so that the state always lies between two steps.
    """
    updates = updates_of(step, recipe, train)
    old = [_frozen(policy, update, train, should_stop) for update in updates] if len(updates) > 1 else None
    fixed = [_frozen(reference, update, train, should_stop) for update in updates] if reference else None
    for group in optimizer.param_groups:
        group["lr"] = rate
    losses, norms, gaps, clipped, clippable, trained = [], [], [], 0, 0, 0
    entropy_gradient = any(term.needs_entropy for term in recipe.objective)
    for number, update in enumerate(updates):
        optimizer.zero_grad(set_to_none=True)
        loss = 0.0
        for index, micro in enumerate(update.micros):
            if number == 0:
                check(should_stop)
            out = token_logps(policy.model, micro, train.temperature, entropy_gradient)
            sampled, anchor = update.sampled_logp[index].to(out.logp), update.anchor[index].to(out.logp.device)
            old_logp = torch.where(anchor, sampled, out.logp.detach() if old is None else old[number][index])
            part = micro_loss(
                update.planned, out.row, out.logp, old_logp, out.entropy, fixed[number][index] if fixed else None
            )
            part.backward()
            loss += float(part.detach())
            cut, of = clipped_tokens(update.planned, out.row, out.logp.detach(), old_logp)
            clipped, clippable, trained = clipped + cut, clippable + of, trained + len(out.logp)
            gaps.append((out.logp.detach() - sampled).abs()[~anchor].cpu())
        norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), settings.clip)
        if update.micros:
            optimizer.step()
        losses.append(loss)
        norms.append(float(norm))
    figures = {
        "loss": sum(losses) / len(losses),
        "grad_norm": sum(norms) / len(norms),
        "lr": rate,
        "trained_tokens": trained,
        "optimiser_steps": sum(bool(update.micros) for update in updates),
    }
    if clippable:
        figures["clip_share"] = clipped / clippable
    gap = torch.cat(gaps) if gaps else torch.empty(0)
    if len(gap) and old is None:
        figures["logp_gap"] = float(gap.double().mean())
    return figures


def _frozen(policy: Policy, update: Update, train: Train, should_stop: ShouldStop) -> list[Tensor]:
    logps = []
    with torch.no_grad():
        for micro in update.micros:
            check(should_stop)
            logps.append(token_logps(policy.model, micro, train.temperature, False).logp)
    return logps
