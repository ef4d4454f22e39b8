"""One step's updates: pack the rows that have a gradient, accumulate, clip, step.

Where several processes train together, each has its share of the micro-batches and all know all rows. What is counted
or compared over rows is so everywhere the same; gradients are summed by the backward pass.
"""

import json
import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dagrpo.algorithm import Memory, Recipe, SequenceTerm, UpdateContext, select
from dagrpo.config import Optimizer, Train
from dagrpo.errors import UserError
from dagrpo.policy.logprobs import Logps
from dagrpo.policy.packing import MicroBatch, PackedGroup, pack
from dagrpo.policy.sharding import Weights
from dagrpo.processes.signals import ShouldStop, check
from dagrpo.processes.world import World
from dagrpo.trainer.collect import Step
from dagrpo.trainer.loss import (
    Planned,
    Slopes,
    active_rows,
    clipped_tokens,
    known_everywhere,
    micro_loss,
    plan,
    sequence_slopes,
    sequence_surrogate,
    totals,
)
from dagrpo.trainer.token_weights import token_weights


@dataclass(frozen=True, slots=True)
class Update:
    """What one optimiser step reads: planned terms over its rows, the packed micro-batches of this process, and for the
    tokens of each (n,) the log-probabilities (nats) that they were sampled or written with, whether they are an
    anchor's, and their weights where the recipe gives any."""

    planned: Planned
    micros: list[MicroBatch]
    sampled_logp: list[Tensor]
    anchor: list[Tensor]
    weight: list[Tensor] | None


@dataclass(slots=True)
class Tally:
    """What the updates of a step add up to, in one process or in all.

    ``skipped`` counts updates with a loss or gradient that is not finite, of which nothing else is here.
    """

    losses: list[float] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    gaps: list[Tensor] = field(default_factory=list)
    clipped: int = 0
    clippable: int = 0
    trained: int = 0
    skipped: int = 0

    def everywhere(self, world: World) -> "Tally":
        """What it adds up to in all processes; the norm is that of the whole gradient anyway."""
        tallies = world.gather(self)
        return Tally(
            losses=[sum(parts) for parts in zip(*(tally.losses for tally in tallies), strict=True)],
            norms=self.norms,
            gaps=[gap for tally in tallies for gap in tally.gaps],
            clipped=sum(tally.clipped for tally in tallies),
            clippable=sum(tally.clippable for tally in tallies),
            trained=sum(tally.trained for tally in tallies),
            skipped=self.skipped,
        )

    def add(self, part: "Tally", gaps: bool) -> None:
        """Count an update in; its gaps where they are not those of an earlier pass over the same rows."""
        self.losses += part.losses
        self.norms += part.norms
        self.gaps += part.gaps if gaps else []
        self.clipped, self.clippable = self.clipped + part.clipped, self.clippable + part.clippable
        self.trained += part.trained

    def figures(self) -> dict[str, float]:
        """Means over the updates; ``logp_gap`` is the mean distance of sampled log-probabilities from those that the
        policy of the step's start gives the same tokens."""
        figures: dict[str, float] = {}
        if self.losses or not self.skipped:
            count = max(1, len(self.losses))
            figures |= {"loss": sum(self.losses) / count, "grad_norm": sum(self.norms) / count}
        figures["trained_tokens"] = self.trained
        if self.skipped:
            figures["skipped_updates"] = self.skipped
        if self.clippable:
            figures["clip_share"] = self.clipped / self.clippable
        gap = torch.cat(self.gaps) if self.gaps else torch.empty(0)
        if len(gap):
            figures["logp_gap"] = float(gap.double().mean())
        return figures


def updates_of(weights: Weights, step: Step, recipe: Recipe, train: Train, number: int, steps: int) -> list[Update]:
    """Cut a step's groups into ``train.updates`` equal parts (by prompts), each with its own global denominators."""
    sampled = [any(rollout.source == "policy" for rollout in group.rollouts) for group in step.groups]
    own, streamed = (torch.tensor([i for i, flag in enumerate(sampled) if flag is kind]) for kind in (True, False))
    parts = [
        torch.cat([part.long() for part in both])
        for both in zip(*(torch.tensor_split(numbers, train.updates) for numbers in (own, streamed)), strict=True)
    ]
    with weights.whole() if recipe.token_weight else nullcontext():
        return [_update(weights, step, sorted(part.tolist()), recipe, train, number, steps) for part in parts]


def _update(
    weights: Weights, step: Step, numbers: list[int], recipe: Recipe, train: Train, number: int, steps: int
) -> Update:
    rows = select(step.rows, torch.isin(step.rows.group, torch.tensor(numbers, dtype=torch.long)))
    planned = plan(recipe.objective, UpdateContext(rows, number, steps), train.max_new_tokens)
    active = active_rows(planned).tolist()
    groups, packed, first = [step.groups[number] for number in numbers], [], 0
    for group in groups:
        chosen = [i for i in range(len(group.rollouts)) if active[first + i]]
        if chosen:
            responses = [group.rollouts[i].tokens for i in chosen]
            packed.append(PackedGroup(group.prompt_tokens, responses, [first + i for i in chosen]))
        first += len(group.rollouts)
    micros = pack(packed, train.micro_tokens, (weights.world.rank, weights.world.size))
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    sampled = [_by_token(micro, [rollout.logps for rollout in rollouts]) for micro in micros]
    weight = None
    if recipe.token_weight:
        of_row = token_weights(weights, recipe.token_weight, groups, rows, active, train)
        weight = [_by_token(micro, of_row) for micro in micros]
    return Update(planned, micros, sampled, [rows.anchor[micro.row.cpu()] for micro in micros], weight)


def _by_token(micro: MicroBatch, of_row: Sequence[Sequence[float]]) -> Tensor:
    """What is known of each row's tokens, in the order of a micro-batch's tokens: (n,)."""
    order = list(dict.fromkeys(micro.row.tolist()))
    return torch.tensor([value for row in order for value in of_row[row]])


def learn(
    weights: Weights,
    reference: Weights | None,
    optimizer: torch.optim.AdamW,
    recipe: Recipe,
    step: Step,
    train: Train,
    settings: Optimizer,
    rate: float,
    memory: Memory,
    should_stop: ShouldStop,
    number: int = 0,
    steps: int = 1,
) -> dict[str, float]:
    """Run the updates of one step in place and return their figures.

    An update with a loss or a gradient that is not finite changes nothing: neither weights nor optimiser nor memory.

    Args:
        memory: what the losses of the recipe remember; read and written.
        number, steps: which step of its phase this is, from 0, and of how many.

    Raises:
        UserError: a slot of the method gave something of the wrong form, or a loss without a gradient.
        Interrupted: between micro-batches, while the weights are still those of the step's start. Once a step of
            several updates has made its first, it is finished, so that the state always lies between two steps.
    """
    updates = updates_of(weights, step, recipe, train, number, steps)
    several = len(updates) * recipe.epochs > 1
    old = [_frozen(weights, update, train, should_stop) for update in updates] if several else None
    fixed = [_frozen(reference, update, train, should_stop) for update in updates] if reference else None
    for group in optimizer.param_groups:
        group["lr"] = rate
    tally, made = Tally(), 0
    for epoch in range(recipe.epochs):
        for index, update in enumerate(updates):
            optimizer.zero_grad(set_to_none=True)
            stop = should_stop if epoch == index == 0 else None
            remembered, part = json.dumps(memory), Tally()
            _accumulate(
                weights,
                recipe,
                update,
                old[index] if old else None,
                fixed[index] if fixed else None,
                train,
                memory,
                part,
                stop,
            )
            part.norms.append(weights.clip(settings.clip))
            if _unsound(part, weights.world):
                optimizer.zero_grad(set_to_none=True)
                memory.clear()
                memory.update(json.loads(remembered))
                tally.skipped += 1
                continue
            tally.add(part, gaps=epoch == 0)
            if update.micros:
                optimizer.step()
                made += 1
    figures = tally.everywhere(weights.world).figures()
    return {**figures, "lr": rate, "optimiser_steps": made}


def _unsound(part: Tally, world: World) -> bool:
    """Whether the loss or the gradient of an update is not finite in any process."""
    return world.agreed(lambda: not all(map(math.isfinite, [*part.losses, *part.norms])))()


def _accumulate(
    weights: Weights,
    recipe: Recipe,
    update: Update,
    old: list[Tensor] | None,
    fixed: list[Tensor] | None,
    train: Train,
    memory: Memory,
    tally: Tally,
    should_stop: ShouldStop | None,
) -> None:
    """Add the gradient of one update to the parameters, micro-batch after micro-batch."""
    entropy_gradient = any(not isinstance(term, SequenceTerm) and term.needs_entropy for term in recipe.objective)

    def forward(micro: MicroBatch) -> Logps:
        return weights.logps(micro, train.temperature, entropy_gradient)

    def old_of(index: int, logp: Tensor) -> Tensor:
        sampled, anchor = update.sampled_logp[index].to(logp), update.anchor[index].to(logp.device)
        return torch.where(anchor, sampled, logp.detach() if old is None else old[index])

    slopes: Slopes | None = None
    held: list[Logps] | None = None
    if update.planned.sequences and update.micros:
        # A single micro-batch keeps its graph; several are computed twice, for no one of them sees the others.
        held = [forward(update.micros[0])] if len(update.micros) == 1 else None
        seen = [held[0].logp.detach()] if held else _frozen(weights, update, train, should_stop)
        columns = [torch.cat([old_of(i, logp) for i, logp in enumerate(seen)])]
        columns += [torch.cat(fixed)] if fixed else []
        row = torch.cat([micro.row for micro in update.micros]).to(columns[0].device)
        known = totals(row, torch.cat(seen), columns[0], columns[1] if fixed else None, len(update.planned.rows.group))
        slopes = sequence_slopes(update.planned, known_everywhere(known, row, weights.world), memory)
    loss = slopes.value if slopes and weights.world.leads else 0.0
    for index, micro in enumerate(update.micros):
        if should_stop is not None:
            check(should_stop)
        out = held[index] if held else forward(micro)
        old_logp = old_of(index, out.logp)
        factor = _factor(update, index, old_logp, train)
        part = micro_loss(
            update.planned, out.row, out.logp, old_logp, out.entropy, fixed[index] if fixed else None, factor
        )
        loss += float(part.detach())
        pushed = part if slopes is None else part + sequence_surrogate(slopes, out.row, out.logp, old_logp)
        if not pushed.requires_grad:
            raise UserError(
                "the slot `objective` gave a loss without a gradient; its terms must read `logp` undetached"
            )
        pushed.backward()
        cut, of = clipped_tokens(update.planned, out.row, out.logp.detach(), old_logp)
        tally.clipped, tally.clippable = tally.clipped + cut, tally.clippable + of
        tally.trained += len(out.logp)
        anchor = update.anchor[index].to(out.logp.device)
        tally.gaps.append((old_logp - update.sampled_logp[index].to(out.logp)).abs()[~anchor].cpu())
    tally.losses.append(loss)


def _factor(update: Update, index: int, old_logp: Tensor, train: Train) -> Tensor | None:
    """The weight of each token: the recipe's, and the correction for a sampler that is not quite the policy."""
    factor = None if update.weight is None else update.weight[index].to(old_logp)
    if train.sampler_correction is None:
        return factor
    anchor = update.anchor[index].to(old_logp.device)
    gap = old_logp - update.sampled_logp[index].to(old_logp)
    correction = torch.where(anchor, 1.0, gap.exp().clamp(max=train.sampler_correction))
    return correction if factor is None else factor * correction


def _frozen(weights: Weights, update: Update, train: Train, should_stop: ShouldStop | None) -> list[Tensor]:
    logps = []
    with torch.no_grad():
        for micro in update.micros:
            if should_stop is not None:
                check(should_stop)
            logps.append(weights.logps(micro, train.temperature).logp)
    return logps
