"""From rows to a loss with global denominators, summed over micro-batches that may be cut anywhere."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dagrpo.algorithm import Memory, Rows, Sequences, SequenceTerm, Term, Tokens, UpdateContext
from dagrpo.errors import UserError
from dagrpo.objectives.aggregation import row_scale
from dagrpo.processes.world import World
from dagrpo.trainer.credit import checked


@dataclass(frozen=True, slots=True)
class PlannedTerm:
    """A term with what it does to each row, both of shape (N,): ``coefficient`` enters the token loss, ``scale``
    multiplies it and holds the reciprocal of the global denominator (0 where the row takes no part)."""

    term: Term
    coefficient: Tensor
    scale: Tensor


@dataclass(frozen=True, slots=True)
class PlannedSequences:
    """A term over sequences: the rows that it reads, bool (N,), and its coefficient."""

    term: SequenceTerm
    selected: Tensor
    coefficient: float


@dataclass(frozen=True, slots=True)
class Planned:
    """All terms of one optimiser step."""

    rows: Rows
    tokens: list[PlannedTerm]
    sequences: list[PlannedSequences]


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over each row's tokens (nats) and the mean ratio of new to old probability, each (N,)."""

    logp: Tensor
    ratio: Tensor
    old_logp: Tensor
    reference_logp: Tensor | None


@dataclass(frozen=True, slots=True)
class Slopes:
    """The value of the terms over sequences, and its derivative by each row's summed log-probability and by its mean
    ratio, each (N,)."""

    value: float
    logp: Tensor
    ratio: Tensor


def plan(objective: Sequence[Term | SequenceTerm], context: UpdateContext, budget: int) -> Planned:
    """Fix each term's coefficients and denominators over all rows of an update, before any forward pass.

    Args:
        objective: the terms of the recipe.
        context: all rows of the update, and when it is.
        budget: response budget L_max (tokens), the divisor of the "constant" aggregate.

    Raises:
        UserError: a term selects rows by something else than a flag for each, or its coefficient is not finite.
    """
    rows = context.rows
    tokens, sequences = [], []
    for number, term in enumerate(objective):
        name = f"objective[{number}]"
        if isinstance(term, SequenceTerm):
            selected = checked(f"{name}.rows", term.rows(rows), rows, torch.bool) & (rows.length > 0)
            sequences.append(PlannedSequences(term, selected, float(_coefficient(name, term, context))))
            continue
        selected = _selected(name, term, rows)
        counted = torch.ones_like(selected) if term.count == "all" else selected
        scale = row_scale(term.aggregate, rows.length, counted, selected, budget)
        scale = _coefficient(name, term, context) * scale
        coefficient = rows.weight * rows.advantage if term.weighted else torch.ones_like(rows.advantage)
        if term.weighted:
            scale = torch.where(coefficient == 0, 0.0, scale)
        tokens.append(PlannedTerm(term, coefficient, scale))
    return Planned(rows, tokens, sequences)


def _coefficient(name: str, term: Term | SequenceTerm, context: UpdateContext) -> Tensor | float:
    """What a term is multiplied with: one number, or one for each row."""
    given = term.coefficient(context) if callable(term.coefficient) else term.coefficient
    if isinstance(given, Tensor) and given.ndim:
        return checked(f"{name}.coefficient", given, context.rows)
    if not math.isfinite(given):
        raise UserError(
            f"the slot `{name}.coefficient` must give a finite number, and gave {float(given)}; if it reads `entropy`, "
            "which vLLM does not tell, set engine.kind: torch"
        )
    return given


def _selected(name: str, term: Term, rows: Rows) -> Tensor:
    if callable(term.rows):
        return checked(f"{name}.rows", term.rows(rows), rows, torch.bool)
    return {"policy": ~rows.anchor, "anchor": rows.anchor, "all": torch.ones_like(rows.anchor)}[term.rows]


def active_rows(planned: Planned) -> Tensor:
    """Rows with a gradient: bool, shape (N,). The others need neither forward nor backward."""
    active = torch.zeros_like(planned.rows.anchor)
    for entry in planned.tokens:
        active |= entry.scale != 0
    for one in planned.sequences:
        active |= one.selected
    return active


def totals(row: Tensor, logp: Tensor, old_logp: Tensor, reference_logp: Tensor | None, rows: int) -> Totals:
    """Gather tokens by row; the arguments are columns over tokens, (n,), of any number of whole rows.

    Args:
        rows: N, of which those without tokens here get sums of 0 and a ratio of 1.
    """

    def by_row(values: Tensor) -> Tensor:
        return values.new_zeros(rows).index_add(0, row, values)

    count = by_row(torch.ones_like(logp))
    ratio = by_row((logp - old_logp).exp()) / count.clamp(min=1)
    return Totals(
        by_row(logp),
        torch.where(count > 0, ratio, 1.0),
        by_row(old_logp),
        None if reference_logp is None else by_row(reference_logp),
    )


def known_everywhere(known: Totals, row: Tensor, world: World) -> Totals:
    """The totals of all rows, of which each process knows those that ``row`` names, whole."""
    if world.size == 1:
        return known
    mine = torch.zeros_like(known.logp, dtype=torch.bool).index_fill(0, row, True)

    def joined(values: Tensor) -> Tensor:
        return world.sum(torch.where(mine, values, 0.0))

    ratio = torch.where(world.sum(mine.int()) > 0, joined(known.ratio), 1.0)
    reference = None if known.reference_logp is None else joined(known.reference_logp)
    return Totals(joined(known.logp), ratio, joined(known.old_logp), reference)


def sequence_slopes(planned: Planned, known: Totals, memory: Memory) -> Slopes:
    """Evaluate the terms over sequences once, and differentiate them by what they know of each row.

    A term compares responses that are spread over micro-batches. Its gradient is Σ_i (∂L/∂x_i) ∇x_i, where x_i belongs
    to row i alone, so the slopes ∂L/∂x_i are all that the micro-batches need of it.

    Raises:
        UserError: a term gave something else than one finite number with a gradient.
    """
    logp, ratio = known.logp.detach().requires_grad_(), known.ratio.detach().requires_grad_()
    total = logp.new_zeros(())
    for one in planned.sequences:
        here = one.selected.to(logp.device)
        reference = known.reference_logp
        given = Sequences(
            rows=planned.rows,
            logp=torch.where(here, logp, 0.0),
            ratio=torch.where(here, ratio, 1.0),
            old_logp=torch.where(here, known.old_logp, 0.0),
            reference_logp=None if reference is None else torch.where(here, reference, 0.0),
            memory=memory,
        )
        value = one.term.loss(given)
        if not isinstance(value, Tensor) or value.ndim or not bool(value.isfinite()):
            raise UserError(f"a loss over sequences must give one finite number, a tensor of shape (); it gave {value}")
        total = total + one.coefficient * value
    if not total.requires_grad:  # nothing is selected
        return Slopes(float(total), torch.zeros_like(known.logp), torch.zeros_like(known.ratio))
    slopes = torch.autograd.grad(total, (logp, ratio), allow_unused=True, materialize_grads=True)
    return Slopes(float(total.detach()), *slopes)


def micro_loss(
    planned: Planned,
    row: Tensor,
    logp: Tensor,
    old_logp: Tensor,
    entropy: Tensor,
    reference_logp: Tensor | None,
    factor: Tensor | None = None,
) -> Tensor:
    """The part of the loss over tokens that a micro-batch carries (a scalar); parts add up to the whole.

    Args:
        planned: the terms of the update.
        row: row of each token, (n,).
        logp, old_logp, entropy, reference_logp: nats, each (n,); only ``logp`` and ``entropy`` carry gradients.
        factor: weight of each token, (n,), that multiplies the coefficient of its row in weighted terms.

    Raises:
        UserError: a term gave something else than a finite number for each token.
    """
    total = logp.new_zeros(())
    for entry in planned.tokens:
        scale = entry.scale.to(logp)[row]
        here = (scale != 0).nonzero().flatten()
        coefficient = entry.coefficient.to(logp)[row[here]]
        tokens = Tokens(
            logp=logp[here],
            old_logp=old_logp[here],
            coefficient=coefficient if factor is None or not entry.term.weighted else coefficient * factor[here],
            entropy=entropy[here],
            row=row[here],
            reference_logp=None if reference_logp is None else reference_logp[here],
        )
        value = entry.term.loss(tokens)
        if not isinstance(value, Tensor) or value.shape != here.shape:
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise UserError(f"a term's loss must give a number for each of its {len(here)} tokens; it gave {shape}")
        total = total + (scale[here] * value).sum()
    return total


def sequence_surrogate(slopes: Slopes, row: Tensor, logp: Tensor, old_logp: Tensor) -> Tensor:
    """A scalar whose gradient is what the terms over sequences push on a micro-batch's rows, which are here whole."""
    known = totals(row, logp, old_logp, None, len(slopes.logp))
    return (slopes.logp * known.logp).sum() + (slopes.ratio * known.ratio).sum()


def clipped_tokens(planned: Planned, row: Tensor, logp: Tensor, old_logp: Tensor) -> tuple[int, int]:
    """How many tokens of terms with a clip or cap are held back by it, and how many tokens such terms have."""
    held = total = 0
    for entry in planned.tokens:
        if entry.term.clipped is None:
            continue
        here = (entry.scale.to(logp)[row] != 0).nonzero().flatten()
        coefficient = entry.coefficient.to(logp)[row[here]]
        tokens = Tokens(logp[here], old_logp[here], coefficient, torch.zeros_like(coefficient), row[here])
        held += int(entry.term.clipped(tokens).sum())
        total += len(here)
    return held, total
