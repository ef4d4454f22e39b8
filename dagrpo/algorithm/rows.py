"""What the slots read: the rows of a step, tokens, sequences, and what the policy says of one group."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

Memory = dict[str, Any]
"""What a run remembers from step to step, as plain JSON values; it is sealed with every checkpoint."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one step as columns, each of shape (N,); rows of a group are adjacent.

    ``group`` counts the prompts from 0; ``anchor`` marks demonstrations; ``correct`` is the verifier's word, and
    ``answered`` whether it found an answer at all; ``length`` counts response tokens and ``budget`` those allowed
    (L_max); ``key`` identifies the row to :mod:`dagrpo.seeds` (int64 view of uint64).

    ``sampled_logp`` is the mean log-probability, and ``entropy`` the mean entropy, of the row's tokens when they were
    sampled (nats; the entropy of an anchor is NaN). ``domain`` numbers the families of the training problems and
    ``domain_share`` is the share of these problems that is in the row's own. ``past_accuracy`` is the share of right
    answers when the problem was met last, NaN where it was not, or where the recipe keeps no history. ``value`` is what
    a plan that searches found the row's branch to be worth, NaN where the plan says nothing, and ``visits`` counts how
    often it went there.

    ``score`` is the fine-grained score on the scale 1 to 10, NaN where missing or not asked for; ``distance`` is 1
    minus the similarity to the nearest row of the group's other side, inf where there is none or it is not asked for.
    ``reward``, ``advantage`` and ``weight`` are filled in by the slots of these names.
    """

    group: Tensor
    anchor: Tensor
    correct: Tensor
    answered: Tensor
    truncated: Tensor
    length: Tensor
    budget: Tensor
    key: Tensor
    sampled_logp: Tensor
    entropy: Tensor
    domain: Tensor
    domain_share: Tensor
    past_accuracy: Tensor
    value: Tensor
    visits: Tensor
    reward: Tensor
    score: Tensor
    distance: Tensor
    advantage: Tensor
    weight: Tensor


_INTEGER = ("group", "length", "budget", "key", "domain", "visits")
_FLAG = ("anchor", "correct", "answered", "truncated")
_NEUTRAL = {
    "answered": True,
    "length": 1,
    "budget": 1,
    "domain_share": 1.0,
    "entropy": float("nan"),
    "past_accuracy": float("nan"),
    "value": float("nan"),
    "visits": 1,
    "score": float("nan"),
    "distance": float("inf"),
    "weight": 1.0,
}


def rows_of(columns: Mapping[str, Sequence[Any] | Tensor], dtype: torch.dtype = torch.float32) -> Rows:
    """Make rows from the columns that are known; the others are neutral (zeros, NaN where unknown, weight 1).

    Args:
        columns: at least ``group``; sequences or tensors of one length N.
        dtype: of the columns that are neither counts nor flags.
    """
    count = len(columns["group"])

    def column(name: str) -> Tensor:
        kind = torch.int64 if name in _INTEGER else torch.bool if name in _FLAG else dtype
        if name in columns:
            return torch.as_tensor(columns[name]).to(kind)
        return torch.full((count,), _NEUTRAL.get(name, 0)).to(kind)

    assert not (unknown := columns.keys() - {field.name for field in fields(Rows)}), f"no column {unknown}"
    return Rows(**{field.name: column(field.name) for field in fields(Rows)})


def select(rows: Rows, index: Tensor) -> Rows:
    """The rows at ``index`` (places, or a bool for each row), in that order."""
    return Rows(**{field.name: getattr(rows, field.name)[index] for field in fields(Rows)})


@dataclass(frozen=True, slots=True)
class UpdateContext:
    """What a coefficient may depend on: all rows of the optimiser step, and the rollout step (from 0) of ``steps``."""

    rows: Rows
    step: int = 0
    steps: int = 1


@dataclass(frozen=True, slots=True)
class Tokens:
    """The response tokens of a micro-batch as columns, each of shape (n,), in nats.

    ``coefficient`` is the row's weight times advantage (or 1 for a likelihood term), repeated for its tokens and
    multiplied by their own weights. ``row`` numbers the responses, which are here whole. ``logp`` carries the gradient;
    ``entropy`` does where a term declares that it needs it.
    """

    logp: Tensor
    old_logp: Tensor
    coefficient: Tensor
    entropy: Tensor
    row: Tensor
    reference_logp: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Sequences:
    """The responses of a whole optimiser step, for losses that compare one with another.

    ``logp``, ``old_logp`` and ``reference_logp`` are sums over a row's tokens (nats), ``ratio`` is the mean over them
    of new to old probability, each (N,). ``logp`` and ``ratio`` carry the gradient. Rows that the term does not select
    hold zeros (a ratio of 1). ``memory`` may be read and written: a loss is called once for each optimiser step.
    """

    rows: Rows
    logp: Tensor
    ratio: Tensor
    old_logp: Tensor
    reference_logp: Tensor | None
    memory: Memory


@dataclass(frozen=True, slots=True)
class GroupPass:
    """What the policy says of one group's tokens before the update, without gradients.

    ``rows`` are the group's G rows. Columns over its n response tokens, row after row: ``row`` (0 to G - 1),
    ``position`` in the response, the ``token`` drawn, ``logps`` of the whole vocabulary (n, V), nats, and ``hidden``
    (n, width), the state that the output layer reads.
    """

    rows: Rows
    row: Tensor
    position: Tensor
    token: Tensor
    logps: Tensor
    hidden: Tensor
