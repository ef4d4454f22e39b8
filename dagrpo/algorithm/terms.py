"""The summands of a loss: of tokens, each by itself or with its row, and of whole sequences that are compared."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from dagrpo.algorithm.rows import Rows, Sequences, Tokens, UpdateContext
from dagrpo.objectives import token_losses
from dagrpo.objectives.aggregation import Aggregate
from dagrpo.objectives.groups import group_differs

RowFlags = Callable[[Rows], Tensor]
"""Which rows: bool, (N,)."""


@dataclass(frozen=True, slots=True)
class Term:
    """One summand of the loss: a sum over tokens of selected rows, divided by a count over the whole step.

    ``loss`` gives a loss for each token, (n,). ``rows`` selects by source, or by any column; ``count`` says which rows
    enter the denominator. ``weighted`` terms multiply each row by weight x advantage, and rows where that is zero cost
    nothing; the others are plain likelihood terms. ``coefficient`` is a number, or one that depends on the moment, for
    all rows or for each of them, (N,). ``clipped`` flags the tokens, (n,), that its clip or cap holds back; the metric
    `clip_share` counts them.
    """

    loss: Callable[[Tokens], Tensor]
    rows: Literal["policy", "anchor", "all"] | RowFlags = "all"
    count: Literal["selected", "all"] = "selected"
    aggregate: Aggregate = "constant"
    weighted: bool = True
    coefficient: float | Callable[[UpdateContext], float | Tensor] = 1.0
    clipped: Callable[[Tokens], Tensor] | None = None
    needs_reference: bool = False
    needs_entropy: bool = False


@dataclass(frozen=True, slots=True)
class SequenceTerm:
    """One summand of the loss that compares responses with each other, such as pairs.

    ``loss`` gives one number; its means, and so its denominators, are its own. It must not depend on rows that are not
    selected. No weight or advantage enters unless the loss reads it.
    """

    loss: Callable[[Sequences], Tensor]
    rows: RowFlags
    coefficient: float | Callable[[UpdateContext], float] = 1.0
    needs_reference: bool = False


def contrasted(rows: Rows) -> Tensor:
    """Rollouts with tokens in groups where such rollouts differ in reward: bool, (N,); only these can be compared."""
    return group_differs(rows.reward, rows.group, ~rows.anchor & (rows.length > 0))


def margins(sequences: Sequences, pairs: Tensor, per_token: bool = False) -> Tensor:
    """How much further the policy has come from the reference model for the first of each pair than for the second.

    Args:
        pairs: places of rows, (2, P).
        per_token: divide each row's log-ratio by its length.

    Returns:
        Nats, (P,).
    """
    assert sequences.reference_logp is not None, "the term must declare that it needs the reference model"
    moved = sequences.logp - sequences.reference_logp
    moved = moved / sequences.rows.length.clamp(min=1).to(moved) if per_token else moved
    return moved[pairs[0]] - moved[pairs[1]]


def policy_gradient(
    clip: tuple[float, float] | None = None, level: Literal["token", "sequence"] = "token", **where: Any
) -> Term:
    """A term in the ratio of new to old policy, clipped to [1 - clip[0], 1 + clip[1]] where ``clip`` is given.

    The ratio is each token's own, or the geometric mean over its row's
    (:func:`dagrpo.objectives.token_losses.sequence_log_ratio`).
    """

    def columns(tokens: Tokens) -> tuple[Tensor, Tensor, Tensor]:
        if level == "token":
            return tokens.logp, tokens.old_logp, tokens.coefficient
        log_ratio = token_losses.sequence_log_ratio(tokens.logp, tokens.old_logp, tokens.row)
        return log_ratio, torch.zeros_like(log_ratio), tokens.coefficient

    if clip is None:
        return Term(lambda tokens: token_losses.ratio(*columns(tokens)), **where)
    return Term(
        lambda tokens: token_losses.ppo_clip(*columns(tokens), *clip),
        clipped=lambda tokens: token_losses.out_of_bounds(*columns(tokens), *clip),
        **where,
    )


def capped_weight(high: float, **where: Any) -> Term:
    """The log-likelihood, weighted by the ratio up to 1 + high; see :func:`dagrpo.objectives.token_losses`."""
    return Term(
        lambda tokens: token_losses.capped_weight(tokens.logp, tokens.old_logp, tokens.coefficient, high),
        clipped=lambda tokens: (tokens.coefficient != 0) & (tokens.logp - tokens.old_logp > math.log1p(high)),
        **where,
    )


def shaped(gamma: float, **where: Any) -> Term:
    """LUFFY's off-policy term in pi / (pi + gamma); see :func:`dagrpo.objectives.token_losses.shaped`."""
    return Term(lambda tokens: token_losses.shaped(tokens.logp, tokens.coefficient, gamma), **where)


def weighted_likelihood(**where: Any) -> Term:
    """Weight times advantage on the log-likelihood; see :func:`dagrpo.objectives.token_losses.log_likelihood`."""
    return Term(lambda tokens: token_losses.log_likelihood(tokens.logp, tokens.coefficient), **where)


def entropy_bonus(coefficient: float, **where: Any) -> Term:
    """Minus the entropy (nats) of the policy at each token, averaged over all tokens of the selected rows."""
    return Term(
        lambda tokens: -tokens.entropy,
        aggregate="token",
        weighted=False,
        coefficient=coefficient,
        needs_entropy=True,
        **where,
    )


def likelihood(**where: Any) -> Term:
    """Negative log-likelihood of the selected rows, averaged over all their tokens (the global token mean)."""
    return Term(lambda tokens: -tokens.logp, aggregate="token", weighted=False, **where)


def kl_to_reference(beta: float | Callable[[UpdateContext], float | Tensor], **where: Any) -> Term:
    """The k3 estimate of the divergence from the reference model (the initial policy), times ``beta``."""

    def loss(tokens: Tokens) -> Tensor:
        assert tokens.reference_logp is not None
        return token_losses.k3(tokens.logp, tokens.reference_logp)

    return Term(loss, weighted=False, coefficient=beta, needs_reference=True, **where)
