"""Weights of single tokens, from what the policy says of a group before the update."""

from collections.abc import Sequence

import torch

from dagrpo.algorithm import GroupPass, Rows, select
from dagrpo.algorithm.slots import TokenWeightFn
from dagrpo.config import Train
from dagrpo.errors import UserError
from dagrpo.policy.checkpoint import Policy
from dagrpo.policy.logprobs import token_states
from dagrpo.policy.packing import PackedGroup, pack
from dagrpo.records import Group


@torch.no_grad()
def token_weights(
    policy: Policy,
    functions: Sequence[TokenWeightFn],
    groups: Sequence[Group],
    rows: Rows,
    active: Sequence[bool],
    train: Train,
) -> list[list[float]]:
    """The product of the slot's functions for every token of every row; 1 in groups without an active row.

    One group at a time goes through the policy, with the log-probabilities of its whole vocabulary: a group of n tokens
    holds n times the vocabulary numbers (fp32) while it is looked at.

    Raises:
        UserError: a function gave something else than a finite number for each token.
    """
    weights: list[list[float]] = []
    for group in groups:
        first, count = len(weights), len(group.rollouts)
        lengths = [len(rollout.tokens) for rollout in group.rollouts]
        if not any(active[first : first + count]) or not sum(lengths):
            weights += [[1.0] * length for length in lengths]
            continue
        seen = _group_pass(policy, group, select(rows, torch.arange(first, first + count)), train)
        product = torch.ones(len(seen.row))
        for number, function in enumerate(functions):
            value = function(seen)
            if value.shape != product.shape or not bool(value.isfinite().all()):
                raise UserError(
                    f"the slot `token_weight[{number}]` must give a finite number for each of the group's "
                    f"{len(product)} tokens, shape ({len(product)},); it gave shape {tuple(value.shape)}, or NaN"
                )
            product = product * value.float().cpu()
        weights += [part.tolist() for part in product.split(lengths)]
    return weights


def _group_pass(policy: Policy, group: Group, rows: Rows, train: Train) -> GroupPass:
    filled = [i for i, rollout in enumerate(group.rollouts) if rollout.tokens]
    packed = PackedGroup(group.prompt_tokens, [group.rollouts[i].tokens for i in filled], filled)
    parts = [token_states(policy.model, micro, train.temperature) for micro in pack([packed], train.micro_tokens)]
    row, token, hidden, logps = (torch.cat(column) for column in zip(*parts, strict=True))
    order = row.argsort(stable=True)
    row = row[order]
    position = torch.cat([torch.arange(int(count)) for count in row.bincount(minlength=len(group.rollouts))])
    return GroupPass(rows, row, position.to(row), token[order], logps[order], hidden[order])
