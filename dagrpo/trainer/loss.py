"""From rows to a loss with global denominators, summed over micro-batches that may be cut anywhere."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dagrpo.algorithm import Rows, Term, Tokens
from dagrpo.objectives.aggregation import row_scale


@dataclass(frozen=True, slots=True)
class PlannedTerm:
    """A term with what it does to each row, both of shape (N,): ``coefficient`` enters the token loss, ``scale``
    multiplies it and holds the reciprocal of the global denominator (0 where the row takes no part)."""

    term: Term
    coefficient: Tensor
    scale: Tensor


def plan(objective: Sequence[Term], rows: Rows, budget: int) -> list[PlannedTerm]:
    """Fix each term's coefficients and denominators over all rows of an update, before any forward pass.

    Args:
        objective: the terms of the recipe.
        rows: all rows of the update.
        budget: response budget L_max (tokens), the divisor of the "constant" aggregate.
    """
    planned = []
    for term in objective:
        selected = {"policy": ~rows.anchor, "anchor": rows.anchor, "all": torch.ones_like(rows.anchor)}[term.rows]
        counted = torch.ones_like(selected) if term.count == "all" else selected
        scale = term.coefficient * row_scale(term.aggregate, rows.length, counted, selected, budget)
        coefficient = rows.weight * rows.advantage if term.weighted else torch.ones_like(rows.advantage)
        if term.weighted:
            scale = torch.where(coefficient == 0, 0.0, scale)
        planned.append(PlannedTerm(term, coefficient, scale))
    return planned


def active_rows(planned: Sequence[PlannedTerm]) -> Tensor:
    """Rows with a gradient: bool, shape (N,). The others need neither forward nor backward."""
    active = torch.zeros_like(planned[0].scale, dtype=torch.bool)
    for entry in planned:
        active |= entry.scale != 0
    return active


def micro_loss(
    planned: Sequence[PlannedTerm],
    row: Tensor,
    logp: Tensor,
    old_logp: Tensor,
    entropy: Tensor,
    reference_logp: Tensor | None,
) -> Tensor:
    """The part of the loss that a micro-batch's tokens carry (a scalar); parts add up to the whole.

    Args:
        planned: the terms of the update.
        row: row of each token, (n,).
        logp, old_logp, entropy, reference_logp: nats, each (n,); only ``logp`` and ``entropy`` carry gradients.
    """
    total = logp.new_zeros(())
    for entry in planned:
        scale = entry.scale.to(logp)[row]
        here = (scale != 0).nonzero().flatten()
        tokens = Tokens(
            logp=logp[here],
            old_logp=old_logp[here],
            coefficient=entry.coefficient.to(logp)[row[here]],
            entropy=entropy[here],
            reference_logp=None if reference_logp is None else reference_logp[here],
        )
        total = total + (scale[here] * entry.term.loss(tokens)).sum()
    return total


def clipped_tokens(planned: Sequence[PlannedTerm], row: Tensor, logp: Tensor, old_logp: Tensor) -> tuple[int, int]:
    """How many tokens of clipped terms have their gradient cut, and how many tokens such terms have."""
    clipped = total = 0
    for entry in planned:
        if entry.term.clip is None:
            continue
        low, high = entry.term.clip
        here = entry.scale.to(logp.device)[row] != 0
        coefficient = entry.coefficient.to(logp.device)[row]
        ratio = (logp - old_logp).exp()
        cut = ((coefficient > 0) & (ratio > 1 + high)) | ((coefficient < 0) & (ratio < 1 - low))
        clipped += int((cut & here).sum())
        total += int(here.sum())
    return clipped, total
